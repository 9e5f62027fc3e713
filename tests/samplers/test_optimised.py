"""Optimised grids: their objective is the error it says it is, their optimum is global, they pay."""

from itertools import combinations, pairwise

import pytest
import torch

from sfumato.diffusion.clocks import CosineTime, LinearBeta, geometric
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Karras, LogSnr
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.optimised import (
    Optimised,
    first_order,
    optimise,
    second_order,
    shortest,
    total,
    trajectory,
)
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

F64 = torch.float64
SCHEDULES = [geometric(), CosineTime(), LinearBeta(), BetaTable(linear_betas())]


def name(thing):
    return type(thing).__name__


def clusters(count=10, dim=6):
    """A mixture in six dimensions: neither Gaussian nor a set of points."""
    g = torch.Generator().manual_seed(0)
    weights = torch.rand(count, generator=g, dtype=F64) + 0.2
    stds = 0.05 + 0.2 * torch.rand(count, generator=g, dtype=F64)
    return MixtureDenoiser(weights, 0.6 * torch.randn(count, dim, generator=g, dtype=F64), stds)


def fine(schedule, levels=24, starts=12, denoiser=None):
    grid = LogSnr().levels(schedule, levels)
    eps = torch.randn(starts, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
    return trajectory(denoiser or clusters(), grid, eps * grid[0].sigma)


class Kept:
    """The states and means of the fine trajectory themselves, to compare with."""

    def __init__(self, schedule, levels=24):
        self.levels = LogSnr().levels(schedule, levels)
        eps = torch.randn(12, 6, generator=torch.Generator().manual_seed(1), dtype=F64)
        self.states, self.means = [], []
        watch = lambda x, level, mean: (self.states.append(x), self.means.append(mean))  # noqa: E731
        start = eps * self.levels[0].sigma
        self.states.append(integrate(clusters(), UniPC(), self.levels, start, watch=watch))

    def relative(self, step, b):
        truth = self.states[b]
        return float((step - truth).square().mean().sqrt() / truth.var(0).mean().sqrt())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_the_first_order_cost_is_the_error_of_a_ddim_step(schedule):
    kept, cost = Kept(schedule), first_order(fine(schedule))
    for a, b in ((0, 1), (0, 9), (5, 8), (11, 23), (3, 24), (23, 24)):
        step, _ = Ddim().step(clusters(), kept.states[a], kept.levels[a], kept.levels[b], None)
        assert float(cost[a, b]) == pytest.approx(kept.relative(step, b), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_the_second_order_cost_is_the_error_of_a_two_step_one(schedule):
    kept, cost, solver = Kept(schedule), second_order(fine(schedule)), DpmPlusPlus2M()
    for p, a, b in ((0, 1, 2), (0, 4, 9), (5, 8, 20), (11, 13, 23), (3, 10, 24)):
        _, before = solver.step(clusters(), kept.states[p], kept.levels[p], kept.levels[a], None)
        step, _ = solver.step(clusters(), kept.states[a], kept.levels[a], kept.levels[b], before)
        assert float(cost[p, a, b]) == pytest.approx(kept.relative(step, b), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("order", [1, 2])
def test_no_other_grid_of_the_levels_is_better(order):
    """All of them are tried: the shortest path is the optimum, not only an improvement."""
    path = fine(geometric(), levels=9)
    first, second = first_order(path), second_order(path) if order == 2 else None
    for knots in shortest(first, second, 9):
        rest = combinations(range(1, 9), len(knots) - 1)
        best = min(total(first, second, [0, *others]) for others in rest)
        assert total(first, second, knots) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("order", [1, 2])
def test_grids_are_never_worse_than_their_start_and_strictly_monotone(schedule, order):
    path = fine(schedule)
    first, second = first_order(path), second_order(path) if order == 2 else None
    for knots in shortest(first, second, 16):
        assert all(a < b for a, b in pairwise(knots)) and knots[0] == 0
        even = torch.linspace(0, 23, len(knots)).round().int().tolist()
        assert total(first, second, knots) <= total(first, second, even) + 1e-12
    grid = Optimised(optimise(path, order=order, most=16))
    for steps in (1, 2, 7, 16, 23, 60):
        levels = grid.levels(schedule, steps)
        log_snr = [level.log_snr for level in levels]
        assert len(levels) == steps + 1 and levels[-1] == CLEAN
        assert all(a < b for a, b in pairwise(log_snr))
        assert levels[0].log_snr == path.levels[0].log_snr


@pytest.mark.parametrize(("solver", "order"), [(Ddim(), 1), (DpmPlusPlus2M(), 2)], ids=["ddim", "2m"])
@pytest.mark.parametrize("steps", [4, 10, 20])
def test_starts_that_were_not_optimised_on_end_nearer_to_the_truth(solver, order, steps):
    schedule, model = geometric(), clusters()
    made = Optimised(optimise(fine(schedule, levels=64, starts=16), order=order))
    eps = torch.randn(200, 6, generator=torch.Generator().manual_seed(7), dtype=F64)

    def end(grid, by, count):
        levels = grid.levels(schedule, count)
        return integrate(model, by, levels, eps * levels[0].sigma)

    truth = end(LogSnr(), UniPC(), 400)
    mine, *others = (
        float((end(grid, solver, steps) - truth).norm(dim=1).median()) for grid in (made, LogSnr(), Karras())
    )
    assert mine < 0.75 * min(others)


def test_a_gaussian_of_no_width_needs_one_step():
    path = fine(geometric(), denoiser=GaussianDenoiser(torch.tensor(0.3, dtype=F64), 0.0))
    assert total(first_order(path), None, [0]) < 1e-6


def test_rows_between_are_read_off_the_nearest():
    grid = Optimised({2: [-4.0, 4.0], 5: [-4.0, -2.0, 0.0, 1.0, 4.0]})
    assert grid.log_snr(geometric(), 9).tolist() == [-4, -3, -2, -1, 0, 0.5, 1, 2.5, 4]
    assert grid.log_snr(geometric(), 3).tolist() == [-4, 0, 4]
    assert grid.log_snr(geometric(), 1).tolist() == [-4]


@pytest.mark.parametrize(
    "bad", [{}, {2: [0.0]}, {2: [1.0, 0.0]}, {2: [1.0, 1.0]}, {0: []}, {2: [0.0, float("nan")]}]
)
def test_tables_that_are_no_grids_are_refused(bad):
    with pytest.raises(ValueError, match="grid"):
        Optimised(bad)


def test_where_the_levels_end_is_part_of_what_is_optimised():
    """Few steps stop early, where the posterior mean of the last level is the end; more go on."""
    path = fine(geometric(), levels=64)
    ends = [row[-1] for row in optimise(path, order=1).values()]
    assert ends[3] < ends[9] < ends[-1] <= path.levels[-2].log_snr
