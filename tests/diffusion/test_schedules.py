"""Clocks and paths: constraints, inverses, derivatives, and the SDEs they come from."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import UsageError
from sfumato.diffusion.clocks import CosineTime, FlowTime, LinearBeta, LogSnrLine, geometric
from sfumato.diffusion.learned import LearnedSnr
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.diffusion.schedule import Schedule, Until, check_clock
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas

F64 = torch.float64
CLOCKS = [
    LinearBeta(),
    LinearBeta(path=SubVariancePreserving()),
    LinearBeta(path=Linear()),
    CosineTime(),
    CosineTime(shift=-1.4, path=Linear()),
    LogSnrLine(),
    geometric(),
    FlowTime(),
    FlowTime(3.0, path=VariancePreserving()),
    BetaTable(linear_betas()),
    BetaTable(cosine_betas(40)),
    BetaTable(linear_betas(), path=SubVariancePreserving()),
]
CONSTRAINTS = {
    VariancePreserving: lambda a, s: a * a + s * s - 1,
    VarianceExploding: lambda a, s: a - 1,
    SubVariancePreserving: lambda a, s: s - (1 - a * a),
    Linear: lambda a, s: a + s - 1,
}


def name(clock):
    return f"{type(clock).__name__}-{type(clock.path).__name__}"


@given(log_snr=st.floats(-60, 60))
@pytest.mark.parametrize("make", CONSTRAINTS)
def test_paths_keep_their_constraint_and_their_log_snr(make, log_snr):
    level = make().level(log_snr)
    assert abs(CONSTRAINTS[make](level.alpha, level.sigma)) < 1e-15
    assert level.log_snr == pytest.approx(log_snr, rel=1e-12, abs=1e-13)
    rows = make().level(torch.tensor([log_snr], dtype=F64))
    assert float(rows.alpha) == pytest.approx(level.alpha, rel=1e-13)
    assert float(rows.sigma) == pytest.approx(level.sigma, rel=1e-13)


@pytest.mark.parametrize("make", CONSTRAINTS)
def test_paths_reach_clean_data_and_pure_noise_exactly(make):
    assert make().level(math.inf) == CLEAN
    if make is not VarianceExploding:
        assert make().level(-math.inf) == Level(0.0, 1.0)
    assert make() == make() and hash(make()) == hash(make())


@pytest.mark.parametrize("clock", CLOCKS, ids=name)
def test_clocks_fall_and_their_inverse_returns(clock):
    t = torch.linspace(clock.earliest, 1.0, 501, dtype=F64)[1:-1]
    log_snr = clock.log_snr(t)
    assert (log_snr.diff() < 0).all()
    assert torch.allclose(clock.time(log_snr), t, rtol=1e-11, atol=1e-13)
    assert clock.time(clock.log_snr(0.37)) == pytest.approx(0.37, rel=1e-12)
    assert isinstance(clock.log_snr(0.37), float)


@pytest.mark.parametrize("clock", CLOCKS, ids=name)
def test_rates_are_derivatives(clock):
    """Against central differences of the level at a time inside a table's row."""
    t, h = 0.3142, 1e-6
    level, rate = clock.rate(t)
    expected = clock.level(t)
    assert (level.alpha, level.sigma) == pytest.approx((expected.alpha, expected.sigma), rel=1e-14)
    before, after = clock.level(t - h), clock.level(t + h)
    assert rate.alpha == pytest.approx((after.alpha - before.alpha) / (2 * h), rel=1e-5, abs=1e-7)
    assert rate.sigma == pytest.approx((after.sigma - before.sigma) / (2 * h), rel=1e-5, abs=1e-7)


def test_linear_beta_is_the_vp_sde():
    """f = -beta/2 and g^2 = beta (Song et al. 2021, eq. 11), from (alpha, sigma) and their rates alone."""
    for t in (0.01, 0.3, 0.9):
        beta = 0.1 + 19.9 * t
        level, rate = LinearBeta().rate(t)
        f = rate.alpha / level.alpha
        assert f == pytest.approx(-beta / 2, rel=1e-10)
        assert 2 * level.sigma * rate.sigma - 2 * f * level.sigma**2 == pytest.approx(beta, rel=1e-10)


def test_linear_beta_on_the_sub_vp_path_is_the_sub_vp_sde():
    """Same drift, g^2 = beta (1 - e^(-2 int beta)) (Song et al. 2021, eq. 13)."""
    for t in (0.05, 0.5, 0.95):
        beta, b = 0.1 + 19.9 * t, 0.1 * t + 9.95 * t * t
        level, rate = LinearBeta(path=SubVariancePreserving()).rate(t)
        f = rate.alpha / level.alpha
        g2 = 2 * level.sigma * rate.sigma - 2 * f * level.sigma**2
        assert (f, g2) == pytest.approx((-beta / 2, beta * (1 - math.exp(-2 * b))), rel=1e-9)


def test_geometric_is_the_ve_sde():
    clock = geometric(0.01, 50.0)
    for t in (0.0, 0.4, 1.0):
        assert clock.level(t).sigma == pytest.approx(0.01 * 5000**t, rel=1e-12)


