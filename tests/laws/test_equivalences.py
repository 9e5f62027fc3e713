"""Statements that two ways of doing a thing are one."""

import pytest
import torch
from exact_worlds import F64, PATHS, gaussian, line, mixture, spread, starts

from sfumato.core.noise import Noise
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import VarianceExploding, VariancePreserving
from sfumato.diffusion.transition import LargeVariance, MatchedVariance
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

DETERMINISTIC = [Ddim(), Heun(), DpmPlusPlus2M(), UniPC(1), UniPC(2), UniPC(3)]
RANDOM = [Ddim(0.3), Ddim(1.0), Ancestral(), Ancestral(LargeVariance()), Ancestral(MatchedVariance())]
ALL = [*DETERMINISTIC, *RANDOM]
PATHLESS = [s for s in ALL if not isinstance(getattr(s, "variance", None), LargeVariance)]


def name(solver):
    if isinstance(solver, Ancestral):
        return f"Ancestral-{type(solver.variance).__name__}"
    return f"{type(solver).__name__}-{getattr(solver, 'eta', solver.order)}"


def run(solver, levels, x, seed=5):
    return integrate(mixture(), solver, levels, x, noise=Noise([seed], rows=len(x)))


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_ddim_with_eta_one_is_ancestral_sampling_with_the_small_variance(path):
    levels = [*line(path, 20), CLEAN]
    x = starts(levels[0])
    assert torch.allclose(run(Ddim(1.0), levels, x), run(Ancestral(), levels, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", PATHLESS, ids=name)
def test_all_paths_give_one_trajectory_after_rescaling(solver):
    """x_t of the VP path times (1/alpha) is x_t of the VE path: at every level, with the same noise.

    The large variance is a choice made in the units of its own path, so it is left out.
    """
    kept = {}
    for path in PATHS:
        levels = [*line(path, 12), CLEAN]
        eps = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
        seen = []
        x = levels[0].mix(torch.full_like(eps, 0.3), eps)
        noise = Noise([5], rows=9)
        watch = lambda x_t, t, mean, seen=seen: seen.append(x_t / t.alpha)  # noqa: E731
        seen.append(integrate(mixture(), solver, levels, x, noise=noise, watch=watch))
        kept[path] = torch.stack(seen)
    for path in PATHS[1:]:
        assert torch.allclose(kept[path], kept[PATHS[0]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ALL, ids=name)
def test_levels_per_sample_equal_levels_as_floats(solver):
    """A batch whose rows carry their own levels is each row alone, down to clean data."""
    count = 4
    grids = [[*line(VariancePreserving(), 6, -4 - k, 4 + k), CLEAN] for k in range(count)]
    batched = [
        Level(*(torch.tensor([getattr(g[i], part) for g in grids], dtype=F64) for part in ("alpha", "sigma")))
        for i in range(8)
    ]
    x = torch.linspace(-1.0, 1.0, count, dtype=F64)[:, None]
    together = integrate(mixture(), solver, batched, x, noise=Noise(range(count)))
    for k in range(count):
        alone = integrate(mixture(), solver, grids[k], x[k : k + 1], noise=Noise([k]))
        assert torch.allclose(together[k], alone[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", [*DETERMINISTIC, Ddim(0.5), Ancestral()], ids=name)
def test_rows_with_different_ends_may_share_a_batch(solver):
    """One row steps to clean data while another steps to noise in between."""
    t = Level(torch.tensor([0.6, 0.5], dtype=F64), torch.tensor([0.8, 0.9], dtype=F64))
    s = Level(torch.tensor([1.0, 0.7], dtype=F64), torch.tensor([0.0, 0.6], dtype=F64))
    x = torch.tensor([[0.2], [-0.4]], dtype=F64)
    both = integrate(mixture(), solver, [t, s], x, noise=Noise([0, 1]))
    for k in range(2):
        mine = [Level(float(v.alpha[k]), float(v.sigma[k])) for v in (t, s)]
        alone = integrate(mixture(), solver, mine, x[k : k + 1], noise=Noise([k]))
        assert torch.allclose(both[k], alone[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", DETERMINISTIC, ids=name)
def test_deterministic_solvers_draw_no_noise_and_repeat_bitwise(solver):
    levels = [*line(VarianceExploding(), 9), CLEAN]
    x = starts(levels[0])
    first, second = (integrate(mixture(), solver, levels, x) for _ in range(2))
    assert torch.equal(first, second)
    noise = Noise([1], rows=9)
    integrate(mixture(), solver, levels, x, noise=noise)
    assert torch.equal(noise.normal((9, 1)), Noise([1], rows=9).normal((9, 1)))


@pytest.mark.parametrize("solver", [*DETERMINISTIC, Ancestral()], ids=name)
def test_steps_do_not_change_their_inputs(solver):
    levels = [*line(VariancePreserving(), 5), CLEAN]
    x = starts(levels[0])
    copy, kept = x.clone(), []
    with torch.no_grad():
        watch = lambda x_t, t, mean: kept.append((x_t, x_t.clone(), mean, mean.clone()))  # noqa: E731
        integrate(mixture(), solver, levels, x, noise=Noise([0], rows=9), watch=watch)
    assert torch.equal(x, copy) and len(kept) == 6
    assert all(torch.equal(a, b) and torch.equal(c, d) for a, b, c, d in kept)


@pytest.mark.parametrize("solver", [Ddim(), DpmPlusPlus2M(), UniPC(3), Heun()], ids=name)
def test_twenty_and_a_hundred_steps_from_one_start_agree(solver):
    """The deterministic flow maps a start to one sample, whatever the number of steps: within order."""
    grids = [[*line(PATHS[0], n), CLEAN] for n in (20, 100)]
    ends = [integrate(mixture(), solver, levels, starts(levels[0])) for levels in grids]
    assert float((ends[0] - ends[1]).abs().max()) < (0.12 if solver.order == 1 else 0.02)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("solver", DETERMINISTIC, ids=name)
def test_the_gradient_is_that_of_the_exact_gaussian_flow(solver, path):
    """dx_s/dx_t = std(x_s) / std(x_t) at every start: on Gaussian data the flow keeps quantiles."""
    levels = line(path, 40)
    x = starts(levels[0]).requires_grad_()
    (grad,) = torch.autograd.grad(integrate(gaussian(), solver, levels, x).sum(), x)
    wanted = torch.full_like(grad, spread(levels[-1]) / spread(levels[0]))
    torch.testing.assert_close(grad, wanted, rtol=0.1 if solver.order == 1 else 0.01, atol=0.0)


@pytest.mark.parametrize("solver", ALL, ids=name)
def test_gradients_reach_the_start(solver):
    """Solvers work under autograd: finite derivatives, and a larger start ends larger."""
    levels = line(PATHS[3], 40)
    x = starts(levels[0]).requires_grad_()
    (grad,) = torch.autograd.grad(run(solver, levels, x).sum(), x)
    assert torch.isfinite(grad).all() and bool((grad > 0).all())
