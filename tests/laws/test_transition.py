"""The kernels between two levels: Bayes' rule, the forward chain, and DDPM's tables."""

import math
from itertools import pairwise

import pytest
import torch
from exact_worlds import F64, PATHS, line
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.noise import Noise
from sfumato.diffusion.denoiser import Posterior
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas
from sfumato.diffusion.transition import (
    InterpolatedVariance,
    LargeVariance,
    MatchedVariance,
    SmallVariance,
    forward,
    fresh,
    transition,
)


def density(x, mean, var):
    return torch.exp(-0.5 * (x - mean) ** 2 / var) / math.sqrt(2 * math.pi * var)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(("low", "high"), [(-3.0, -1.0), (-1.0, 2.5), (0.0, 0.1)])
def test_reverse_kernel_is_bayes_rule_on_a_grid(path, low, high):
    """q(x_s | x_t, x) must be q(x_t | x_s) q(x_s | x), normalised numerically over x_s."""
    t, s = path.level(low), path.level(high)
    x, x_t = 0.8, 0.3
    step = forward(s, t)
    grid = torch.linspace(-40, 40, 400_001, dtype=F64)
    joint = density(torch.tensor(x_t, dtype=F64), step.alpha * grid, step.sigma**2)
    joint = joint * density(grid, s.alpha * x, s.sigma**2)
    joint = joint / torch.trapezoid(joint, grid)
    mean = torch.trapezoid(joint * grid, grid)
    var = torch.trapezoid(joint * (grid - mean) ** 2, grid)
    q = transition(t, s)
    assert float(mean) == pytest.approx(q.from_noisy * x_t + q.from_clean * x, rel=1e-8)
    assert float(var) == pytest.approx(q.var, rel=1e-8)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_forward_chain_has_the_moments_of_the_closed_form(path):
    """Composing q(x_t | x_s) over a chain of levels gives q(x_t | x): scale and variance to 1e-12."""
    levels = [CLEAN, *line(path, 50)[::-1]]
    scale, var = 1.0, 0.0
    for s, t in pairwise(levels):
        step = forward(s, t)
        scale, var = scale * step.alpha, var * step.alpha**2 + step.sigma**2
    assert scale == pytest.approx(levels[-1].alpha, rel=1e-12)
    assert var == pytest.approx(levels[-1].sigma ** 2, rel=1e-12)


def test_forward_chain_by_simulation():
    """20,000 chains of 30 noisy steps: mean and variance within five standard errors of the closed form."""
    levels = [CLEAN, *line(PATHS[0], 30)[::-1]]
    n = 20_000
    noise, x = Noise([3], rows=n), torch.full((n, 1), 1.5, dtype=F64)
    for s, t in pairwise(levels):
        x = forward(s, t).mix(x, noise.normal(x.shape, F64))
    end = levels[-1]
    assert abs(float(x.mean()) - 1.5 * end.alpha) < 5 * end.sigma / math.sqrt(n)
    assert abs(float(x.var()) / end.sigma**2 - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas()], ids=["linear", "cosine"])
def test_two_levels_give_every_ddpm_table(betas):
    """For T = 1000: beta, beta~ and both coefficients of the posterior mean to 1e-10 (Ho et al., eq. 6-7)."""
    table = BetaTable(betas)
    bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=F64), bar[:-1]])
    ddpm = torch.stack(
        [
            betas,
            (1 - before) / (1 - bar) * betas,
            before.sqrt() * betas / (1 - bar),
            (1 - betas).sqrt() * (1 - before) / (1 - bar),
        ]
    )
    nothing, ours = Posterior(torch.zeros(1)), []
    for i in range(len(table)):
        t, s = table.at(i), table.at(i - 1) if i else CLEAN
        q = transition(t, s)
        large, small = LargeVariance()(t, s, nothing), SmallVariance()(t, s, nothing)
        ours.append([large, small, q.from_clean, q.from_noisy])
    ours = torch.tensor(ours, dtype=F64).T
    assert ((ours - ddpm).abs() <= 1e-10 * ddpm.abs() + 1e-15).all()


@given(st.floats(-9, 8), st.floats(1e-6, 5), st.integers(0, len(PATHS) - 1))
def test_small_and_large_bound_the_true_variance_of_unit_data(low, gap, which):
    """For x_0 ~ N(0, I) on the VP path the reverse variance is the large one; always small <= matched."""
    path = PATHS[which]
    t, s = path.level(low), path.level(low + gap)
    var = t.sigma**2 / (t.alpha**2 + t.sigma**2)
    posterior = Posterior(torch.zeros(1, 1, dtype=F64), torch.full((1, 1), var, dtype=F64))
    small, large = SmallVariance()(t, s, posterior), LargeVariance()(t, s, posterior)
    matched = float(MatchedVariance()(t, s, posterior))
    assert small <= matched * (1 + 1e-12)
    if which == 0:
        assert matched == pytest.approx(large, rel=1e-9)


def test_interpolated_variance_runs_from_small_to_large_geometrically():
    t, s = PATHS[0].level(-1.0), PATHS[0].level(0.5)
    f = torch.tensor([[0.0, 0.5, 1.0]], dtype=F64)
    p = Posterior(torch.zeros_like(f), None, f)
    small, large = SmallVariance()(t, s, p), LargeVariance()(t, s, p)
    expected = torch.tensor([[small, math.sqrt(small * large), large]], dtype=F64)
    assert torch.allclose(InterpolatedVariance()(t, s, p), expected, rtol=1e-12)
    assert InterpolatedVariance()(t, CLEAN, p) == 0
    rows = Level(torch.tensor([t.alpha]), torch.tensor([t.sigma])), Level(torch.ones(1), torch.zeros(1))
    assert torch.equal(InterpolatedVariance()(*rows, p), torch.zeros_like(f))


def test_variances_that_lack_what_they_need_say_so():
    t, s, p = PATHS[0].level(-1.0), PATHS[0].level(0.5), Posterior(torch.zeros(1, 1))
    with pytest.raises(ValueError, match="twice the output channels"):
        InterpolatedVariance()(t, s, p)
    with pytest.raises(ValueError, match="knows the variance"):
        MatchedVariance()(t, s, p)


def test_fresh_keeps_its_digits_for_neighbouring_levels():
    """1 - SNR_t/SNR_s for a gap of 1e-9 in log-SNR: the naive difference would keep seven digits less."""
    t, s = PATHS[1].level(0.0), PATHS[1].level(1e-9)
    assert fresh(t, s) == pytest.approx(1e-9, rel=1e-6)
