"""Laws of densities over codes and of the codec they belong to."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from sfumato.app.paths import ends_of, path
from sfumato.core.condition import Condition
from sfumato.core.errors import DataError, UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.models.autoregressive import Autoregressive, CodesAbove
from sfumato.models.codec import Pixels
from sfumato.models.conditioner import ClassLabel
from sfumato.models.density import Plan
from sfumato.models.generator import Generator
from sfumato.models.given import Given, seeds_of
from sfumato.models.vqvae import CodeLevel, VqVae
from sfumato.nets.pixelcnn import PixelCnn
from sfumato.nets.quantize import ScalarQuantizer, VectorQuantizer
from sfumato.nets.spatial import SpatialDecoder, SpatialEncoder
from sfumato.nets.transformer import CausalTransformer
from sfumato.objectives.likelihood import CodeLikelihood
from sfumato.objectives.quantized import Quantized

SPACE = (8, 6)


def stirred(module, seed=0, std=0.15):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(std * torch.randn(p.shape, generator=g))
    return module.eval()


def codec(levels=2, quantizer=lambda: VectorQuantizer(6, 4), space=SPACE):
    parts = [
        CodeLevel(
            SpatialEncoder(16 if k else 1, len(space), width=16, halvings=1),
            quantizer(),
            len(space),
            k < levels - 1,
        )
        for k in range(levels)
    ]
    return stirred(VqVae(parts, SpatialDecoder(1, space, width=16, halvings=1), space))


def generator(levels=2, classes=0, net=CausalTransformer):
    vq = codec(levels)
    labels = ClassLabel(classes) if classes else None
    sizes = [(q.size, grid) for q, grid in zip(vq.quantizers, vq.grids, strict=True)]
    prior = None
    for k, (size, grid) in enumerate(sizes):
        density = Autoregressive(net(size, grid, sizes[:k], classes=classes, width=32, depth=2))
        above = labels if prior is None else CodesAbove(prior)
        prior = Generator(vq if k == levels - 1 else Pixels(), density, above)
    return stirred(prior, 3)


def images(n=5, seed=0, space=SPACE):
    return torch.rand((n, 1, *space), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("net", [CausalTransformer, PixelCnn])
def test_probabilities_of_all_codes_sum_to_one(net):
    density = Autoregressive(stirred(net(3, (2, 2), ((2, (1, 1)),), width=16, depth=2)))
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for above in (0, 1):
        codes = torch.cat([torch.full((len(every), 1), above), every], 1)
        assert float(density.log_prob(codes).detach().exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("net", [CausalTransformer, PixelCnn])
def test_samples_have_the_probabilities_the_likelihood_says(net):
    torch.manual_seed(0)  # of the network, which `stirred` only adds to
    density = Autoregressive(stirred(net(2, (1, 3), width=16, depth=2), std=0.4))
    every = torch.tensor(list(itertools.product(range(2), repeat=3)))
    expected = density.log_prob(every).detach().exp()
    n = 4000
    drawn = density.draw(n, Plan(), noise=Noise([7], rows=n))
    counts = (drawn @ torch.tensor([4, 2, 1])).bincount(minlength=8) / n
    spread = (expected * (1 - expected) / n).sqrt()
    assert ((counts - expected).abs() < 5 * spread).all()


def test_a_temperature_of_zero_draws_the_likeliest_code_of_each_step():
    density = Autoregressive(stirred(CausalTransformer(4, (3,), width=16, depth=1)))
    one, two = (density.draw(2, Plan(latent_temperature=0.0), noise=Noise([s], rows=2)) for s in (0, 1))
    assert torch.equal(one, two)
    logits = density.net(one, one[:, :0])
    assert torch.equal(logits.argmax(-1), one)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_a_sample_depends_on_its_seed_and_not_on_its_batch(levels, classes):
    model, seeds = generator(levels, classes), seeds_of(0, 21)
    given = Given(label=torch.arange(21) % 3) if classes else None
    whole = model.sample(21, given=given, seeds=seeds)
    assert torch.equal(whole, model.sample(21, given=given, seeds=seeds, batch=5))
    for k in (0, 20):
        alone = model.sample(1, given=given and given.take(torch.tensor([k])), seeds=[seeds[k]])
        assert torch.equal(alone[0], whole[k])
    assert len(whole.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_any_first_part_of_a_code_is_kept_and_continued(levels):
    model, seeds = generator(levels), seeds_of(1, 4)
    codes = model.codec.encode(images(4))
    again = model.sample(4, given=Given(codes=codes), seeds=seeds)
    torch.testing.assert_close(again, model.codec.decode(codes))  # in blocks of another size
    density, plan = model.density, Plan()
    above = density.net.known
    for n in (above, above + 1, density.end - 1):
        more = density.sample(codes[:, :n], plan, noise=Noise(seeds))
        assert more.shape == codes.shape and torch.equal(more[:, :n], codes[:, :n])
    if levels > 1:
        with pytest.raises(ValueError, match="codes above"):
            density.sample(codes[:, : above - 1], plan, noise=Noise(seeds))


def test_levels_draw_from_streams_of_their_own():
    """Where the prior is uniform, equal streams would make the levels' codes equal."""
    model = generator(3)
    for m in model.modules():
        if isinstance(m, CausalTransformer):
            torch.nn.init.zeros_(m.last.weight)
            torch.nn.init.zeros_(m.last.bias)
    seeds = seeds_of(0, 1)
    given = model.draw(seeds)
    a, b, _ = model.codec.lengths
    assert given.codes.shape == (1, a + b)
    assert not torch.equal(given.codes[0, :a], given.codes[0, a : 2 * a])


