"""Solvers of the reverse SDE: weak and strong orders without a random number, and marginals of the ODE."""

import math

import numpy as np
import pytest
import torch
from exact_worlds import F64, MEAN, PATHS, gaussian, line, mixture, spread
from scipy.interpolate import CubicSpline

from sfumato.core.noise import Noise
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.langevin import PredictorCorrector
from sfumato.samplers.multistep import Before
from sfumato.samplers.sde import EulerMaruyama, SdeDpmPlusPlus2M, SdeHeun
from sfumato.samplers.solver import integrate

SDE = [EulerMaruyama(), SdeDpmPlusPlus2M(), SdeHeun()]


def name(solver):
    return type(solver).__name__


class UnitNoise:
    """Draw k is 1 in row k + 2 and 0 elsewhere: it reads off how an affine sampler weighs each draw."""

    def __init__(self):
        self.drawn = 0

    def normal(self, shape, dtype):
        z = torch.zeros(shape, dtype=dtype)
        z[self.drawn + 2] = 1.0
        self.drawn += 1
        return z


def moments(solver, levels, draws):
    """Mean and standard deviation of the end for exact Gaussian data, by x_0 = a + b x_T + sum c_i z_i."""
    x = torch.zeros(draws + 2, 1, dtype=F64)
    x[1] = 1.0
    out = integrate(gaussian(), solver, levels, x, noise=UnitNoise())[:, 0]
    a, b, c = float(out[0]), float(out[1] - out[0]), out[2:] - out[0]
    first = levels[0]
    return a + b * first.alpha * MEAN, math.sqrt((b * spread(first)) ** 2 + float((c**2).sum()))


def weak_error(solver, path, steps, draws_a_step=1):
    levels = line(path, steps, -5.0, 4.0)
    mean, std = moments(solver, levels, steps * draws_a_step)
    end = levels[-1]
    return abs(mean - end.alpha * MEAN) + abs(std - spread(end))


WEAK = [(EulerMaruyama(), 1), (Ancestral(), 1), (SdeDpmPlusPlus2M(), 2), (SdeHeun(), 2)]


def order(error, coarse, fine):
    return math.log(error(coarse) / error(fine)) / math.log(fine / coarse)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(("solver", "promised"), WEAK, ids=name)
def test_weak_order_on_gaussian_data(solver, promised, path):
    assert order(lambda n: weak_error(solver, path, n), 200, 800) == pytest.approx(promised, abs=0.1)
    assert solver.order == promised


def test_two_means_leave_a_far_smaller_error_than_one():
    """SDE-DPM-Solver++(2M) against ancestral sampling at the same calls."""
    path = VariancePreserving()
    assert weak_error(SdeDpmPlusPlus2M(), path, 64) < 0.05 * weak_error(Ancestral(), path, 64)


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
GRID = np.linspace(-6.0, 6.0, 481)
KNOTS = 3.0 * np.cos(np.pi * (np.arange(7) + 0.5) / 7)  # Chebyshev's, for the mean of the step before
LOW, HIGH, START = -3.0, 3.0, 0.2


class Quadrature:
    """Draws that are the nodes of a Gauss-Hermite rule, one for each row."""

    def __init__(self, z):
        self.z = z

    def normal(self, shape, dtype):
        return self.z.to(dtype)


def lagrange(d, knots):
    """(n, K): how the values at the knots weigh in the value at each d (n,), kept within the knots."""
    d = np.clip(d, -3.0, 3.0)
    others = [[m for m in range(len(knots)) if m != k] for k in range(len(knots))]
    parts = [np.prod((d[:, None] - knots[o]) / (knots[k] - knots[o]), 1) for k, o in enumerate(others)]
    return np.stack(parts, 1)


def expectation(solver, path, steps):
    """E[tanh 2 x_s] at a start x_t, by the backward equation u_t(x) = E[u_s(step(x, z))] on a grid.

    A solver with memory has u_t(x, d), d the mean of the step before: interpolated by a polynomial.
    """
    levels, memory = line(path, steps, LOW, HIGH), isinstance(solver, SdeDpmPlusPlus2M)
    knots = KNOTS if memory else np.zeros(1)
    u = np.repeat(np.tanh(2.0 * GRID)[:, None], len(knots), 1)
    every = np.meshgrid(GRID, knots, NODES, indexing="ij")
    x, d, z = (torch.from_numpy(v.reshape(-1, 1)) for v in every)
    for i in range(steps - 1, -1, -1):
        t, s = levels[i], levels[i + 1]
        first = i == 0 or not memory
        before = None if first else Before(d, 0.5 * levels[i - 1].log_snr)
        out = solver.step(mixture(), x, t, s, before, noise=Quadrature(z))[0].numpy()
        reached = CubicSpline(GRID, u)(np.clip(out[:, 0], GRID[0], GRID[-1]))
        reached = reached.reshape(len(GRID), len(knots), len(NODES), len(knots))
        now = lagrange(mixture()(torch.from_numpy(GRID)[:, None], t).mean.numpy()[:, 0], knots)
        u = np.einsum("xdzk,xk,z->xd", reached, now, WEIGHTS / WEIGHTS.sum())
    return float(CubicSpline(GRID, u[:, 0])(START))


