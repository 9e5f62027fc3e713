"""Discretised likelihoods are probabilities: they sum to one and are integrals of their density."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sfumato.core.noise import Noise
from sfumato.distributions.discretized import DiscretizedGaussian, DiscretizedLogistic
from sfumato.distributions.gauss_mass import by_series, gauss_log_mass, log_between

KINDS = {DiscretizedGaussian: stats.norm, DiscretizedLogistic: stats.logistic}
F64 = torch.float64


def grid(levels, dtype=F64):
    return torch.linspace(-1, 1, levels, dtype=F64).to(dtype)[:, None]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    levels=st.sampled_from([2, 3, 17, 256, 4096]),
    location=st.floats(-1.5, 1.5),
    log_scale=st.floats(-7.0, 1.0),
)
def test_the_levels_sum_to_one(kind, levels, location, log_scale):
    x = grid(levels)
    p = kind(torch.full_like(x, location), torch.tensor(log_scale, dtype=F64), levels).log_prob(x).exp()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits_sum_to_one_in_single_precision(kind):
    x = grid(65536, torch.float32)
    p = kind(torch.full_like(x, 0.3), torch.tensor(-4.0), 65536).log_prob(x).double().exp()
    assert p.sum().item() == pytest.approx(1.0, abs=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.004, 0.05, 1.0])
def test_a_level_is_the_integral_of_its_density(kind, scale):
    levels, location = 256, 0.1
    x, half = grid(levels), 1 / 255
    law = KINDS[kind](location, scale)
    low = torch.where(x < -1 + half, -math.inf, x - half).squeeze(1).numpy()
    high = torch.where(x > 1 - half, math.inf, x + half).squeeze(1).numpy()
    # the difference is taken in the tail where both numbers are small
    wanted = torch.from_numpy(
        (law.sf(low) - law.sf(high)) * (low > location) + (law.cdf(high) - law.cdf(low)) * (low <= location)
    )
    found = kind(torch.full_like(x, location), torch.tensor(math.log(scale), dtype=F64), levels).log_prob(x)
    seen = wanted > 1e-12
    assert seen.sum() > 5
    torch.testing.assert_close(found.exp()[seen], wanted[seen], rtol=1e-6, atol=0)


@pytest.mark.parametrize("u", [0.0, 0.4, -3.0, 25.0])
def test_bins_are_as_exact_in_the_tail_as_in_the_middle(u):
    """The same bin by differences of the distribution function in the nearer tail."""
    for h in (0.0299, 0.0301):
        levels = 1001
        scale = 2 / (levels - 1) / h
        x = torch.zeros(1, 1, dtype=F64)
        location = torch.full((1, 1), -u * scale, dtype=F64)
        found = DiscretizedGaussian(location, torch.tensor(math.log(scale), dtype=F64), levels).log_mass(x)
        wanted = math.log(stats.norm.cdf(-abs(u) + h / 2) - stats.norm.cdf(-abs(u) - h / 2))
        assert found.item() == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_narrow_bins_have_the_density_times_the_width(kind):
    levels, scale = 65536, 0.3
    x = grid(levels)[1000:1001]
    found = kind(torch.zeros_like(x), torch.tensor(math.log(scale), dtype=F64), levels).log_prob(x)
    wanted = KINDS[kind](0, scale).logpdf(x.item()) + math.log(2 / (levels - 1))
    assert found.item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_every_level_however_far_the_location(kind):
    x = grid(256, torch.float32)
    location = torch.full_like(x, 3.0, requires_grad=True)
    log_scale = torch.tensor(-6.0, requires_grad=True)
    kind(location, log_scale, 256).log_prob(x).sum().backward()
    assert torch.isfinite(location.grad).all() and torch.isfinite(log_scale.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_finite_differences(kind):
    x = grid(17)
    log_scale = torch.tensor(-1.0, dtype=F64, requires_grad=True)
    location = torch.full_like(x, 0.2, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, s: kind(m, s, 17).log_prob(x), (location, log_scale))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lie_on_levels_with_their_probabilities(kind):
    n, levels = 40_000, 5
    d = kind(torch.full((n, 1), 0.1), torch.tensor(-0.7), levels)
    level = (d.sample(Noise([0], rows=n)) + 1) * 2
    assert (level - level.round()).abs().max() < 1e-6
    share = torch.bincount(level.round().long().flatten(), minlength=levels) / n
    x = grid(levels, torch.float32)
    wanted = kind(torch.full_like(x, 0.1), torch.tensor(-0.7), levels).log_prob(x).exp()
    assert (share - wanted).abs().max() < 0.01


def test_one_level_is_refused():
    with pytest.raises(ValueError, match="at least 2 levels"):
        DiscretizedGaussian(torch.zeros(1, 1), torch.zeros(()), 1)


@pytest.mark.parametrize("u", [24.9, 25.1, 60.0, 1e4])
@pytest.mark.parametrize("h", [1e-4, 0.3, 40.0])
def test_the_far_tail_follows_its_asymptote(u, h):
    """log(Q(lo) - Q(hi)) on both sides of the switch against scipy's log survival function."""
    lo, hi = u - h / 2, u + h / 2
    found = log_between(torch.tensor([lo], dtype=F64), torch.tensor([hi], dtype=F64)).item()
    low, high = stats.norm.logsf(lo), stats.norm.logsf(hi)
    assert found == pytest.approx(low + math.log(-math.expm1(high - low)), rel=1e-9)


