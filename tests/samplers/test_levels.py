"""The loop takes levels that lead from noise to data, and refuses all others, whatever the solver."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.diffusion.clocks import FlowTime, LogSnrLine, geometric
from sfumato.diffusion.exact import GaussianDenoiser
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import VariancePreserving
from sfumato.diffusion.schedule import Schedule, Until
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.consistency import Consistency
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Angle, Karras, LogSnr, Quadratic, Rows, Trailing, Uniform
from sfumato.samplers.heun import Heun
from sfumato.samplers.langevin import AnnealedLangevin, PredictorCorrector
from sfumato.samplers.leap import Leap
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.optimised import Optimised
from sfumato.samplers.sde import EulerMaruyama, SdeDpmPlusPlus2M, SdeHeun
from sfumato.samplers.solver import Solver, check_levels, integrate
from sfumato.samplers.unipc import UniPC

SOLVERS = [
    *(Ancestral(), Consistency(), Ddim(), Ddim(0.5), Heun(), AnnealedLangevin(2), PredictorCorrector()),
    *(Leap(), DpmPlusPlus2M(), EulerMaruyama(), SdeDpmPlusPlus2M(), SdeHeun(), UniPC(1), UniPC(2), UniPC(3)),
    PredictorCorrector(AnnealedLangevin(1)),
]
GRIDS = [Uniform(), Trailing(), Quadratic(), Rows(Quadratic()), LogSnr(), Karras(), Angle()]
TABLE = BetaTable(linear_betas())


def name(thing):
    return type(thing).__name__


def at(*log_snrs):
    return [CLEAN if v == math.inf else VariancePreserving().level(v) for v in log_snrs]


def run(solver, levels):
    x = torch.linspace(-1.0, 1.0, 3, dtype=torch.float64)[:, None]
    denoiser = GaussianDenoiser(torch.tensor(0.2).double(), torch.tensor(0.7).double())
    return integrate(denoiser, solver, levels, x, noise=Noise(range(3)))


def test_every_solver_of_the_library_is_here():
    every = {c for c in Solver.__subclasses__() if c.__module__.startswith("sfumato.samplers")}
    assert every == {type(s) for s in SOLVERS}


WRONG = {
    "the same level": ((-4.0, -1.0, 1.0, 1.0, 2.0, math.inf), "the same level", "levels 3 and 4 of 6"),
    "back to more noise": ((-4.0, -1.0, 1.0, 0.5, 2.0, math.inf), "more noise", "levels 3 and 4 of 6"),
    "clean data twice": ((-4.0, 1.0, math.inf, math.inf), "clean data", "levels 3 and 4 of 4"),
    "on from clean data": ((-4.0, math.inf, 1.0), "clean data", "levels 2 and 3 of 3"),
    "no number": ((-4.0, math.nan, 1.0), "no number", "levels 1 and 2 of 3"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_levels_that_do_not_lead_from_noise_to_data_are_refused(solver, wrong):
    values, what, where = WRONG[wrong]
    if solver.stays and wrong == "the same level":
        assert torch.isfinite(run(solver, at(*values))).all()  # more moves where it is
        return
    with pytest.raises(UsageError, match=what) as caught:
        run(solver, at(*values))
    assert where in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_levels_that_do_are_taken(solver):
    assert torch.isfinite(run(solver, at(-4.0, -1.0, 1.0, 2.0, math.inf))).all()
    assert torch.isfinite(run(solver, at(-4.0, math.inf))).all()


@given(st.lists(st.floats(-50.0, 50.0), min_size=2, max_size=12))
def test_the_check_is_whether_the_list_is_sorted_and_free_of_repetitions(values):
    levels = [Level.known(0.5, 0.5, v) for v in values]
    for stays, fine in ((False, values == sorted(set(values))), (True, values == sorted(values))):
        try:
            check_levels(levels, stays=stays)
        except UsageError:
            assert not fine
        else:
            assert fine


def test_levels_of_each_sample_are_not_read_back():
    backwards = [Level(*(torch.tensor([v, v]) for v in pair)) for pair in ((0.9, 0.1), (0.1, 0.9))]
    check_levels(backwards)


@pytest.mark.parametrize("steps", [1, 2, 3, 32, 50, 999, 1000, 1001, 4000])
@pytest.mark.parametrize("grid", GRIDS, ids=name)
@pytest.mark.parametrize("start", [None, 0.3, 5.0])
def test_every_grid_of_the_library_passes(grid, steps, start):
    """Also of more steps than rows, and from a first guess on."""
    for schedule in (TABLE, FlowTime(), geometric()):
        check_levels(grid.levels(schedule if start is None else Until(schedule, start), steps))


def test_narrow_and_optimised_grids_pass():
    check_levels(LogSnr(0.01, 0.0101).levels(geometric(0.01, 50.0), 1))
    table = Optimised({1: [-8.0], 3: [-8.0, 0.0, 5.0], 6: [-8.0, -5.0, -2.0, 0.0, 3.0, 6.0]})
    for steps in range(1, 40):
        check_levels(table.levels(geometric(), steps))


class Swinging(Schedule):
    """A clock that is none: it goes forth and back."""

    def __init__(self):
        super().__init__(VariancePreserving())

    def clock(self, t):
        return 6.0 * torch.sin(9.0 * t)

    def inverse(self, log_snr):
        return torch.asin(log_snr / 6.0) / 9.0


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
def test_a_clock_that_goes_back_cannot_be_sampled_along(solver):
    with pytest.raises(UsageError, match="more noise"):
        run(solver, Uniform().levels(Swinging(), 20))


@pytest.mark.parametrize("schedule", [TABLE, FlowTime(), LogSnrLine(), Until(TABLE, 2.0)], ids=name)
@pytest.mark.parametrize("steps", [1, 7, 400, 1000, 2000, 5000])
def test_time_grids_stay_within_the_times_of_their_schedule(schedule, steps):
    for grid in (Uniform(), Trailing(), Quadratic()):
        times = grid.times(schedule.earliest, steps)
        assert len(times) == steps and float(times[0]) == 1.0
        assert float(times[-1]) >= schedule.earliest * (1.0 - 1e-12)
        assert bool((times.diff() < 0).all())


def test_more_trailing_steps_than_rows_are_even_steps_down_to_the_first_row():
    many = Trailing().levels(TABLE, 2000)
    assert many[-2].log_snr == pytest.approx(TABLE.at(0).log_snr, rel=1e-12)
    assert torch.equal(Trailing().times(1e-3, 1001), Uniform().times(1e-3, 1001))
    at_most = Trailing().times(1e-3, 1000)
    assert torch.allclose(at_most, Uniform().times(1e-3, 1000), rtol=0, atol=1e-12)
