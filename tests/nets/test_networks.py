"""Laws every network obeys: silence at the start, samples apart, nulls, sizes, and gradients everywhere."""

import pytest
import torch
from torch import nn

from sfumato.core.condition import NOTHING, Condition
from sfumato.nets.critic import Classifier
from sfumato.nets.plain import ConvDecoder, ConvEncoder, MlpDecoder, MlpEncoder, MlpNet, halvings
from sfumato.nets.unet import UNet

SLOTS = {"classes": 3, "vector_dim": 5, "concat_channels": 2}
SPACES = [(8, 8), (7, 5), (1, 16), (12,), (4, 6, 5)]


def awake(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network with its zeroed and constant parameters perturbed, as after some training; float64."""
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return net.double().eval()


def unet(space, **options) -> UNet:
    return UNet(2, len(space), width=8, multipliers=(1, 2, 2), blocks=1, **options)


def full_unet(space, **options) -> nn.Module:
    return awake(unet(space, attention=(1, 2), head_dim=4, token_dim=6, **SLOTS, **options))


def full_mlp(space=(), **options) -> nn.Module:
    return awake(MlpNet(2, width=16, depth=2, **SLOTS, **options))


def everything(batch: int, space, *, seed: int = 0, tokens: bool = True, present=None) -> Condition:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=g, dtype=torch.float64)

    return Condition(
        label=torch.randint(0, 3, (batch,), generator=g),
        vector=normal(batch, 5),
        concat=normal(batch, 2, *space),
        tokens=normal(batch, 4, 6) if tokens else None,
        present=present,
    )


def points(batch: int, space, seed: int = 1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, 2, *space), generator=g, dtype=torch.float64)
    return x, torch.linspace(-20, 20, batch, dtype=torch.float64)


CASES = [pytest.param(full_unet, s, id=f"unet{s}") for s in SPACES] + [pytest.param(full_mlp, (), id="mlp")]


@pytest.mark.parametrize("space", [*SPACES, (28, 28)])
def test_a_new_unet_answers_zero(space):
    x, c = points(2, space)
    assert torch.all(unet(space)(x.float(), c.float()) == 0)


def test_a_new_mlp_answers_zero():
    x, c = points(4, ())
    assert torch.all(MlpNet(2)(x.float(), c.float()) == 0)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("patch", [1, 2])
def test_any_size_comes_back_and_channels_are_as_asked(space, patch):
    net = awake(unet(space, patch=patch, out_channels=3))
    x, c = points(2, space)
    y = net(x, c)
    assert y.shape == (2, 3, *space) and y.dtype == x.dtype and y.isfinite().all()


@pytest.mark.parametrize(("make", "space"), CASES)
def test_samples_of_a_batch_do_not_meet(make, space):
    """Permuting the batch permutes the answer, and a sample alone gets the answer it gets in company."""
    net, (x, c) = make(space), points(4, space)
    cond = everything(4, space, tokens=make is full_unet)
    order = torch.tensor([2, 0, 3, 1])
    together = net(x, c, cond)
    torch.testing.assert_close(net(x[order], c[order], cond.map(lambda v: v[order])), together[order])
    alone = net(x[2:3], c[2:3], cond.map(lambda v: v[2:3]))
    torch.testing.assert_close(alone, together[2:3])


@pytest.mark.parametrize(("make", "space"), CASES)
def test_one_level_for_a_whole_batch_may_be_given_once(make, space):
    net, (x, c) = make(space), points(3, space)
    torch.testing.assert_close(net(x, c[:1]), net(x, c[:1].expand(3)))


@pytest.mark.parametrize(("make", "space"), CASES)
def test_a_dropped_condition_is_the_null_condition_whatever_it_holds(make, space):
    net, (x, c) = make(space), points(4, space)
    tokens = make is full_unet
    keep = torch.tensor([True, False, True, False])
    cond = everything(4, space, tokens=tokens)
    mixed, kept, null = net(x, c, cond.drop(keep)), net(x, c, cond), net(x, c, NOTHING)
    torch.testing.assert_close(mixed[keep], kept[keep])
    torch.testing.assert_close(mixed[~keep], null[~keep])
    other = everything(4, space, tokens=tokens, seed=7)
    spoilt = Condition(other.label, other.vector * torch.nan, other.concat * torch.nan, other.tokens)
    torch.testing.assert_close(net(x, c, spoilt.drop(torch.zeros(4, dtype=torch.bool))), null)


@pytest.mark.parametrize(
    ("make", "space", "slot"),
    [(full_unet, (8, 8), s) for s in ("label", "vector", "concat", "tokens")]
    + [(full_mlp, (), s) for s in ("label", "vector", "concat")],
)
def test_every_slot_matters_by_itself(make, space, slot):
    net, (x, c) = make(space), points(2, space)
    one = Condition(**{slot: getattr(everything(2, space), slot)})
    two = Condition(**{slot: getattr(everything(2, space, seed=9), slot)})
    null = net(x, c)
    assert not torch.allclose(net(x, c, one), null) and not torch.allclose(net(x, c, two), net(x, c, one))


@pytest.mark.parametrize(("make", "space"), CASES)
def test_the_noise_level_matters_over_both_ranges_in_use(make, space):
    net, (x, _) = make(space), points(1, space)
    for low, high in [(-20.0, 20.0), (-1.6, 1.1)]:
        answers = [net(x, torch.tensor([c], dtype=x.dtype)) for c in torch.linspace(low, high, 9).tolist()]
        distances = [(a - b).abs().max() for i, a in enumerate(answers) for b in answers[:i]]
        assert min(distances) > 1e-5


def test_residuals_are_added_to_the_skips_of_present_samples_only():
    net, (x, c) = full_unet((8, 8)), points(2, (8, 8))
    zero = tuple(torch.zeros(2, w, n, n, dtype=x.dtype) for w, n in [(8, 8), (16, 4), (16, 2)])
    ones = tuple(z + 1 for z in zero)
    plain = net(x, c)
    torch.testing.assert_close(net(x, c, Condition(residuals=zero)), plain)
    mixed = net(x, c, Condition(residuals=ones, present=torch.tensor([False, True])))
    torch.testing.assert_close(mixed[0], plain[0])
    assert not torch.allclose(mixed[1], plain[1])
    for i in range(3):  # each of the three levels listens
        one = tuple(o if i == k else z for k, (o, z) in enumerate(zip(ones, zero, strict=True)))
        assert not torch.allclose(net(x, c, Condition(residuals=one)), plain)
    with pytest.raises(ValueError, match="2 residuals for a network of 3 levels"):
        net(x, c, Condition(residuals=zero[:2]))


@pytest.mark.parametrize("make", [unet, lambda space: MlpNet(2)])
def test_a_condition_without_a_slot_for_it_is_refused(make):
    space = (8, 8) if make is unet else ()
    x, c = points(2, space)
    cond = everything(2, space)
    for slot in ("label", "vector", "concat", "tokens"):
        with pytest.raises(ValueError, match=f"slot '{slot}'"):
            make(space)(x, c, Condition(**{slot: getattr(cond, slot)}))


def test_impossible_networks_are_refused_at_construction():
    with pytest.raises(ValueError, match="attention at levels"):
        UNet(1, 2, attention=(3,))
    with pytest.raises(ValueError, match="tokens enter by attention"):
        UNet(1, 2, token_dim=4)
    with pytest.raises(ValueError, match="1, 2 and 3 spatial dimensions"):
        UNet(1, 4)
    with pytest.raises(ValueError, match=r"shape .* where .* fits"):
        full_mlp()(*points(2, ()), Condition(concat=torch.zeros(2, 3, dtype=torch.float64)))


@pytest.mark.parametrize(("make", "space"), CASES)
def test_gradients_reach_every_parameter(make, space):
    net, (x, c) = make(space).train(), points(4, space)
    cond = everything(4, space, tokens=make is full_unet, present=torch.tensor([True, True, False, True]))
    net(x, c, cond).square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_dropout_acts_in_training_only():
    net, (x, c) = full_unet((8, 8), dropout=0.5), points(2, (8, 8))
    torch.testing.assert_close(net(x, c), net(x, c))
    net.train()
    assert not torch.allclose(net(x, c), net(x, c))


@pytest.mark.parametrize("space", [(8, 8), (28, 28), (7, 5), (1, 64), (30,), (5, 6, 7), (1, 1)])
@pytest.mark.parametrize(("encode", "decode"), [(ConvEncoder, ConvDecoder), (MlpEncoder, MlpDecoder)])
def test_encoder_and_decoder_take_any_size_keep_samples_apart_and_learn(encode, decode, space):
    encoder, decoder = awake(encode(2, space, 6, width=8)), awake(decode(3, 2, space, width=8))
    x, _ = points(3, space)
    z = encoder(x)
    y = decoder(z[:, :3])
    assert z.shape == (3, 6) and y.shape == x.shape
    torch.testing.assert_close(encoder(x[1:2]), z[1:2])
    torch.testing.assert_close(decoder(z[1:2, :3]), y[1:2])
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for m in (encoder, decoder) for p in m.parameters()) or (
        space == (1, 1)  # a 3x3 kernel on one position sees padding only: its border has no gradient
    )


@pytest.mark.parametrize(
    ("space", "last"), [((28, 28), (4, 4)), ((8, 8), (4, 4)), ((4, 4), (2, 2)), ((7, 5), (4, 3))]
)
def test_encoders_halve_rounding_up_until_four_positions_remain(space, last):
    assert halvings(space)[-1] == last
    for a, b in zip(halvings(space), halvings(space)[1:], strict=False):
        assert b == tuple((n + 1) // 2 for n in a)


@pytest.mark.parametrize("space", [(8, 8), (28, 28), (64, 64), (5, 9)])
@pytest.mark.parametrize("noisy", [False, True])
def test_classifier_features_are_bounded_and_samples_apart(space, noisy):
    net = awake(Classifier(2, space, 5, width=8, noisy=noisy))
    x, c = points(3, space)
    level = (c,) if noisy else ()
    features = net.features(x, *level)
    assert features.shape == (3, 64) and features.abs().max() < 1
    torch.testing.assert_close(net(x, *level), net.last(features))
    torch.testing.assert_close(net(x[1:2], *(v[1:2] for v in level)), net(x, *level)[1:2])
    net(x, *level).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    with pytest.raises(ValueError, match="noisy=True"):
        net(x, *(() if noisy else (c,)))


def fit(parameters, loss, steps=150, rate=5e-3):
    """The first and the last loss of a short training."""
    optimizer = torch.optim.Adam(parameters, rate)
    history = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append(value.item())
    return history[0], history[-1]


@pytest.mark.parametrize(("make", "space"), [(unet, (8, 8)), (unet, (12,)), (unet, (4, 4, 4)), (None, ())])
def test_denoising_networks_learn_the_best_linear_denoiser(make, space):
    """x ~ N(0, 1), y = x + sigma eps: E[x given y] = y / (1 + sigma^2), at a level told by c_noise."""
    net = MlpNet(2, width=64, depth=2) if make is None else make(space)

    def loss():
        x, log_sigma = torch.randn(64, 2, *space), torch.randn(64)
        s = log_sigma.exp().reshape(-1, *[1] * (x.ndim - 1))
        y = x + s * torch.randn_like(x)
        scale = (1 + s.square()).sqrt()
        # target in units of its own size; the error left is that of the network, not of the noise
        return (net(y / scale, log_sigma / 4) - y / scale**2).square().mean()

    first, last = fit(net.parameters(), loss)
    assert last < 0.05 * first


@pytest.mark.parametrize("space", [(9, 8), (20,)])
def test_an_autoencoder_reconstructs_what_its_code_can_hold(space):
    """Data on a two-dimensional surface pass a code of two numbers."""
    encoder, decoder = ConvEncoder(1, space, 2, width=16), ConvDecoder(2, 1, space, width=16)
    basis = torch.randn(2, 1, *space) / 2

    def loss():
        x = torch.einsum("bk,k...->b...", torch.randn(64, 2), basis)
        return (decoder(encoder(x)) - x).square().mean()

    first, last = fit([*encoder.parameters(), *decoder.parameters()], loss)
    assert last < 0.15 * first


def test_a_classifier_learns_classes_that_differ():
    net = Classifier(1, (8, 8), 3, width=8)
    prototypes = torch.randn(3, 1, 8, 8)

    def loss():
        label = torch.randint(0, 3, (64,))
        return nn.functional.cross_entropy(net(prototypes[label] + torch.randn(64, 1, 8, 8)), label)

    assert fit(net.parameters(), loss, steps=60)[1] < 0.1