@pytest.mark.parametrize("shape", [(1,), (1, 3, 1), (4, 3, 5)])
def test_broadcast_gradients_are_sums(shape):
    g = torch.Generator().manual_seed(0)
    x = grid(17)[torch.randint(17, (4, 3, 5), generator=g), 0]
    location = (0.3 * torch.randn(4, 3, 5, generator=g, dtype=F64)).requires_grad_()
    log_scale = torch.full(shape, -1.5, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda m, s: DiscretizedGaussian(m, s, 17).log_prob(x), (location, log_scale)
    )


@settings(max_examples=60, deadline=None)
@given(
    levels=st.sampled_from([17, 256, 65536]),
    log_scale=st.lists(st.floats(-6.0, 1.0), min_size=1, max_size=3),
    outer=st.floats(0.0, 1.0),
    off=st.floats(0.1, 20.0),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_series_and_the_tails_are_one_function(levels, log_scale, outer, off, last, seed):
    """Single precision, by the series where it reaches, against double precision by the tails."""
    draws = torch.Generator().manual_seed(seed)
    level = torch.randint(0, levels, (4, 3, 5, 5), generator=draws)
    ends = (levels - 1) * torch.randint(0, 2, level.shape, generator=draws)
    x = (
        torch.where(torch.rand(level.shape, generator=draws) < outer, ends, level) * (2.0 / (levels - 1))
        - 1.0
    )
    s = torch.tensor(log_scale if len(log_scale) == 3 else log_scale[:1]).reshape(-1, 1, 1)
    location = x + off * torch.exp(s) * torch.randn(x.shape, generator=draws)
    location = location.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    width, found = 2.0 / (levels - 1), []
    for kind in (torch.float32, F64):
        given = [t.to(kind).clone().requires_grad_() for t in (x, location, s)]
        mass = gauss_log_mass(*given, width)
        found.append([mass.detach().double(), *(g.double() for g in torch.autograd.grad(mass.sum(), given))])
    for name, one, two in zip(("mass", "x", "location", "log_scale"), *found, strict=True):
        room = 2e-4 if name == "log_scale" else 2e-5  # a sum over all elements
        torch.testing.assert_close(one, two, rtol=room, atol=room * (1 + float(two.abs().mean())), msg=name)


def test_the_series_serves_what_images_mostly_are():
    x = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    assert by_series(x, x + 0.1, torch.full((1, 1, 1), -2.0), 2 / 255) is not None
    assert (
        by_series(x, x + 0.1, torch.full((1, 1, 1), -5.5), 2 / 255) is None
    )  # a bin is a standard deviation
