"""Laws of the transformer: silent at the start, exact patches, position, samples apart, every slot heard."""

import pytest
import torch
from torch import nn

from sfumato.core.condition import NOTHING, Condition
from sfumato.nets import dit
from sfumato.nets.compute import Compute, compile_blocks, twice_differentiable
from sfumato.nets.dit import DiT, TransformerBlock, patchify, positions, unpatchify

SLOTS = {"classes": 3, "vector_dim": 5, "concat_channels": 2, "token_dim": 6}
SPACES = [(8, 8), (7, 5), (12,), (4, 6, 5)]


def small(space, **options) -> DiT:
    return DiT(2, len(space), **{"width": 24, "depth": 2, "head_dim": 8, "patch": 2} | options)


def awake(net: nn.Module) -> nn.Module:
    """The network with every parameter perturbed, as after some training; float64."""
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=generator)
    return net.double().eval()


def full(space, **options) -> nn.Module:
    return awake(small(space, **SLOTS, **options))


def points(batch: int, space, seed: int = 1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn((batch, 2, *space), generator=g, dtype=torch.float64)
    return x, torch.linspace(-1.6, 1.1, batch, dtype=torch.float64)


def everything(batch: int, space, seed: int = 0) -> Condition:
    g = torch.Generator().manual_seed(seed)
    vector, concat, tokens = (
        torch.randn(batch, *shape, generator=g, dtype=torch.float64) for shape in ((5,), (2, *space), (4, 6))
    )
    return Condition(torch.randint(0, 3, (batch,), generator=g), vector, concat, tokens)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_go_and_come_back_to_the_bit(space, patch):
    x, _ = points(2, space)
    tokens, grid = patchify(x, patch)
    assert tokens.shape == (2, torch.tensor(grid).prod(), 2 * patch ** len(space))
    back = unpatchify(tokens, patch, grid)
    inside = (slice(None), slice(None), *(slice(n) for n in space))
    assert torch.equal(back[inside], x)
    assert torch.equal(patchify(back, patch)[0], tokens)


def test_a_token_is_one_patch_of_the_image():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    tokens, grid = patchify(x, 4)
    assert grid == (2, 2)
    assert torch.equal(tokens[0, 1].reshape(4, 4), x[0, 0, :4, 4:])


@pytest.mark.parametrize("space", SPACES)
def test_a_new_network_answers_zero_and_its_blocks_are_the_identity(space):
    net = small(space, **SLOTS)
    x, c = points(3, space)
    cond = everything(3, space).map(lambda v: v.float() if v.is_floating_point() else v)
    assert torch.all(net(x.float(), c.float(), cond) == 0)
    h = torch.randn(3, 5, 24)
    modulation = net.modulation(net.embedding(c.float(), cond)).unsqueeze(1)
    assert torch.all(modulation == 0)
    assert torch.equal(net.blocks[0](h, modulation[..., : 6 * 24], cond.tokens), h)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("patch", [1, 2])
def test_any_size_comes_back_and_channels_are_as_asked(space, patch):
    x, c = points(2, space)
    y = awake(small(space, patch=patch, out_channels=3))(x, c)
    assert y.shape == (2, 3, *space) and y.dtype == x.dtype and y.isfinite().all()


@pytest.mark.parametrize("space", SPACES)
def test_samples_of_a_batch_do_not_meet(space):
    net, (x, c), cond = full(space), points(4, space), everything(4, space)
    order = torch.tensor([2, 0, 3, 1])
    together = net(x, c, cond)
    torch.testing.assert_close(net(x[order], c[order], cond.map(lambda v: v[order])), together[order])
    torch.testing.assert_close(net(x[2:3], c[2:3], cond.map(lambda v: v[2:3])), together[2:3])
    torch.testing.assert_close(net(x, c[:1]), net(x, c[:1].expand(4)))


def test_a_dropped_condition_is_the_null_condition_whatever_it_holds():
    net, (x, c), cond = full((8, 8)), points(4, (8, 8)), everything(4, (8, 8))
    keep = torch.tensor([True, False, True, False])
    spoilt = Condition(cond.label, cond.vector * torch.nan, cond.concat * torch.nan, cond.tokens * torch.nan)
    torch.testing.assert_close(net(x, c, cond.drop(keep))[keep], net(x, c, cond)[keep])
    torch.testing.assert_close(net(x, c, spoilt.drop(keep))[~keep], net(x, c, NOTHING)[~keep])


def without_position(monkeypatch):
    monkeypatch.setattr(dit, "positions", lambda grid, width, dtype, device: torch.zeros((), dtype=dtype))


def test_only_position_tells_patches_apart(monkeypatch):
    """Without it, moving whole patches moves the answer; with it, the answer changes."""
    net, (x, c) = awake(small((8, 8))), points(2, (8, 8))

    def moved(v):
        return v.roll((2, 4), dims=(2, 3))

    assert not torch.allclose(net(moved(x), c), moved(net(x, c)), atol=1e-3)
    without_position(monkeypatch)
    torch.testing.assert_close(net(moved(x), c), moved(net(x, c)))


@pytest.mark.parametrize("grid", [(9,), (4, 5), (3, 4, 2)])
def test_positions_are_apart_and_their_products_know_the_difference_only(grid):
    table = positions(grid, 48, torch.float64, torch.device("cpu"))[0]
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(len(table), -1)
    gram = table @ table.T
    by_difference = {}
    for i in range(len(table)):
        for j in range(len(table)):
            key = tuple((places[i] - places[j]).tolist())
            by_difference.setdefault(key, []).append(gram[i, j])
            assert i == j or gram[i, j] < gram[i, i] - 1e-3
    assert all(max(v) - min(v) < 1e-10 for v in by_difference.values())


def test_positions_made_while_sampling_serve_training():
    positions.cache_clear()
    net, (x, c) = small((8, 8)), points(2, (8, 8))
    with torch.inference_mode():
        net(x.float(), c.float())
    net(x.float(), c.float()).sum().backward()
    assert net.last.bias.grad.any()


@pytest.mark.parametrize("slot", ["label", "vector", "concat", "tokens"])
def test_every_slot_is_silent_at_the_start_and_heard_after_two_steps(slot):
    """Of the two zeros in a row (gates, then the last map) the second must move before the first can."""
    torch.manual_seed(0)
    space = (8, 8)
    net, (x, c) = small(space, **SLOTS).double(), points(4, space)
    cond = Condition(**{slot: getattr(everything(4, space), slot)})
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def difference():
        with torch.no_grad():
            return (net(x, c, cond) - net(x, c)).abs().max().item()

    assert difference() == 0
    for _ in range(2):
        optimizer.zero_grad()
        (net(x, c, cond) - x).square().sum().backward()
        optimizer.step()
    assert difference() > 1e-9


def test_gradients_reach_every_parameter():
    net, (x, c) = full((8, 8)).train(), points(4, (8, 8))
    net(x, c, everything(4, (8, 8)).drop(torch.tensor([True, True, False, True]))).square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bfloat16_products_keep_the_residual_stream_and_the_answer():
    net, (x, c) = awake(small((8, 8), width=32)).float(), points(2, (8, 8))
    seen = []
    net.blocks[1].register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    exact = net(x.float(), c.float())
    with Compute(torch.bfloat16).context(torch.device("cpu")):
        rough = net(x.float(), c.float())
    assert seen == [torch.float32] * 2 and rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.03 * exact.norm()


def test_second_derivatives_are_those_of_differences():
    net, (x, c) = awake(small((4, 4))), points(1, (4, 4))
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)

    def gradient(at):
        return torch.autograd.grad(net(at, c).square().sum(), at, create_graph=True)[0]

    with twice_differentiable(net):
        x.requires_grad_()
        exact = torch.autograd.grad(gradient(x), x, v)[0]
        ahead, behind = (gradient((x + s * v).detach().requires_grad_()) for s in (1e-5, -1e-5))
    torch.testing.assert_close(exact, (ahead - behind).detach() / 2e-5, rtol=1e-5, atol=1e-6)


