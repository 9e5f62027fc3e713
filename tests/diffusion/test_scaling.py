"""The scaling table: each row is invertible, agrees with its definition, and keeps its promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sfumato.diffusion.denoiser import Clipped, Denoiser, Posterior
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.diffusion.scaling import (
    EdmScaling,
    EpsScaling,
    FlowScaling,
    Scaled,
    ScoreScaling,
    VScaling,
    X0Scaling,
    c_noise,
)

F64 = torch.float64
PATHS = [VariancePreserving(), VarianceExploding(), SubVariancePreserving(), Linear()]
DATA = 0.7  # the standard deviation of the data that EDM's row is for
ROWS = [EpsScaling(), X0Scaling(), VScaling(), ScoreScaling(), FlowScaling(), EdmScaling(DATA)]


def name(row):
    return type(row).__name__


class Constant(nn.Module):
    """A network that answers with a given tensor and remembers its inputs."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, c_noise, cond):
        self.x, self.c_noise = x, c_noise
        return self.output


def pair(level, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, eps = (torch.randn(3, 2, 4, dtype=F64, generator=g) for _ in range(2))
    return x, eps, level.mix(x, eps)


@pytest.mark.parametrize("row", ROWS, ids=name)
@given(log_snr=st.floats(-8, 8), which=st.integers(0, 3))
def test_round_trip_is_exact(row, log_snr, which):
    """The output that stands for x, read through the row, is x; on every path."""
    level = PATHS[which].level(log_snr)
    x, _, x_t = pair(level)
    net = Constant(row.target(x, x_t, level))
    assert torch.allclose(Scaled(net, row)(x_t, level).mean, x, rtol=0, atol=1e-11)
    other = torch.sin(x_t)
    assert torch.allclose(row.target(row.mean(other, x_t, level), x_t, level), other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_targets_are_what_the_table_says(path):
    level = path.level(0.7)
    a, s = level.alpha, level.sigma
    x, eps, x_t = pair(level)
    r = math.hypot(a, s)
    edm = (s * x / DATA - a * DATA * eps) / math.hypot(s, a * DATA)
    expected = [eps, x, (a * eps - s * x) / r, -eps / s, eps - x, edm]
    for row, target in zip(ROWS, expected, strict=True):
        assert torch.allclose(row.target(x, x_t, level), target, atol=1e-12)


def test_edm_row_is_table_one_of_karras_on_his_path():
    d = 0.7
    for sigma in (0.002, 0.3, 5.0, 80.0):
        c = EdmScaling(d)(Level(1.0, sigma))
        assert c.skip == pytest.approx(d**2 / (sigma**2 + d**2), rel=1e-14)
        assert c.out == pytest.approx(sigma * d / math.sqrt(sigma**2 + d**2), rel=1e-14)
        assert c.input == pytest.approx(1 / math.sqrt(sigma**2 + d**2), rel=1e-14)
        told = c_noise(Level(1.0, sigma), torch.zeros(1, 1, dtype=F64))
        assert float(told) == pytest.approx(math.log(sigma) / 4, rel=1e-14)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("log_snr", [-6.0, 0.0, 6.0])
def test_edm_keeps_input_and_target_at_unit_variance(path, log_snr):
    """For data of standard deviation d: Var[c_in x_t] = Var[target] = 1, and they are uncorrelated."""
    d, level = 0.7, path.level(log_snr)
    row = EdmScaling(d)
    g = torch.Generator().manual_seed(1)
    x, eps = d * torch.randn(200_000, dtype=F64, generator=g), torch.randn(200_000, dtype=F64, generator=g)
    x_t = level.mix(x, eps)
    seen, target = row(level).input * x_t, row.target(x, x_t, level)
    bound = 5 * math.sqrt(2 / 200_000)
    assert abs(float(seen.var()) - 1) < bound and abs(float(target.var()) - 1) < bound
    assert abs(float((seen * target).mean())) < bound


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_levels_per_sample_equal_floats(row):
    levels = [PATHS[0].level(v) for v in (-3.0, 0.2, 4.0)]
    batch = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=F64).T)
    x = torch.randn(3, 2, 4, dtype=F64)
    net = Constant(torch.cos(x))
    together = Scaled(net, row)(x, batch).mean
    told = net.c_noise
    for i, level in enumerate(levels):
        alone = Constant(torch.cos(x[i : i + 1]))
        assert torch.allclose(Scaled(alone, row)(x[i : i + 1], level).mean[0], together[i], atol=1e-14)
        assert torch.allclose(alone.c_noise[0], told[i], atol=1e-14)


@pytest.mark.parametrize("row", [X0Scaling(), VScaling(), FlowScaling(), EdmScaling()], ids=name)
@pytest.mark.parametrize("level", [Level(0.0, 1.0), CLEAN], ids=["noise", "clean"])
def test_rows_are_finite_at_both_ends(row, level):
    x = torch.randn(2, 1, 3)
    net = Constant(torch.randn(2, 1, 3))
    assert torch.isfinite(Scaled(net, row)(x, level).mean).all() and torch.isfinite(net.c_noise).all()


@pytest.mark.parametrize("row", [EpsScaling(), ScoreScaling()], ids=name)
def test_noise_prediction_refuses_pure_noise_with_the_way_out(row):
    with pytest.raises(ValueError, match="use x0, v, flow or edm"):
        row(Level(0.0, 1.0))


def test_v_and_edm_of_unit_data_are_one_up_to_sign():
    for path in PATHS:
        v, edm = VScaling()(path.level(0.3)), EdmScaling(1.0)(path.level(0.3))
        assert (v.skip, -v.out, v.input) == pytest.approx((edm.skip, edm.out, edm.input), rel=1e-14)


def test_a_network_of_twice_the_channels_learns_the_variance():
    x = torch.randn(2, 3, 4)
    mean, v = torch.randn(2, 3, 4), torch.tensor(-1.0).expand(2, 3, 4)
    posterior = Scaled(Constant(torch.cat([mean, v], 1)), X0Scaling())(x, Level(0.6, 0.8))
    assert torch.equal(posterior.mean, mean) and torch.equal(posterior.fraction, torch.zeros(2, 3, 4))


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_views_of_a_posterior_are_consistent(path):
    """eps, score, velocity and drift of a mean that is right are those of the pair that made x_t."""
    level = path.level(-0.4)
    a, s = level.alpha, level.sigma
    x, eps, x_t = pair(level)
    p, r = Posterior(x), math.hypot(a, s)
    assert torch.allclose(p.eps(x_t, level), eps, atol=1e-12)
    assert torch.allclose(p.score(x_t, level), -eps / s, atol=1e-12)
    assert torch.allclose(p.velocity(x_t, level), (a * eps - s * x) / r, atol=1e-12)
    rate = Level(-1.3, 0.4)
    assert torch.allclose(p.drift(x_t, level, rate), -1.3 * x + 0.4 * eps, atol=1e-12)


class Echo(Denoiser):
    """Answers x_t itself."""

    def forward(self, x_t, level, cond=None):
        return Posterior(x_t)


def test_clipping_bounds_the_mean_and_nothing_inside():
    x = torch.linspace(-3, 3, 13)[None]
    mean = Clipped(Echo())(x, Level(0.6, 0.8)).mean
    assert torch.equal(mean, x.clamp(-1, 1)) and torch.equal(mean[x.abs() <= 1], x[x.abs() <= 1])
    with pytest.raises(ValueError, match="low < high"):
        Clipped(Echo(), 1.0, -1.0)
