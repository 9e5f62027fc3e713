"""A sample is a function of its seed and of what is given, part by part."""

import math
from dataclasses import replace

import pytest
import torch
from small_models import LATENT, PLAN, SHAPE, ddpm, diffusevae, vae_generator

from sfumato.core.errors import DataError, UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.models.conditioner import ClassLabel, Unconditional
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.given import Given, seeds_of
from sfumato.models.reconstruction import Reconstruction
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.heun import Heun

SEEDS = seeds_of(0, 21)
MODELS = {
    "vae": vae_generator,
    "ddpm": ddpm,
    "diffusevae": diffusevae,
    "conditional": lambda: diffusevae(2, give_z=True, classes=3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("solver", [Heun(), Ancestral()])
def test_a_sample_does_not_depend_on_its_batch_to_the_bit(name, solver):
    model = MODELS[name]()
    free = isinstance(model.conditioner, Unconditional)  # which nothing guides
    plan = replace(PLAN, solver=solver, scale=1.0 if free else 2.0)
    whole = model.sample(21, plan, seeds=SEEDS)
    for batch in (1, 5, 16, 100):
        assert torch.equal(model.sample(21, plan, seeds=SEEDS, batch=batch), whole)
    assert torch.equal(model.sample(1, plan, seeds=SEEDS[20:]), whole[20:])
    assert torch.equal(model.sample(21, plan, seeds=SEEDS[::-1]), whole.flip(0))


@pytest.mark.parametrize("name", MODELS)
def test_different_seeds_give_different_samples(name):
    x = MODELS[name]().sample(4, seeds=SEEDS[:4])
    assert all((x[i] != x[j]).any() for i in range(4) for j in range(i))


@pytest.mark.parametrize("name", MODELS)
def test_sampling_from_what_was_drawn_repeats_the_sample(name):
    model = MODELS[name]()
    drawn = model.draw(SEEDS)
    assert drawn.names == model.slots
    assert torch.equal(model.sample(21, given=drawn, seeds=SEEDS), model.sample(21, seeds=SEEDS))
    assert torch.equal(model.sample(21, given=drawn, seeds=seeds_of(9, 21)), model.sample(21, seeds=SEEDS))


def test_z_and_x_T_are_drawn_apart():
    """Replacing one leaves the other as the seed drew it."""
    model = diffusevae()
    a, b = model.draw(SEEDS[:1]), model.draw(SEEDS[1:2])
    mixed = model.sample(1, given=Given(z=b.z), seeds=SEEDS[:1])
    assert torch.equal(mixed, model.sample(1, given=Given(z=b.z, x_T=a.x_T), seeds=SEEDS[:1]))
    mixed = model.sample(1, given=Given(x_T=b.x_T), seeds=SEEDS[:1])
    assert torch.equal(mixed, model.sample(1, given=Given(z=a.z, x_T=b.x_T), seeds=SEEDS[:1]))


def test_the_first_stage_alone_draws_the_same_z():
    model = diffusevae()
    assert isinstance(model.conditioner, Reconstruction)
    assert torch.equal(model.conditioner.first.draw(SEEDS).z, model.draw(SEEDS).z)


def test_one_row_given_serves_all_samples():
    model = diffusevae()
    z = torch.randn(1, LATENT)
    one = model.sample(3, given=Given(z=z), seeds=SEEDS[:3])
    assert torch.equal(one, model.sample(3, given=Given(z=z.repeat(3, 1)), seeds=SEEDS[:3]))


def test_reconstruction_goes_through_both_stages():
    model, x = diffusevae(), torch.rand(5, *SHAPE) * 2 - 1
    z = model.encode(x)
    assert torch.equal(model.reconstruct(x, seeds=SEEDS[:5]), model.sample(5, given=z, seeds=SEEDS[:5]))
    first = model.conditioner.first
    torch.testing.assert_close(z.z, first.codec.encode(x))
    torch.testing.assert_close(first.reconstruct(x, seeds=SEEDS[:5]), first.codec.decode(z.z))
    assert torch.equal(model.encode(x[3:]).z, z.z[3:])


def test_latent_temperature_zero_gives_the_image_of_a_component_mean():
    x = vae_generator().sample(3, Plan(latent_temperature=0.0), seeds=SEEDS[:3])
    torch.testing.assert_close(x[0], x[1])


def test_temperature_scales_the_starting_noise():
    model = ddpm()
    hot, cold = (model.draw(SEEDS, replace(PLAN, temperature=t)).x_T for t in (1.0, 0.5))
    torch.testing.assert_close(cold, 0.5 * hot)


def test_classes_are_equally_likely_unless_one_is_given():
    model = vae_generator(classes=3)
    drawn = model.draw(seeds_of(1, 600)).label
    assert torch.bincount(drawn, minlength=3).min() > 150
    assert (model.draw(SEEDS, given=Given(label=torch.tensor([2]))).label == 2).all()


def test_sampling_leaves_the_mode_of_every_module_and_needs_no_gradient():
    model = diffusevae()
    model.train()
    model.conditioner.eval()
    x = model.sample(2, seeds=SEEDS[:2])
    assert model.density.training and not model.conditioner.first.training
    assert not x.requires_grad and not x.is_inference()


def test_observing_uses_a_sampled_z_and_gives_the_first_stage_no_gradient():
    model, x = diffusevae(), torch.rand(4, *SHAPE) * 2 - 1
    batch = Batch(x, None, torch.arange(4))
    (code, one), (_, two) = (model.observe(batch, noise=Noise(range(s, s + 4))) for s in (0, 50))
    assert torch.equal(code, x)
    assert not torch.equal(one.concat, two.concat)
    assert not one.concat.requires_grad
    mean = model.conditioner.imagine(model.encode(x)).concat
    assert not torch.equal(one.concat, mean)


def test_what_a_model_does_not_have_cannot_be_given():
    with pytest.raises(UsageError, match="no z"):
        ddpm().sample(1, given=Given(z=torch.zeros(1, 4)), seeds=[0])
    with pytest.raises(UsageError, match="no label"):
        diffusevae().sample(1, given=Given(label=torch.zeros(1, dtype=torch.int64)), seeds=[0])
    with pytest.raises(UsageError, match="no latent"):
        ddpm().encode(torch.zeros(1, *SHAPE))


def test_user_mistakes_are_named():
    model = ddpm(classes=3)
    with pytest.raises(UsageError, match=r"class outside 0 \.\. 2"):
        model.sample(1, given=Given(label=torch.tensor([3])), seeds=[0])
    with pytest.raises(UsageError, match="2 rows of label for 3 samples"):
        model.sample(3, given=Given(label=torch.zeros(2, dtype=torch.int64)), seeds=[0, 1, 2])
    with pytest.raises(UsageError, match="batch of 0"):
        model.sample(1, seeds=[0], batch=0)
    with pytest.raises(ValueError, match="1 seeds for 2 samples"):
        model.sample(2, seeds=[0])
    with pytest.raises(DataError, match="labelled data"):
        ClassLabel(3).observe(Batch(torch.zeros(1, *SHAPE), None, torch.zeros(1)), noise=Noise([0]))
    with pytest.raises(TypeError, match="samples a latent z"):
        Reconstruction(ddpm())


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": 10**9},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"latent_temperature": math.inf},
        {"start": math.inf},
        {"interval": (1.0, 0.0)},
    ],
    ids=str,
)
def test_plans_that_cannot_be_followed_are_refused(bad):
    with pytest.raises(UsageError):
        Plan(**bad)


def test_guidance_wraps_only_where_there_is_something_to_be_guided_by():
    model = ddpm(classes=3)
    assert isinstance(model.density, Diffusion)
    label = Given(label=torch.arange(3))
    unconditional = model.sample(3, replace(PLAN, scale=0.0), label, seeds=SEEDS[:3])
    same_noise = model.sample(3, replace(PLAN, scale=0.0), Given(label=torch.tensor([1])), seeds=SEEDS[:3])
    assert torch.equal(unconditional, same_noise)  # scale 0 does not see the class
    guided = [model.sample(3, replace(PLAN, scale=s), label, seeds=SEEDS[:3]) for s in (1.0, 3.0)]
    assert not torch.equal(guided[0], unconditional) and not torch.equal(*guided)