def test_flow_time_is_the_straight_line_and_its_shift():
    assert FlowTime().level(0.3).sigma == pytest.approx(0.3, rel=1e-14)
    assert FlowTime(3.0).level(0.3).sigma == pytest.approx(0.9 / (1 + 0.6), rel=1e-13)


def test_cosine_clock_is_the_cosine_table_in_the_limit():
    """alpha = cos(pi t/2) when nothing is cut; a table of many rows follows it."""
    clock = CosineTime(-60.0, 60.0)
    table = BetaTable(cosine_betas(20_000, offset=0.0))
    for t in (0.1, 0.5, 0.9):
        assert clock.level(t).alpha == pytest.approx(math.cos(math.pi * t / 2), rel=1e-10)
        assert table.level(t).alpha == pytest.approx(math.cos(math.pi * t / 2), rel=1e-6)


def test_linear_table_approaches_the_continuous_clock():
    """DDPM's table with T rows against beta(t) = 0.1 + 19.9 t: difference of log-SNR is O(1/T)."""
    gaps = []
    for steps in (1000, 4000):
        table = BetaTable(linear_betas(steps, 0.1 / steps, 20.0 / steps))
        gaps.append(abs(table.log_snr(0.5) - LinearBeta().log_snr(0.5)))
    assert gaps[0] < 0.02 and gaps[1] == pytest.approx(gaps[0] / 4, rel=0.05)


@pytest.mark.parametrize("betas", [linear_betas(), cosine_betas(), [0.1, 0.5, 0.2]])
def test_table_rows_are_cumulative_products(betas):
    table = BetaTable(betas)
    bar = torch.cumprod(1 - torch.as_tensor(betas, dtype=F64), 0)
    ours = torch.tensor([table.at(i).alpha for i in range(len(table))], dtype=F64)
    assert torch.allclose(ours, bar.sqrt(), rtol=1e-10)
    assert table.level((2 + 1) / len(table)).alpha == pytest.approx(table.at(2).alpha, rel=1e-12)
    assert table.level(0.0) == CLEAN and table.earliest == 1 / len(table)


def test_a_table_between_rows_has_constant_beta():
    """-log alpha^2 is linear in t inside a row, so halfway it is the geometric mean of alpha."""
    table = BetaTable([0.1, 0.3, 0.2, 0.4])
    middle = math.sqrt(table.at(1).alpha * table.at(2).alpha)
    assert table.level(0.625).alpha == pytest.approx(middle, rel=1e-12)


@pytest.mark.parametrize("bad", [[], [0.0, 0.1], [1.0], [[0.1]], [float("nan")]])
def test_impossible_tables_are_refused(bad):
    with pytest.raises(ValueError, match="beta table"):
        BetaTable(bad)


@pytest.mark.parametrize(
    "make",
    [lambda: CosineTime(5, -5), lambda: LogSnrLine(3, 3), lambda: FlowTime(0.0), lambda: LinearBeta(-1.0)],
)
def test_impossible_clocks_are_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()


def test_rates_work_in_inference_mode_and_per_sample():
    t = torch.tensor([0.2, 0.6], dtype=F64)
    with torch.inference_mode():
        level, rate = LinearBeta().rate(t)
    for i in range(2):
        alone, slope = LinearBeta().rate(float(t[i]))
        assert (float(level.alpha[i]), float(rate.sigma[i])) == pytest.approx((alone.alpha, slope.sigma))


def test_schedules_hold_no_state_of_their_own():
    """What follows from the constructor is not stored with a run."""
    assert all(not clock.state_dict() for clock in CLOCKS)


class Clock(Schedule):
    """A clock by a function of t, with no promise about it."""

    def __init__(self, of):
        super().__init__(VariancePreserving())
        self.of = of

    def clock(self, t):
        return self.of(t)

    def inverse(self, log_snr):
        raise NotImplementedError


@pytest.mark.parametrize("clock", [*CLOCKS, LearnedSnr(), BetaTable([0.3]), Until(FlowTime(), 0.2)], ids=name)
def test_every_clock_of_the_library_falls(clock):
    check_clock(clock)


WRONG = {
    "forth and back": (lambda t: 6.0 * torch.sin(9.0 * t), "does not fall"),
    "upwards": (lambda t: 10.0 * t, "does not fall"),
    "a rest": (lambda t: -10.0 * t.clamp(max=0.9), "does not fall"),
    "no number": (lambda t: -torch.sqrt(t - 0.5), "is no number"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_clock_that_does_not_fall_is_refused_with_the_time(wrong):
    of, what = WRONG[wrong]
    with pytest.raises(UsageError, match=what) as caught:
        check_clock(Clock(of))
    assert "at t = " in str(caught.value) and caught.value.remedy


@given(st.floats(0.0, 3.0), st.integers(1, 6))
def test_a_line_with_a_wave_is_a_clock_as_long_as_its_slope_stays_negative(height, waves):
    """-t + h sin(2 pi k t) / (2 pi k) has the slope -1 + h cos: negative everywhere for h < 1 alone."""
    wave = Clock(lambda t: -t + height * torch.sin(2 * math.pi * waves * t) / (2 * math.pi * waves))
    if height <= 1.0:
        check_clock(wave)
    elif height > 1.3:  # well within the times that are looked at
        with pytest.raises(UsageError, match="does not fall"):
            check_clock(wave)
