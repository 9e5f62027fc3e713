"""The variational bound: terms against numerical integration, sums against true entropies, refusals."""

import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from exact_worlds import F64, PATHS
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import ddpm, diffusevae, vae_generator

from sfumato.core.errors import DataError, UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.bound import decoder_term, flow_term, prior_term, reveal_term, step_term
from sfumato.diffusion.clocks import CosineTime, FlowTime, LogSnrLine
from sfumato.diffusion.denoiser import Posterior
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.paths import VarianceExploding
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas
from sfumato.diffusion.transition import (
    InterpolatedVariance,
    LargeVariance,
    MatchedVariance,
    SmallVariance,
    transition,
)
from sfumato.distributions.discretized import DiscretizedGaussian
from sfumato.distributions.lattice import lattice_log_prob
from sfumato.evaluation.variational import variational_bounds, vlb
from sfumato.models.codec import Pixels
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.objectives.estimate import ends

LEVELS = 256
WIDTH = 2 / (LEVELS - 1)


def world(denoiser, schedule, shape):
    """A generator with an exact denoiser; nothing is clipped, since Gaussian data have no end."""
    return Generator(Pixels(), Diffusion(denoiser, schedule, shape), plan=Plan(clip=False))


def batch_of(x):
    return Batch(x, None, torch.arange(len(x)))


def on_levels(x):
    return ((x.clamp(-1, 1) + 1) / WIDTH).round() * WIDTH - 1


def normal_density(x, mean, var):
    return torch.exp(-0.5 * (x - mean) ** 2 / var) / math.sqrt(2 * math.pi * var)


# ----------------------------------------------------------------------------------- single terms


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("variance", [SmallVariance(), LargeVariance(), InterpolatedVariance()])
def test_a_step_is_the_divergence_of_its_two_gaussians_on_a_grid(path, variance):
    t, s = path.level(-1.0), path.level(0.4)
    x, x_t, mean = 0.3, 0.9, -0.2
    posterior = Posterior(torch.tensor([[mean]], dtype=F64), None, torch.tensor([[0.3]], dtype=F64))
    q = transition(t, s)
    width = float(variance(t, s, posterior))
    grid = torch.linspace(-60, 60, 400_001, dtype=F64)
    here = normal_density(grid, q.from_noisy * x_t + q.from_clean * x, q.var)
    there = normal_density(grid, q.from_noisy * x_t + q.from_clean * mean, width)
    wanted = torch.trapezoid(
        torch.where(here > 1e-300, here * (here / there.clamp_min(1e-320)).log(), 0.0), grid
    )
    found = step_term(posterior, torch.tensor([[x]], dtype=F64), t, s, variance)
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.floats(-12, 3), st.floats(-2, 2))
def test_the_prior_is_the_divergence_from_the_noise_a_sampler_starts_with(log_snr, x):
    for path in PATHS:
        level = path.level(log_snr)
        wanted = (level.alpha * x) ** 2 / (2 * level.sigma**2)
        assert float(prior_term(torch.tensor([[x]]), level)) == pytest.approx(wanted, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(
    "variance", [SmallVariance(), LargeVariance(), InterpolatedVariance(), MatchedVariance()]
)
def test_the_decoder_is_a_probability_of_the_levels(variance):
    """Summed over all levels it is one, and its width is the one that the variance says."""
    t = PATHS[0].level(9.2)
    grid = (torch.arange(LEVELS, dtype=F64) * WIDTH - 1)[:, None]
    mean, f = torch.full_like(grid, 0.1234), torch.full_like(grid, 0.25)
    posterior = Posterior(mean, torch.full_like(grid, 3e-4), f)
    p = torch.exp(-decoder_term(posterior, grid, t, variance, LEVELS))
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-12)
    spread = float((p * (grid[:, 0] - (p * grid[:, 0]).sum()) ** 2).sum())
    snr = math.exp(9.2)
    wanted = {"S": 0.5 / snr, "L": 1 / snr, "I": 2**-0.75 / snr, "M": 3e-4}[type(variance).__name__[0]]
    assert spread == pytest.approx(wanted + WIDTH**2 / 12, rel=1e-6)


def test_short_steps_of_small_variance_become_the_integral_over_log_snr():
    x, posterior = torch.tensor([[0.4, -0.1]], dtype=F64), Posterior(torch.zeros(1, 2, dtype=F64))
    low, high, n = -2.0, 1.0, 2000
    levels = [PATHS[0].level(low + (high - low) * k / n) for k in range(n + 1)]
    steps = sum(float(step_term(posterior, x, t, s, SmallVariance())) for t, s in pairwise(levels))
    exact = 0.5 * (math.exp(high) - math.exp(low)) * float((x**2).sum())
    assert steps == pytest.approx(exact, rel=1e-9)
    middle = sum(
        float(flow_term(posterior, x, PATHS[0].level(low + (high - low) * (k + 0.5) / n))) for k in range(n)
    )
    assert middle * (high - low) / n == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("levels", [2, 17, 256])