def test_the_class_changes_the_sample():
    model = generator(2, 3)
    one, two = (model.sample(6, given=Given(label=torch.tensor([k])), seeds=seeds_of(0, 6)) for k in (0, 2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("space", [(8, 6), (7, 5), (11,), (4, 6, 5)])
@pytest.mark.parametrize("levels", [1, 2])
def test_encoding_decodes_to_what_was_read(space, levels):
    model, x = codec(levels, space=space), images(3, space=space)
    reading, codes = model.read(x), model.encode(x)
    assert codes.shape == (3, sum(model.lengths)) and codes.dtype == torch.int64
    assert torch.equal(codes, torch.cat([c.codes.flatten(1) for c in reading.levels], 1))
    torch.testing.assert_close(model.decode(codes), reading.decoded.clamp(-1, 1))


def test_the_levels_above_reach_every_code_below():
    """A level quantises what those above leave open: other codes above mean other vectors below."""
    model, x = codec(2), images(2)
    level, features = model.levels[0], model._features(x)
    states = [model.levels[1].hand_down(s * torch.ones(2, 4, 2, 2), None) for s in (0.0, 1.0)]
    one, two = (level.project(features[1], s) for s in states)
    assert ((one - two).abs().amax(1) > 0).all()


def test_the_codebooks_start_from_the_images_level_by_level():
    model = codec(2)
    model.fit(images(40), seed=5)
    for quantizer in model.quantizers:
        assert quantizer.sizes.sum() == pytest.approx(quantizer.size, rel=1e-5)
    before = [q.codebook.detach().clone() for q in model.quantizers]
    used = [len(part.unique()) for part in model.encode(images(40)).split(model.lengths, 1)]
    assert used == [6, 6]
    model.fit(images(40), seed=5)
    assert all(torch.equal(q.codebook, b) for q, b in zip(model.quantizers, before, strict=True))
    with pytest.raises(DataError, match="6 codes cannot start from 4 vectors"):
        codec(2).fit(images(1))


@pytest.mark.parametrize("quantizer", [lambda: VectorQuantizer(6, 4), lambda: ScalarQuantizer((3, 4, 2))])
def test_the_way_between_codes_is_quantised_and_its_ends_are_theirs(quantizer):
    vq = codec(3, quantizer)
    for q in vq.quantizers:
        every = torch.arange(q.size)[None]
        assert torch.equal(q.nearest(q.lookup(every)), every)
    a, b = vq.encode(images(2)), vq.encode(images(2, seed=9))
    here, there = vq.embed(a), vq.embed(b)
    assert torch.equal(vq.nearest(here), a) and torch.equal(vq.nearest(there), b)
    for weight in (0.25, 0.5):  # no code lies nearer to the line than the one taken
        way = vq.nearest(torch.lerp(here, there, weight)).split(vq.lengths, 1)
        for q, taken, one, two in zip(
            vq.quantizers, way, a.split(vq.lengths, 1), b.split(vq.lengths, 1), strict=True
        ):
            line = (1 - weight) * q.lookup(one) + weight * q.lookup(two)
            gaps = (q.lookup(torch.arange(q.size)[None])[:, :, None] - line[..., None]).square().sum(1)
            mine = (q.lookup(taken) - line).square().sum(1)
            torch.testing.assert_close(mine, gaps.min(-1).values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quantizer", [lambda: VectorQuantizer(6, 4), lambda: ScalarQuantizer((3, 4, 2))])
def test_codes_along_a_straight_line_of_embeddings_never_turn_back(quantizer):
    """c(t) nearest to e + t v: both inequalities of nearness give (t - s) <e(c(t)) - e(c(s)), v> >= 0."""
    vq = codec(2, quantizer)
    e = vq.embed(vq.encode(images(1)))
    way = torch.randn(e.shape[1], generator=torch.Generator().manual_seed(3))
    steps = torch.linspace(-3.0, 3.0, 25)[:, None]
    along = vq.embed(vq.nearest(e + steps * way)) @ way
    assert (along.diff() >= -1e-4).all() and along[-1] > along[0]


@pytest.mark.parametrize(("levels", "classes"), [(1, 0), (2, 3)])
def test_a_path_leads_from_the_sample_of_one_seed_to_that_of_another(levels, classes):
    model = generator(levels, classes)
    ends = ends_of(model, model.plan, Given(), (4, 5))
    way = path(model, "codes", *ends, 3)
    given = Given(codes=way, label=None if ends[0].label is None else ends[0].label.expand(3))
    x = model.sample(3, given=given, seeds=seeds_of(4, 1) * 3)
    for k, seed in ((0, 4), (2, 5)):
        alone = model.sample(1, given=Given(label=ends[0].label), seeds=seeds_of(seed, 1))
        torch.testing.assert_close(x[k], alone[0])


def batch_of(n=8):
    return Batch(images(n), torch.arange(n) % 3, torch.arange(n))


def test_the_loss_is_its_formula():
    model, batch = codec(2, lambda: VectorQuantizer(6, 4, gamma=0.0)), batch_of()
    loss = Quantized(beta=0.5, variance=0.3)(model, batch, noise=Noise([0], rows=8), seen=0)
    reading = model.read(batch.x)
    error = ((reading.decoded - batch.x) ** 2).mean((1, 2, 3)) / 0.3
    gap = sum(c.commitment for c in reading.levels)
    torch.testing.assert_close(loss.total, error + 1.5 * gap)  # pull has the same value as the commitment
    torch.testing.assert_close(loss.terms["codebook"], gap)


def test_scalar_codes_train_by_reconstruction_alone():
    model = codec(1, lambda: ScalarQuantizer((3, 3, 2, 2))).train()
    objective = Quantized(epoch=8)
    loss = objective(model, batch_of(), noise=Noise([0], rows=8), seen=0)
    assert not loss.terms["commitment"].any()
    loss.total.mean().backward()
    assert model.levels[0].encoder.net[0].weight.grad.any()
    objective.after_step(model, 8)
    assert 0 < float(model.quantizers[0].usage()) < 1


def test_every_sum_of_a_step_is_offered_to_the_processes():
    model = codec(2).train()
    objective = Quantized()
    objective(model, batch_of(), noise=Noise([0], rows=8), seen=0)
    assert len(objective.sums(model)) == 8 and all(t.any() for t in objective.sums(model))
    objective.after_step(model, 8)
    assert not any(t.any() for t in objective.sums(model))


@pytest.mark.parametrize("above", [0, 1])
def test_the_likelihood_is_that_of_its_level(above):
    model, batch = generator(2), batch_of()
    terms = CodeLikelihood(above).judge(model, batch, noise=Noise([0], rows=8))
    codes = model.codec.encode(batch.x)
    density = model.conditioner.first.density if above else model.density
    torch.testing.assert_close(terms["loss"], -density.log_prob(codes))
    n = model.codec.lengths[0 if above else 1]
    torch.testing.assert_close(terms["bits_per_code"], terms["loss"] / (n * math.log(2)))


def test_a_uniform_prior_costs_log2_of_the_codes():
    model = generator(1)
    torch.nn.init.zeros_(model.density.net.last.weight)
    torch.nn.init.zeros_(model.density.net.last.bias)
    bits = CodeLikelihood().judge(model, batch_of(), noise=Noise([0], rows=8))["bits_per_code"]
    torch.testing.assert_close(bits, torch.full((8,), math.log2(6)))


def test_the_codec_gets_no_gradient_from_the_prior():
    model = generator(2, 3)
    CodeLikelihood()(model, batch_of(), noise=Noise([0], rows=8), seen=0).total.sum().backward()
    assert all(p.grad is None for p in model.codec.parameters())
    assert any(p.grad is not None for p in model.density.parameters())


def test_a_level_that_is_not_there_is_a_mistake():
    with pytest.raises(TypeError, match="not 2 levels"):
        CodeLikelihood(2).judge(generator(2), batch_of(), noise=Noise([0], rows=8))
    with pytest.raises(TypeError, match="drawn from codes"):
        CodesAbove(replace_density(generator(1)))


def replace_density(model):
    from small_models import vae_generator

    return vae_generator()


def test_images_become_their_codes_and_back():
    model, x = generator(2, 3), images(5)
    given = model.encode(x)
    assert given.names == {"codes"}
    again = model.reconstruct(x, seeds=seeds_of(0, 5))
    torch.testing.assert_close(again, model.codec.decode(given.codes))


def test_entries_the_model_does_not_have_are_refused():
    with pytest.raises(UsageError, match="no z"):
        generator(1).sample(1, given=Given(z=torch.zeros(1, 2)), seeds=[0])


def test_conditions_pass_down_the_levels():
    model = generator(3, 3)
    assert model.slots == {"label", "codes"}
    cond = model.conditioner.observe(batch_of(), noise=Noise([0], rows=8))
    assert torch.equal(cond.label, batch_of().label) and cond == replace(Condition(), label=cond.label)
