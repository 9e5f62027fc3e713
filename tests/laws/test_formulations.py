"""DiffuseVAE: formulation 2 is formulation 1 in the frame y = x_t - x_hat, and dropping is per sample.

The first convolution of formulation 1 sees [y, x_hat, 1] with weights (W_y, W_hat, W_1). On y + x_hat the
same map has the weights (W_y, W_hat - W_y, W_1): with those a network of formulation 2 is the same function.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import PLAN, SHAPE, diffusevae

from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.level import Level
from sfumato.diffusion.scaling import EdmScaling, EpsScaling
from sfumato.diffusion.times import UniformTime
from sfumato.diffusion.weighting import Simple
from sfumato.models.given import seeds_of
from sfumato.objectives.denoising import Denoising
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.heun import Heun

F64 = torch.float64


def pair(scaling, **options):
    """Formulation 1, and the formulation 2 whose first convolution absorbs the shift, in double precision."""
    one = diffusevae(1, scaling=scaling, **options).double()
    two = diffusevae(2, scaling=scaling, **options).double()
    two.conditioner.load_state_dict(one.conditioner.state_dict())
    net = two.density.denoiser.net.net
    net.load_state_dict(one.density.denoiser.net.state_dict())
    with torch.no_grad():
        weight = net.first.weight
        weight[:, 1] -= weight[:, 0]
    return one, two


def batch(n=8, classes=0):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(n, *SHAPE, dtype=F64, generator=g) * 2 - 1
    return Batch(x, torch.arange(n) % classes if classes else None, torch.arange(n))


@pytest.mark.parametrize("scaling", [EpsScaling(), EdmScaling(0.5)])
@pytest.mark.parametrize("give_z", [False, True])
def test_both_formulations_have_equal_losses_and_samples(scaling, give_z):
    one, two = pair(scaling, give_z=give_z)
    objective = Denoising(Simple(), UniformTime(), dropout=0.0)
    losses = [objective(m, batch(), noise=Noise([0], rows=8), seen=0).total for m in (one, two)]
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    for solver in (Heun(), Ancestral()):
        plan = replace(PLAN, solver=solver)
        samples = [m.sample(5, plan, seeds=seeds_of(0, 5)) for m in (one, two)]
        torch.testing.assert_close(*samples, rtol=1e-6, atol=1e-6)


def test_the_shifted_process_starts_at_the_reconstruction_and_ends_at_the_image():
    """x_t = y_t + x_hat has mean alpha x_0 + x_hat; the loop integrates y, so its end is x_0 itself."""
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x, c_noise, cond):
            seen.append(x)
            return torch.zeros_like(x)

    model = diffusevae(2)
    model.density.denoiser.net.net = Spy()
    x_hat = torch.full((3, *SHAPE), 0.4)
    x, eps, level = torch.rand(3, *SHAPE), torch.randn(3, *SHAPE), Level(0.6, 0.8)
    model.density.denoiser(level.mix(x, eps), level, Condition(concat=x_hat))
    torch.testing.assert_close(seen[0], 0.6 * x + x_hat + 0.8 * eps)


@pytest.mark.parametrize("formulation", [1, 2])
def test_a_dropped_sample_is_an_unconditional_one_and_its_neighbours_are_not(formulation):
    model = diffusevae(formulation, give_z=True, classes=3)
    b = Batch(batch().x.float(), torch.arange(8) % 3, torch.arange(8))
    x_t, cond = model.observe(b, noise=Noise(range(8)))
    keep = torch.arange(8) % 2 == 0
    level = Level(0.6, 0.8)
    denoiser = model.density.denoiser
    mixed = denoiser(x_t, level, cond.drop(keep)).mean
    full, none = denoiser(x_t, level, cond).mean, denoiser(x_t, level).mean
    torch.testing.assert_close(mixed[keep], full[keep])
    torch.testing.assert_close(mixed[~keep], none[~keep])
    assert (full - none).abs().amax((1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("formulation", [1, 2])
def test_scale_zero_equals_sampling_without_a_condition(formulation):
    """The trap of public code: with the condition dropped, formulation 2 must drop its shift too."""
    model = diffusevae(formulation)
    seeds = seeds_of(0, 4)
    guided = model.sample(4, replace(PLAN, scale=0.0), seeds=seeds)
    start = model.draw(seeds).x_T
    with torch.inference_mode():
        padded = start[torch.arange(16).clamp_max(3)]
        plain = model.density.sample(padded, PLAN)[:4]
    assert torch.equal(guided, plain)


def test_the_rate_of_dropping_is_per_sample():
    """Not one coin for the batch: the number of dropped samples is binomial."""
    model = diffusevae()
    counts = []

    class Counting(torch.nn.Module):
        def forward(self, x, c_noise, cond):
            counts.append((~cond.present).sum().item())
            return torch.zeros_like(x)

    model.density.denoiser.net = Counting()
    b = Batch(batch(64).x.float(), None, torch.arange(64))
    for k in range(60):
        Denoising(Simple(), UniformTime(), dropout=0.25)(model, b, noise=Noise([k], rows=64), seen=0)
    counts = torch.tensor(counts, dtype=F64)
    assert abs(counts.mean() - 16) < 4 * (12 / 60) ** 0.5
    assert 6 < counts.var() < 22  # 64 * 0.25 * 0.75 = 12; one coin would give 768