@settings(deadline=None, max_examples=40)
@given(st.floats(-1.3, 1.3), st.floats(-9, -2))
def test_the_lattice_is_the_normalised_density_at_its_levels(levels, location, log_scale):
    grid = torch.arange(levels, dtype=F64) * (2 / (levels - 1)) - 1
    scale = torch.tensor(math.exp(log_scale), dtype=F64)
    wanted = torch.log_softmax(-0.5 * ((grid - location) / scale) ** 2, 0)
    found = lattice_log_prob(grid[:, None], torch.full((levels, 1), location, dtype=F64), scale, levels)
    near = wanted > -500
    assert torch.allclose(found[near], wanted[near], rtol=1e-9, atol=1e-15 * math.exp(-2 * log_scale) + 1e-9)


def test_a_lattice_has_two_levels_at_least():
    with pytest.raises(ValueError, match="at least 2"):
        lattice_log_prob(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(()), 1)


def test_the_last_look_of_a_fine_process_costs_nothing_and_of_a_coarse_one_the_levels_entropy():
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, LEVELS, (4000, 1), generator=g).double() * WIDTH - 1
    costs = []
    for ratio in (1 / 20, 1 / 6, 30.0):
        level = VarianceExploding().level(-2 * math.log(ratio * WIDTH))
        z = level.mix(x, torch.randn(x.shape, generator=g, dtype=F64))
        costs.append(float(reveal_term(x, z, level, LEVELS).mean()) / math.log(2))
    assert costs[0] < 1e-6 and costs[1] == pytest.approx(0.011, abs=0.004)
    # a narrower posterior than log2(30 sqrt(2 pi e)) = 6.95 bits only where the range of levels cuts it off
    assert 6.5 < costs[2] < math.log2(30 * math.sqrt(2 * math.pi * math.e))


# ---------------------------------------------------------------------------- against true entropies


def gaussian_world(shape, count):
    g = torch.Generator().manual_seed(1)
    std = 0.25
    x = on_levels(0.1 + std * torch.randn(count, *shape, generator=g, dtype=F64))
    truth = DiscretizedGaussian(torch.full_like(x, 0.1), torch.tensor(math.log(std), dtype=F64), LEVELS)
    return GaussianDenoiser(torch.tensor(0.1, dtype=F64), torch.tensor(std, dtype=F64)), x, -truth.log_prob(x)


def mixture_world(shape, count):
    """0.3 and 0.7 of two modes far apart, each a product of Gaussians, seen through 256 levels."""
    weights, stds = torch.tensor([0.3, 0.7], dtype=F64), torch.tensor([0.1, 0.15], dtype=F64)
    means = torch.stack([torch.full(shape, m, dtype=F64) for m in (-0.4, 0.3)])
    denoiser = MixtureDenoiser(weights, means, stds)
    x = on_levels(denoiser.sample(Noise([2], rows=count), F64))
    parts = [
        DiscretizedGaussian(m.expand_as(x), s.log(), LEVELS).log_prob(x)
        for m, s in zip(means, stds, strict=True)
    ]
    return denoiser, x, -torch.logsumexp(weights.log()[:, None] + torch.stack(parts), 0)


CASES = [((1,), 150_000), ((3, 8, 4), 2500), ((1, 3, 4, 5), 3500)]


@pytest.mark.parametrize("make", [gaussian_world, mixture_world])
@pytest.mark.parametrize(("shape", "count"), CASES, ids=lambda v: str(v))
@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas()], ids=["linear", "cosine"])
def test_a_thousand_steps_of_an_exact_denoiser_meet_the_true_entropy(make, shape, count, betas):
    """Within 0.01 bits/dim, of images of one, 96 and 60 numbers in one and several axes."""
    denoiser, x, truth = make(shape, count)
    size = math.prod(shape) * math.log(2)
    found = vlb(
        world(denoiser, BetaTable(betas), shape),
        batch_of(x),
        LEVELS,
        terms=24,
        noise=Noise([3], rows=count),
        variance=MatchedVariance(),
    )
    gap = (found.total - truth) / size
    assert float(gap.std()) / math.sqrt(count) < 0.006
    assert abs(float(gap.mean())) < 0.01


def test_small_steps_of_an_exact_denoiser_need_the_right_variance():
    """For smooth data beta is nearly exact, and beta~ costs what Gaussians of the wrong width cost."""
    denoiser, x, truth = gaussian_world((1,), 150_000)
    gaps = {}
    for variance in (LargeVariance(), SmallVariance()):
        model = world(denoiser, BetaTable(cosine_betas()), (1,))
        found = vlb(model, batch_of(x), LEVELS, terms=16, noise=Noise([3], rows=len(x)), variance=variance)
        gaps[type(variance)] = float((found.total - truth).mean() / math.log(2))
    assert abs(gaps[LargeVariance]) < 0.02 and gaps[SmallVariance] > 0.5


