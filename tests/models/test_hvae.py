"""The ladder as a model: where it starts, what its levels carry, and that sampling ignores the batch."""

import pytest
import torch
from small_models import stirred

from sfumato.core.errors import UsageError
from sfumato.core.lazy import build
from sfumato.core.noise import Noise
from sfumato.data.builtin import digits
from sfumato.data.dataset import Batch
from sfumato.data.facts import Facts
from sfumato.distributions.mixture import DiscretizedLogisticMixture
from sfumato.models.density import Plan
from sfumato.models.given import Given, seeds_of
from sfumato.models.interpolate import slerp
from sfumato.nets.ladder import BottomUp, bounded, dealt, latents, scales_of
from sfumato.objectives.elbo import Elbo
from sfumato.recipes import RECIPES

FACTS = Facts(1, (8, 8), "uint8", 0, 240, 15.0)


def hvae(levels=5, facts=FACTS, seed=1, std=0.1, **dials):
    torch.manual_seed(0)
    tree = RECIPES["hvae"](facts, levels=levels, latent=2, width=16, components=2, **dials)
    generator = build(tree).model.eval()
    if std:
        stirred(generator.codec, seed, std)
    return generator


def images(count=8):
    return digits().batch(range(count)).x


def test_a_new_ladder_starts_with_the_posterior_at_the_prior():
    fresh = hvae(std=0.0)
    trace = fresh.codec.trace(images(), noise=Noise([0], rows=8))
    assert len(trace.latents) == 5
    for latent in trace.latents:
        torch.testing.assert_close(latent.kl(), torch.zeros(8))


def test_the_levels_go_from_one_position_to_the_finest_and_the_finest_has_most():
    shapes = hvae(levels=7).codec.shapes
    sizes = [shape[1] for shape in shapes]
    assert sizes == sorted(sizes) and sizes[0] == 1 and sizes[-1] == 8
    assert dealt(12, 4) == sorted(dealt(12, 4)) and sum(dealt(12, 4)) == 12
    assert dealt(4, 4) == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="at least one"):
        dealt(2, 3)


@pytest.mark.parametrize("space", [(8, 8), (17, 23), (28, 28), (50,), (1, 40), (6, 8, 8), (1,)])
def test_scales_halve_down_to_one_position(space):
    sizes = scales_of(space)
    assert sizes[0] == tuple(space) and sizes[-1] == (1,) * len(space)
    features = BottomUp(1, space, width=8)(torch.zeros(2, 1, *space))
    assert [tuple(f.shape[2:]) for f in features] == sizes


def test_the_kl_of_the_levels_is_reported_and_sums_to_the_kl():
    x, model = images(), hvae().codec
    loss = Elbo()(model, Batch(x, None, torch.arange(8)), noise=Noise([0], rows=8), seen=0)
    levels = [loss.terms[f"kl_level_{i}"] for i in range(1, 6)]
    torch.testing.assert_close(torch.stack(levels).sum(0), loss.terms["kl"])
    torch.testing.assert_close(loss.notes["kl_per_level"].sum(), loss.terms["kl"].mean())
    assert "kl_level_1" not in loss.weights


def test_the_code_of_a_draw_is_decoded_to_the_image_of_the_trace():
    model, x = hvae().codec, images()
    code = model.encode(x, noise=Noise([3], rows=8))
    torch.testing.assert_close(
        model.likelihood_of(code).mean, model.trace(x, noise=Noise([3], rows=8)).likelihood.mean
    )
    assert [part.shape[1:] for part in model.split(code)] == [torch.Size(s) for s in model.shapes]
    assert torch.equal(torch.cat([p.flatten(1) for p in model.split(code)], 1), code)


def test_a_sample_depends_on_its_seed_and_on_nothing_else():
    generator = hvae()
    many = generator.sample(20, seeds=seeds_of(0, 20))
    few = generator.sample(3, seeds=seeds_of(0, 20)[:3], batch=2)
    assert torch.equal(many[:3], few)
    assert not torch.equal(many[0], many[1])


def test_temperature_scales_every_level():
    generator = hvae()
    cold = generator.sample(4, Plan(latent_temperature=0.0), seeds=seeds_of(0, 4))
    torch.testing.assert_close(cold, cold[:1].expand_as(cold))
    z = generator.draw(seeds_of(0, 4), Plan(latent_temperature=0.5)).z
    torch.testing.assert_close(z, 0.5 * generator.draw(seeds_of(0, 4)).z)


