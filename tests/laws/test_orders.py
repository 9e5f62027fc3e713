"""Each solver reaches the order it promises, on every path, and a wrong solver is caught."""

import functools
import math

import pytest
import torch
from exact_worlds import PATHS, gaussian, gaussian_flow, line, mixture, starts

from sfumato.diffusion.exact import GaussianDenoiser
from sfumato.diffusion.level import CLEAN, combine
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import Solver, integrate
from sfumato.samplers.unipc import UniPC

WORLDS = ["gaussian", "mixture"]


@functools.cache
def truth(world, path):
    """The exact end points: by the closed form, or by a solver of order four on a grid four times finer."""
    levels = line(path, 1)
    if world == "gaussian":
        return gaussian_flow(starts(levels[0]), levels[0], levels[1])
    return integrate(mixture(), UniPC(3), line(path, 800), starts(levels[0]))


def error(solver, world, path, steps):
    levels = line(path, steps)
    denoiser = gaussian() if world == "gaussian" else mixture()
    return float((integrate(denoiser, solver, levels, starts(levels[0])) - truth(world, path)).abs().max())


def order(solver, world, path):
    """The slope of log error against log steps, from 48 to 192 steps."""
    coarse, fine = (error(solver, world, path, n) for n in (48, 192))
    return math.log(coarse / fine) / math.log(4.0)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("solver", "promised"),
    [(Ddim(), 1), (Heun(), 2), (DpmPlusPlus2M(), 2), (UniPC(1), 2), (UniPC(2), 3)],
    ids=["ddim", "heun", "2m", "unipc1", "unipc2"],
)
def test_order_is_the_promised_one(solver, promised, world, path):
    assert abs(order(solver, world, path) - promised) < 0.15
    assert solver.order <= promised


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("world", WORLDS)
def test_unipc3_with_its_corrector_is_of_order_four(world, path):
    assert order(UniPC(3), world, path) > 4 - 0.15


class HalfHeun(Heun):
    """A mutant: the trapezoid's correction is weighted by a third instead of a half."""

    def step(self, denoiser, x_t, t, s, state, *, cond=None, noise=None):
        euler, _ = Ddim().step(denoiser, x_t, t, s, None)
        right, _ = super().step(denoiser, x_t, t, s, state)
        return euler + (right - euler) * 2 / 3, None


class NoMemory(DpmPlusPlus2M):
    """A mutant: the two-step method forgets its previous mean."""

    def step(self, denoiser, x_t, t, s, state, *, cond=None, noise=None):
        return super().step(denoiser, x_t, t, s, None)


class WrongGap(DpmPlusPlus2M):
    """A mutant: log-SNR where the method means half of it, so the slope is taken twice."""

    def step(self, denoiser, x_t, t, s, state, *, cond=None, noise=None):
        right, after = super().step(denoiser, x_t, t, s, state)
        once, _ = super().step(denoiser, x_t, t, s, None)
        return combine((2.0, right), (-1.0, once)), after


@pytest.mark.parametrize("mutant", [HalfHeun(), NoMemory(), WrongGap()], ids=lambda m: type(m).__name__)
def test_the_law_catches_wrong_solvers(mutant: Solver):
    assert order(mutant, "gaussian", PATHS[0]) < mutant.order - 0.15


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_a_gaussian_of_no_width_is_reached_in_one_step_from_anywhere(path):

    point = GaussianDenoiser(torch.tensor(0.4, dtype=torch.float64), 0.0)
    start = line(path, 1)[0]
    for solver in (Ddim(), Heun(), DpmPlusPlus2M(), UniPC(2)):
        out = integrate(point, solver, [start, CLEAN], starts(start))
        assert torch.allclose(out, torch.full_like(out, 0.4), atol=1e-12)