@pytest.mark.parametrize("make", [gaussian_world, mixture_world])
def test_the_continuous_bound_of_an_exact_denoiser_meets_the_true_entropy(make):
    """Up to a log-SNR where the levels still blend: beyond it the data are no Gaussians any more."""
    denoiser, x, truth = make((1,), 100_000)
    found = vlb(
        world(denoiser, LogSnrLine(-8.0, 9.5), (1,)),
        batch_of(x),
        LEVELS,
        terms=24,
        noise=Noise([3], rows=len(x)),
    )
    assert abs(float((found.total - truth).mean() / math.log(2))) < 0.015


def test_the_continuous_bound_knows_neither_the_clock_nor_the_path():
    denoiser, x, _ = gaussian_world((2,), 500)
    schedules = [
        LogSnrLine(-8.0, 8.0),
        CosineTime(-8.0, 8.0),
        *(LogSnrLine(-8.0, 8.0, path) for path in PATHS),
    ]
    found = [
        vlb(world(denoiser, s, (2,)), batch_of(x), LEVELS, terms=7, noise=Noise([0], rows=500))
        for s in schedules
    ]
    for other in found[1:]:
        for name, nats in found[0].terms.items():
            torch.testing.assert_close(other.terms[name], nats, rtol=1e-9, atol=1e-9)


def test_drawn_terms_have_the_mean_of_all_of_them():
    """For each image by itself, over many draws: the estimate is unbiased image by image."""
    denoiser, x, _ = gaussian_world((2,), 3)
    many = x.repeat_interleave(20_000, 0)
    model, sums = world(denoiser, BetaTable(linear_betas(30, 1e-3, 0.4)), (2,)), []
    for terms in (5, 29):
        found = vlb(model, batch_of(many), LEVELS, terms=terms, noise=Noise([5], rows=len(many))).terms[
            "steps"
        ]
        sums.append(found.view(3, -1))
    wrong = (sums[0].mean(1) - sums[1].mean(1)).abs()
    assert (wrong < 4 * (sums[0].var(1) + sums[1].var(1)).div(20_000).sqrt()).all()


def test_ends_that_are_infinite_are_moved_where_nothing_is_left():
    assert ends(LogSnrLine(-3.0, 4.0)) == (-3.0, 4.0)
    low, high = ends(FlowTime())
    assert low == -20.0 and high == pytest.approx(2 * math.log(999))


def test_bounds_are_summed_up_with_their_spread_and_do_not_depend_on_the_batches():
    denoiser, x, _ = gaussian_world((3,), 64)
    model = world(denoiser, BetaTable(linear_betas()), (3,))
    together, method = variational_bounds(model, [batch_of(x)], LEVELS, terms=3)
    apart, _ = variational_bounds(model, [batch_of(part) for part in x.split(10)], LEVELS, terms=3)
    assert method == "T = 1000, 3 terms drawn for each image, reverse variance large (beta)"
    assert [b.name for b in together] == ["VLB", "VLB prior", "VLB steps", "VLB decoder"]
    for a, b in zip(together, apart, strict=True):
        assert (a.bits.value, a.bits.spread) == pytest.approx((b.bits.value, b.bits.spread), rel=1e-9)
    assert together[0].bits.value == pytest.approx(sum(b.bits.value for b in together[1:]), rel=1e-9)
    assert together[0].unit == "bits/dim" and 0 < together[0].bits.spread < 1
    assert variational_bounds(model, [batch_of(x[:2])], LEVELS, terms=999)[1].startswith(
        "T = 1000, all terms, "
    )


# ------------------------------------------------------------------------------------- what it refuses


IMAGES = batch_of(torch.tensor([-1.0, 1.0, 1.0, -1.0]).view(4, 1, 1, 1).repeat(1, 1, 8, 8))


def test_a_first_stage_adds_the_cost_of_its_code():
    found = vlb(diffusevae(), IMAGES, LEVELS, terms=2, noise=Noise([0, 1, 2, 3]))
    assert list(found.terms) == ["prior", "steps", "decoder", "latent"]
    assert "continuous, 2 log-SNRs" in found.method


@pytest.mark.parametrize(
    ("model", "levels", "said"),
    [
        (ddpm, None, "stored as floats"),
        (vae_generator, LEVELS, "codes of an autoencoder"),
    ],
)
def test_no_bound_where_grey_levels_have_no_probability(model, levels, said):
    with pytest.raises(UsageError, match=said):
        vlb(model(), IMAGES, levels, noise=Noise([0, 1, 2, 3]))


def test_images_off_the_levels_and_no_terms_are_refused():
    off = batch_of(IMAGES.x * 0.501)
    with pytest.raises(DataError, match="between the run's 256 grey levels"):
        vlb(ddpm(), off, LEVELS, noise=Noise([0, 1, 2, 3]))
    with pytest.raises(UsageError, match="0 terms"):
        vlb(ddpm(), IMAGES, LEVELS, terms=0, noise=Noise([0, 1, 2, 3]))
    with pytest.raises(ValueError, match="at least one batch"):
        variational_bounds(ddpm(), [], LEVELS)
