"""A learned clock is a clock whatever its weights are, and fine detail tells neighbouring levels apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.diffusion.learned import LearnedSnr
from sfumato.nets.detail import COPIES, FineDetail

F64 = torch.float64


def any_clock(seed, spread, width):
    clock = LearnedSnr(-5.0, 13.3, width)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in clock.parameters():
            p.add_(spread * torch.randn(p.shape, generator=g))
    return clock


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.0, 8.0), width=st.sampled_from([1, 7, 256]))
def test_any_weights_make_a_falling_clock_between_its_ends(seed, spread, width):
    clock = any_clock(seed, spread, width).requires_grad_(False)
    t = torch.linspace(0, 1, 101, dtype=F64)
    position, slope = clock.interior(t)
    assert (position.diff() > 0).all() and (slope > 0).all()
    assert (float(position[0]), float(position[-1])) == pytest.approx((0.0, 1.0), abs=1e-12)
    log_snr = clock.clock(t)
    assert (log_snr.diff() < 0).all()
    low, high = float(clock.low), float(clock.low) + float(clock.span(t))
    assert clock.log_snr(1.0) == pytest.approx(low, abs=1e-9)
    assert clock.log_snr(0.0) == pytest.approx(high, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), spread=st.floats(0.0, 3.0))
def test_the_inverse_and_the_slope_are_those_of_the_clock(seed, spread):
    clock = any_clock(seed, spread, 64).requires_grad_(False)
    t = torch.linspace(0.01, 0.99, 33, dtype=F64)
    assert torch.allclose(clock.time(clock.clock(t)), t, atol=1e-9)
    _, slope = clock.interior(t)
    h = 1e-6
    numeric = (clock.interior(t + h)[0] - clock.interior(t - h)[0]) / (2 * h)
    assert torch.allclose(slope, numeric, rtol=1e-4, atol=1e-7)
    at = t.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(clock.clock(at).sum(), at)
    assert torch.allclose(by_autograd, -clock.span(t) * slope, rtol=1e-9)
    level, rate = clock.rate(t)
    assert torch.allclose(2 * (rate.alpha / level.alpha - rate.sigma / level.sigma), by_autograd, rtol=1e-6)


def test_it_begins_as_a_line_between_the_ends_given():
    clock = LearnedSnr(-4.0, 9.0)
    t = torch.linspace(0, 1, 11, dtype=F64)
    assert torch.allclose(clock.clock(t), 9.0 - 13.0 * t, atol=0.15)
    assert clock.log_snr(0.0) == pytest.approx(9.0, abs=1e-5)


@pytest.mark.parametrize("arguments", [(3.0, 3.0), (5.0, 1.0), (0.0, 1.0, 0)])
def test_ends_in_the_wrong_order_and_no_sigmoids_are_refused(arguments):
    with pytest.raises(ValueError, match=r"falls from a high log-SNR|one sigmoid or more"):
        LearnedSnr(*arguments)


class Seen(torch.nn.Module):
    def forward(self, x, c_noise, cond):
        self.x = x
        return x[:, :1]


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_waves_turn_once_and_half_from_one_grey_level_to_the_next(levels):
    net = Seen()
    x = (torch.arange(levels).float() * 2 / (levels - 1) - 1).view(1, 1, levels)
    x = x.expand(2, 1, levels)
    FineDetail(net, levels)(x, torch.zeros(2))
    assert net.x.shape == (2, COPIES, levels)
    once, half = net.x[0, 1:3], net.x[0, 3:5]
    assert torch.allclose(once, once[:, :1].expand_as(once), atol=2e-3)
    assert torch.allclose(half[:, 1:], -half[:, :-1], atol=2e-3)
    assert torch.allclose(net.x[0, :1], x[0])
    with pytest.raises(ValueError, match="at least 2"):
        FineDetail(net, 1)