def exact_expectation(path):
    """The same under q(x_s given x_t): Gaussian in each mode, cov[x_s, x_t] = (alpha_t/alpha_s) var[x_s]."""
    t, s = line(path, 1, LOW, HIGH)
    data = mixture()
    weights, mean, var = data.weights.numpy(), data.means[:, 0].numpy(), data.stds.numpy() ** 2
    var_t, var_s = (level.alpha**2 * var + level.sigma**2 for level in (t, s))
    shared, away = t.alpha / s.alpha * var_s, START - t.alpha * mean
    share = weights * np.exp(-0.5 * away**2 / var_t) / np.sqrt(var_t)
    centre, std = s.alpha * mean + shared / var_t * away, np.sqrt(var_s - shared**2 / var_t)
    nodes, rule = np.polynomial.hermite_e.hermegauss(120)
    values = np.tanh(2.0 * (centre + std * nodes[:, None]))
    return float(rule / rule.sum() @ values @ share / share.sum())


@pytest.mark.parametrize("path", [VariancePreserving(), SubVariancePreserving()], ids=repr)
@pytest.mark.parametrize(("solver", "promised"), WEAK, ids=name)
def test_weak_order_on_a_mixture(solver, promised, path):
    """Against the exact law of x_s given x_t; deterministic, without a random number."""
    truth = exact_expectation(path)
    found = order(lambda n: abs(expectation(solver, path, n) - truth), 32, 64)
    assert found == pytest.approx(promised, abs=0.1)


class Brownian:
    """One Brownian path in steps of any number: step i of n is the sum of the finest increments it spans."""

    def __init__(self, steps, finest=1024, rows=200):
        z = torch.randn(finest, rows, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
        self.z = iter(z.view(steps, -1, rows, 1).sum(1) / math.sqrt(finest // steps))

    def normal(self, shape, dtype):
        return next(self.z)


def test_euler_maruyama_has_strong_order_one():
    """The diffusion does not depend on x, so Euler's strong order is 1; equal steps of log-SNR on VE."""
    ends = {}
    for steps in (32, 64, 128, 1024):
        levels = line(VarianceExploding(), steps, -2.0, 2.0)
        x = levels[0].mix(
            torch.full((200, 1), 0.3, dtype=F64), torch.linspace(-2, 2, 200, dtype=F64)[:, None]
        )
        ends[steps] = integrate(mixture(), EulerMaruyama(), levels, x, noise=Brownian(steps))
    error = {n: float((ends[n] - ends[1024]).square().mean().sqrt()) for n in (32, 64, 128)}
    # the reference is itself Euler's, 8 and more times finer: subtract what it lacks
    assert math.log2(error[32] / error[128]) / 2 == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_sde_and_ode_share_their_marginals(path):
    """At every level on the way, not only at the end, both have the mean and spread of q(x_t)."""
    whole = line(path, 400, -5.0, 5.0)
    for end in (100, 200, 300, 400):
        levels = whole[: end + 1]
        truth = (levels[-1].alpha * MEAN, spread(levels[-1]))
        ode = moments(Ddim(), levels, 0)
        sde = moments(SdeHeun(), levels, end)
        assert ode == pytest.approx(truth, rel=0.02) and sde == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("solver", [EulerMaruyama(), SdeHeun(), SdeDpmPlusPlus2M()], ids=name)
def test_one_step_with_a_known_clean_sample_is_bayes_rule(solver):
    """Steps to clean data give the posterior mean, and draw nothing."""
    t = VariancePreserving().level(-1.0)
    x = torch.linspace(-2, 2, 5, dtype=F64)[:, None]
    out, _ = solver.step(mixture(), x, t, CLEAN, solver.init(x), noise=None)
    assert torch.allclose(out, mixture()(x, t).mean, atol=1e-12)


@pytest.mark.parametrize("solver", [*SDE, PredictorCorrector(EulerMaruyama(), 2)], ids=name)
def test_levels_per_sample_equal_levels_as_floats(solver):
    """A batch whose rows carry their own levels is each row alone, down to clean data."""
    grids = [[*line(VariancePreserving(), 6, -4 - k, 4 + k), CLEAN] for k in range(3)]
    batched = [
        Level(*(torch.tensor([getattr(g[i], part) for g in grids], dtype=F64) for part in ("alpha", "sigma")))
        for i in range(8)
    ]
    x = torch.linspace(-1.0, 1.0, 3, dtype=F64)[:, None]
    together = integrate(mixture(), solver, batched, x, noise=Noise(range(3)))
    for k in range(3):
        alone = integrate(mixture(), solver, grids[k], x[k : k + 1], noise=Noise([k]))
        assert torch.allclose(together[k], alone[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", [SdeHeun(), SdeDpmPlusPlus2M()], ids=name)
def test_exponential_solvers_know_no_path(solver):
    """VP and VE give one trajectory after rescaling, with the same noise."""
    ends = []
    for path in (VariancePreserving(), VarianceExploding()):
        levels = [*line(path, 10, -4, 4), CLEAN]
        x = levels[0].mix(torch.full((4, 1), 0.3, dtype=F64), torch.linspace(-2, 2, 4, dtype=F64)[:, None])
        ends.append(integrate(mixture(), solver, levels, x, noise=Noise(range(4))))
    assert torch.allclose(*ends, rtol=1e-12, atol=1e-12)


def test_a_first_step_of_two_means_is_ancestral():
    levels = line(VariancePreserving(), 1, -1.0, 1.0)
    x = torch.linspace(-1, 1, 4, dtype=F64)[:, None]
    a, b = (
        integrate(mixture(), s, levels, x, noise=Noise(range(4))) for s in (SdeDpmPlusPlus2M(), Ancestral())
    )
    assert torch.allclose(a, b, atol=1e-13)