def test_levels_beyond_the_first_so_many_can_be_left_at_their_means():
    generator = hvae()
    code = generator.draw(seeds_of(0, 2)).z
    model = generator.codec
    assert torch.equal(model.up_to(code, 5), code)
    assert not model.up_to(code, 0).any()
    kept = sum(model.sizes[:2])
    assert (
        torch.equal(model.up_to(code, 2)[:, :kept], code[:, :kept])
        and not model.up_to(code, 2)[:, kept:].any()
    )


def test_images_go_through_codes_and_back_and_paths_run_between_them():
    generator, x = hvae(), images()
    again = generator.reconstruct(x, seeds=seeds_of(0, 8))
    torch.testing.assert_close(again, generator.codec.decode(generator.codec.encode(x)))
    ends = generator.draw(seeds_of(0, 2)).z
    middle = generator.sample(1, given=Given(z=slerp(ends[:1], ends[1:], 0.5)), seeds=[0])
    assert torch.isfinite(middle).all()


def test_the_number_of_units_is_known_before_the_model_is_built():
    for facts in (FACTS, Facts(3, (32, 32)), Facts(2, ())):
        generator = hvae(levels=6, facts=facts, std=0.0)
        patch = 2 if facts.space == (32, 32) else 1
        assert generator.codec.size == generator.density.dim
        assert generator.density.dim == latents(facts.space, levels=6, latent=2, patch=patch)


def test_a_bounded_log_std_is_the_identity_near_zero_and_never_leaves_its_range():
    x = torch.linspace(-50, 50, 101)
    assert bounded(x, 3.0).abs().max() <= 3.0
    torch.testing.assert_close(bounded(0.01 * x, 3.0), 0.01 * x, atol=5e-3, rtol=0)


def test_a_one_level_vae_can_have_the_same_likelihood():
    facts = Facts(3, (12, 10))
    model = build(RECIPES["vae"](facts, latent=4, width=8, mixture=3)).model.codec
    x = torch.randint(0, 256, (2, 3, 12, 10), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
    trace = model.trace(x, noise=Noise([0], rows=2))
    assert isinstance(trace.likelihood, DiscretizedLogisticMixture) and torch.isfinite(trace.elbo()).all()
    with pytest.raises(UsageError, match="is for integers"):
        RECIPES["vae"](Facts(2, (20,), "float32", -1.0, 1.0), mixture=3)


def test_a_ladder_needs_a_level_for_every_scale():
    with pytest.raises(UsageError, match="levels=3 or more"):
        RECIPES["hvae"](FACTS, levels=2)
    with pytest.raises(UsageError, match="a ladder of 0 levels"):
        RECIPES["hvae"](FACTS, levels=0)


def test_twelve_levels_train_stably_and_every_scale_learns_to_carry_something():
    """120 steps at a high rate: finite throughout, a lower bound, gradients bounded."""
    torch.manual_seed(0)
    facts = digits().facts
    model = build(RECIPES["hvae"](facts, levels=12, latent=2, width=16, components=2)).model.codec
    data, losses, norms = digits(), [], []
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for step in range(120):
        batch = data.batch((torch.arange(16) * 53 + step * 7) % 1797)
        loss = Elbo()(model, batch, noise=Noise([step], rows=16), seen=16 * step)
        optimizer.zero_grad()
        loss.total.mean().backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        losses.append(loss.total.mean().item())
    assert all(map(torch.isfinite, torch.tensor([losses, norms]).flatten()))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10]) and max(losses[20:]) < losses[0]
    assert max(norms[50:]) < 10 * sorted(norms)[60]
    carried = dict.fromkeys(model.shapes, 0.0)  # nats of each scale
    for level, shape in enumerate(model.shapes, 1):
        carried[shape] += loss.terms[f"kl_level_{level}"].mean().item()
    assert len(carried) == 3 and min(carried.values()) > 0.01, carried


def test_the_single_top_position_sees_and_sets_where_a_thing_is():
    """Its feature changes when the grid's positions change places; a change of it moves the grid unevenly."""
    torch.manual_seed(0)
    model = build(RECIPES["hvae"](Facts(1, (16, 16)), levels=4, latent=2, width=8)).model.codec
    up, down = model.encoder.ways[-1], model.decoder.spread
    grid, top = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 1, 1)
    assert not torch.allclose(up(grid), up(grid.roll(1, 2)), atol=1e-2)
    assert (down(top + 1) - down(top)).std((2, 3)).min() > 1e-2
    assert all((place == 0).all() for place in model.decoder.places)  # nothing is preferred before training
