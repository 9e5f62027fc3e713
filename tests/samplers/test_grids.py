"""Grids: what each promises about its levels, on every schedule."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.diffusion.clocks import CosineTime, FlowTime, LinearBeta, geometric
from sfumato.diffusion.exact import GaussianDenoiser
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Angle, Karras, LogSnr, Quadratic, Rows, Trailing, Uniform
from sfumato.samplers.heun import Heun
from sfumato.samplers.solver import integrate

TABLE = BetaTable(linear_betas())
SCHEDULES = [TABLE, BetaTable(cosine_betas()), LinearBeta(), CosineTime(), geometric(), FlowTime()]
TIMED = [Uniform(), Trailing(), Quadratic()]
GRIDS = [*TIMED, LogSnr(), Karras(), Angle(), Angle(1.0)]


def name(thing):
    return type(thing).__name__


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("grid", GRIDS, ids=name)
@pytest.mark.parametrize("steps", [1, 2, 10, 100])
def test_n_levels_rising_in_log_snr_then_clean(grid, schedule, steps):
    levels = grid.levels(schedule, steps)
    log_snr = [level.log_snr for level in levels]
    assert len(levels) == steps + 1 and levels[-1] == CLEAN
    assert all(a < b for a, b in pairwise(log_snr))
    assert all(isinstance(level.alpha, float) and isinstance(level.sigma, float) for level in levels)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("grid", [*GRIDS, Rows(Uniform(), 300)], ids=name)
@settings(max_examples=5)
@given(steps=st.integers(1, 2000))
@example(steps=2000)
def test_at_any_number_of_steps_the_levels_stay_on_the_schedule(grid, schedule, steps):
    """From the noisiest level (of the grid's range) strictly down, none beyond the ends, then CLEAN."""
    levels = grid.levels(schedule, steps)
    log_snr = [level.log_snr for level in levels[:-1]]
    low, high = schedule.log_snr(1.0), schedule.log_snr(schedule.earliest)
    if not isinstance(grid, (*map(type, TIMED), Rows)):
        low, high = max(low, -2 * math.log(80.0)), min(high, -2 * math.log(0.002))
    assert levels[-1] == CLEAN and (len(log_snr) == steps or isinstance(grid, Rows))
    assert log_snr[0] == pytest.approx(low, rel=1e-12)
    assert all(a < b for a, b in pairwise(log_snr))
    assert log_snr[-1] <= high + 1e-9


@pytest.mark.parametrize("schedule", [CosineTime(), TABLE], ids=name)
def test_even_angles_are_nested_until_they_reach_the_cleanest_level(schedule):
    """n steps are every other one of 2n; the first step too many spreads all of them between both ends."""
    low, high = Angle().bounds(schedule)
    most = math.floor(math.atan(math.exp(-low / 2) / 0.5) / math.atan(math.exp(-high / 2) / 0.5))

    def of(steps):
        return [level.log_snr for level in Angle().levels(schedule, steps)[:-1]]

    half = most // 2
    assert of(2 * half)[::2] == pytest.approx(of(half)) and of(most)[-1] <= high
    assert of(most + 1)[-1] == pytest.approx(high) and of(most + 1)[0] == pytest.approx(low)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("grid", TIMED, ids=name)
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_strides_always_visit_the_noisiest_level(grid, schedule, steps):
    assert grid.levels(schedule, steps)[0] == schedule.level(1.0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("grid", [LogSnr(), Karras()], ids=name)
def test_level_grids_start_at_noise_that_hides_the_data(grid, schedule):
    first = grid.levels(schedule, 10)[0]
    assert first.alpha / first.sigma <= 1 / 79.9
    assert first.log_snr >= schedule.log_snr(1.0) - 1e-9


def test_trailing_grid_of_a_table_is_rows_a_fixed_stride_apart():
    rows = [round(float(TABLE.index(level))) for level in Trailing().levels(TABLE, 50)[:-1]]
    assert rows == list(range(999, 0, -20))


def test_a_thousand_trailing_steps_are_the_whole_table():
    levels = Trailing().levels(TABLE, 1000)
    assert all(
        level.log_snr == pytest.approx(TABLE.at(999 - i).log_snr, rel=1e-10)
        for i, level in enumerate(levels[:-1])
    )


def test_quadratic_grid_is_even_in_the_root_of_time():
    times = torch.tensor([TABLE.time(level.log_snr) for level in Quadratic().levels(TABLE, 11)[:-1]])
    roots = times.sqrt().diff()
    assert torch.allclose(roots, roots[0].expand(10), rtol=1e-5)


def test_karras_grid_is_equation_five():
    """(sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho (Karras et al. 2022)."""
    levels = Karras().levels(geometric(), 18)
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    expected = [(high + i / 17 * (low - high)) ** 7 for i in range(18)]
    assert [level.sigma for level in levels[:-1]] == pytest.approx(expected, rel=1e-9)


def test_log_snr_grid_is_even_in_log_snr():
    log_snr = [level.log_snr for level in LogSnr().levels(CosineTime(), 9)[:-1]]
    gaps = [b - a for a, b in pairwise(log_snr)]
    assert gaps == pytest.approx([gaps[0]] * 8, rel=1e-9)
    assert log_snr[0] == pytest.approx(-2 * math.log(80.0))


def test_rows_moves_times_to_rows_and_drops_repetitions():
    levels = Rows(Quadratic(), 1000).levels(TABLE, 900)
    rows = [float(TABLE.index(level)) for level in levels[:-1]]
    assert all(abs(r - round(r)) < 1e-6 for r in rows) and len({round(r) for r in rows}) == len(rows)
    assert round(rows[0]) == 999 and round(rows[-1]) == 0


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_is_a_usage_error(steps):
    with pytest.raises(UsageError, match="at least one"):
        Uniform().levels(TABLE, steps)


def test_impossible_ranges_are_refused():
    for make in (lambda: Karras(rho=0.0), lambda: LogSnr(2.0, 1.0), lambda: Ddim(1.5)):
        with pytest.raises(ValueError, match=r"rho|low < high|eta"):
            make()


@pytest.mark.parametrize("solver", [Ancestral(), Ddim(0.5)])
def test_a_solver_that_draws_says_so_when_there_is_no_noise(solver):
    levels = Trailing().levels(TABLE, 3)
    with pytest.raises(ValueError, match="one seed per sample"):
        integrate(GaussianDenoiser(0.0, 1.0), solver, levels, torch.zeros(2, 1))


def test_a_sample_depends_on_its_seed_and_not_on_its_batch():
    levels, den = Trailing().levels(TABLE, 10), GaussianDenoiser(0.2, 0.7)

    def sample(seeds):
        noise = Noise(seeds)
        return integrate(den, Ancestral(), levels, noise.normal((len(seeds), 2, 3)), noise=noise)

    together = sample([5, 6, 7])
    assert torch.equal(together[1], sample([6])[0]) and torch.equal(together[2], sample([9, 7])[1])


def test_watch_sees_each_step_once_and_changes_nothing():

    levels, den, seen = Trailing().levels(TABLE, 5), GaussianDenoiser(0.2, 0.7), []
    x = torch.randn(2, 1, generator=torch.Generator().manual_seed(0))
    watched = integrate(den, Heun(), levels, x, watch=lambda x_t, t, mean: seen.append((x_t, t, mean)))
    assert torch.equal(watched, integrate(den, Heun(), levels, x))
    assert [t for _, t, _ in seen] == levels[:-1] and torch.equal(seen[0][0], x)
    assert all(torch.equal(mean, den(x_t, t).mean) for x_t, t, mean in seen)