def test_blocks_of_a_transformer_can_be_compiled_and_undone(monkeypatch):
    net, asked = small((8, 8)), []
    monkeypatch.setattr(TransformerBlock, "compile", lambda self, **how: asked.append(self))
    compile_blocks(net)
    assert asked == list(net.blocks)


def test_dropout_acts_in_training_only():
    net, (x, c) = awake(small((8, 8), dropout=0.5)), points(2, (8, 8))
    torch.testing.assert_close(net(x, c), net(x, c))
    net.train()
    assert not torch.allclose(net(x, c), net(x, c))


def test_what_cannot_be_is_refused():
    x, c = points(2, (8, 8))
    for slot in SLOTS:
        name = {"classes": "label", "vector_dim": "vector"}.get(
            slot, slot.split("_")[0].replace("token", "tokens")
        )
        with pytest.raises(ValueError, match=f"slot '{name}'"):
            small((8, 8)).double()(x, c, Condition(**{name: getattr(everything(2, (8, 8)), name)}))
    with pytest.raises(ValueError, match="no skip connections"):
        small((8, 8)).double()(x, c, Condition(residuals=(x,)))
    with pytest.raises(ValueError, match="1, 2 and 3 spatial"):
        DiT(1, 4)
    with pytest.raises(ValueError, match="patch and a depth"):
        DiT(1, 2, patch=0)
    with pytest.raises(ValueError, match="no room for the position"):
        positions((2, 2, 2), 4, torch.float32, torch.device("cpu"))
    with pytest.raises(ValueError, match="dropout lies"):
        TransformerBlock(8, 8, 8, dropout=1.0)


def test_it_learns_the_best_linear_denoiser():
    """x ~ N(0, 1), y = x + sigma eps: E[x given y] = y / (1 + sigma^2), at a level told by c_noise."""
    torch.manual_seed(0)
    net = small((8, 8), width=48)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    history = []
    for _ in range(150):
        x, log_sigma = torch.randn(64, 2, 8, 8), torch.randn(64)
        s = log_sigma.exp().view(-1, 1, 1, 1)
        y, scale = x + s * torch.randn_like(x), (1 + s.square()).sqrt()
        loss = (net(y / scale, log_sigma / 4) - y / scale**2).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.05 * history[0]
