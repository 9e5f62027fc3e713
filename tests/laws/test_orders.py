"""Each solver reaches the order it promises, on every path, and a wrong solver is caught."""

import functools
import math

import pytest
import torch
from exact_worlds import F64, MEAN, PATHS, STD, gaussian, gaussian_flow, line, mixture, mixture_flow, starts

from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import CLEAN, combine
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import Solver, integrate
from sfumato.samplers.unipc import UniPC

FLOWS = {"gaussian": (gaussian(), gaussian_flow), "mixture": (mixture(), mixture_flow)}
COARSE, FINE = 192, 768  # fewer steps are not yet asymptotic: up to 4.3 for UniPC-3 between 48 and 192
SOLVERS = [(Ddim(), 1), (Heun(), 2), (DpmPlusPlus2M(), 2), (UniPC(1), 2), (UniPC(2), 3), (UniPC(3), 4)]


@functools.cache
def truth(world, path):
    """The exact end points; no solver takes part."""
    t, s = line(path, 1)
    return FLOWS[world][1](starts(t), t, s)


def error(solver, world, path, steps):
    levels = line(path, steps)
    end = integrate(FLOWS[world][0], solver, levels, starts(levels[0]))
    return float((end - truth(world, path)).abs().max())


def order(solver, world, path):
    """The slope of log error against log steps."""
    coarse, fine = (error(solver, world, path, n) for n in (COARSE, FINE))
    return math.log(coarse / fine) / math.log(FINE / COARSE)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_flow_by_quantiles_is_the_closed_form_where_both_modes_are_one(path):
    t, s = line(path, 1)
    both = torch.tensor([[MEAN], [MEAN]], dtype=F64), torch.tensor([STD, STD], dtype=F64)
    one = MixtureDenoiser(torch.tensor([0.4, 0.6], dtype=F64), *both)
    expected = gaussian_flow(starts(t), t, s)
    assert torch.allclose(mixture_flow(starts(t), t, s, one), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("world", FLOWS)
@pytest.mark.parametrize(
    ("solver", "promised"), SOLVERS, ids=["ddim", "heun", "2m", "unipc1", "unipc2", "unipc3"]
)
def test_order_is_the_promised_one(solver, promised, world, path):
    assert order(solver, world, path) == pytest.approx(promised, abs=0.15)
    assert solver.order <= promised


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
