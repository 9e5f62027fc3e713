"""Langevin dynamics: the law it settles in, what it loses between far modes, and how annealing mends it."""

import math

import pytest
import torch
from exact_worlds import F64, MEAN, PATHS, STD, gaussian, line, spread

from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import VarianceExploding
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.grids import levels_at
from sfumato.samplers.langevin import AnnealedLangevin, PredictorCorrector, langevin
from sfumato.samplers.sde import EulerMaruyama
from sfumato.samplers.solver import integrate


class Once:
    """Draws that are 1 in the last row at the first move and 0 afterwards: an impulse."""

    def __init__(self):
        self.value = 1.0

    def normal(self, shape, dtype):
        z = torch.zeros(shape, dtype=dtype)
        z[-1], self.value = self.value, 0.0
        return z


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
def test_the_stationary_law_is_the_data_s_up_to_the_known_bias(path, ratio):
    """x -> m + k (x - m) + c z settles at c^2 / (1 - k^2) = v / (1 - e/(2 v)), e = (ratio sigma)^2."""
    level = path.level(-0.5)
    x = torch.tensor([[0.0], [1.0], [0.0]], dtype=F64)
    base, moved, shaken = langevin(gaussian(), x, level, 1, ratio, noise=Once())[:, 0].tolist()
    k, c = moved - base, shaken - base
    assert base / (1 - k) == pytest.approx(level.alpha * MEAN, rel=1e-12)
    v, e = spread(level) ** 2, (ratio * level.sigma) ** 2
    assert c * c / (1 - k * k) == pytest.approx(v / (1 - e / (2 * v)), rel=1e-12)


def far_modes():
    """0.8 and 0.2 of two narrow modes twelve apart in the plane."""
    means = torch.tensor([[-6.0, 0.0], [6.0, 0.0]], dtype=F64)
    return MixtureDenoiser(torch.tensor([0.8, 0.2], dtype=F64), means, torch.tensor([0.5, 0.5], dtype=F64))


def ladder(low, high, count):
    """A geometric ladder of sigma from high to low, then clean."""
    ends = (-2 * math.log(high), -2 * math.log(low))
    return [*levels_at(VarianceExploding(), torch.linspace(*ends, count, dtype=F64)), CLEAN]


def first_share(x):
    return float((x[:, 0] < 0).double().mean())


def test_plain_dynamics_loses_the_weights_and_annealed_finds_them():
    count = 3000
    noise = Noise([0], rows=count)
    uniform = 16.0 * noise.uniform((count, 2), F64) - 8.0
    plain = integrate(far_modes(), AnnealedLangevin(200, 0.5), ladder(0.3, 0.31, 1), uniform, noise=noise)
    levels = ladder(0.05, 20.0, 30)
    start = 20.0 * noise.normal((count, 2), F64)
    annealed = integrate(far_modes(), AnnealedLangevin(50, 0.4), levels, start, noise=noise)
    assert abs(first_share(plain) - 0.8) > 0.2
    assert first_share(annealed) == pytest.approx(0.8, abs=0.03)


def test_the_end_of_annealing_has_the_moments_of_the_data():
    count = 6000
    noise = Noise([1], rows=count)
    levels = ladder(0.02, 10.0, 40)
    x = levels[0].sigma * noise.normal((count, 1), F64)
    out = integrate(gaussian(), AnnealedLangevin(60, 0.4), levels, x, noise=noise)
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(out.std()) == pytest.approx(STD, abs=0.03)


def test_a_finer_ladder_leaves_the_bias_of_the_moves():
    """Which is why the order is 0: the law at a level is off by the ratio, however many levels lead to it."""
    world = GaussianDenoiser(torch.tensor(0.0, dtype=F64), torch.tensor(0.01, dtype=F64))
    gaps = []
    for count in (20, 40):
        noise = Noise([3], rows=4000)
        levels = ladder(1.0, 10.0, count)[:-1]
        x = levels[0].sigma * noise.normal((4000, 1), F64)
        out = integrate(world, AnnealedLangevin(40, 0.6), [*levels, levels[-1]], x, noise=noise)
        gaps.append(float(out.var()) - 1.0)
    assert AnnealedLangevin().order == 0
    assert gaps == pytest.approx([0.18 / 0.82] * 2, abs=0.08)  # v / (1 - e/(2 v)) - v at v = 1, e = 0.36


def test_a_corrector_mends_a_coarse_predictor():
    """Ten Euler steps are far off; moves at each level pull the law back to q(x_t)."""
    count = 20_000
    levels = line(VarianceExploding(), 12, -5.0, 5.0)

    def end(solver):
        noise = Noise([2], rows=count)
        x = levels[0].alpha * MEAN + spread(levels[0]) * noise.normal((count, 1), F64)
        out = integrate(gaussian(), solver, levels, x, noise=noise)
        return abs(float(out.std()) - spread(levels[-1])) + abs(float(out.mean()) - MEAN)

    bare = end(EulerMaruyama())
    assert end(PredictorCorrector(EulerMaruyama(), 10, 0.3)) < 0.5 * bare


@pytest.mark.parametrize(
    "solver", [AnnealedLangevin(2), PredictorCorrector(Ancestral(), 2)], ids=lambda s: type(s).__name__
)
def test_a_sample_does_not_depend_on_its_batch(solver):
    levels = ladder(0.1, 10.0, 6)
    x = levels[0].sigma * torch.linspace(-1, 1, 8, dtype=F64).view(4, 2)
    together = integrate(far_modes(), solver, levels, x, noise=Noise(range(4)))
    for k in range(4):
        alone = integrate(far_modes(), solver, levels, x[k : k + 1], noise=Noise([k]))
        assert torch.allclose(alone[0], together[k], rtol=0, atol=1e-12)


def test_no_moves_leave_the_predictor_alone():
    levels = [*line(PATHS[0], 6), CLEAN]
    x = torch.linspace(-2, 2, 3, dtype=F64)[:, None]
    a, b = (
        integrate(gaussian(), solver, levels, x, noise=Noise(range(3)))
        for solver in (PredictorCorrector(Ancestral(), 0), Ancestral())
    )
    assert torch.equal(a, b)


def test_a_correction_is_the_papers_step():
    """x + e score + (2 e)^1/2 z with e = 2 (r |z| / |score|)^2, |z| / |score| = sigma (2021, alg. 4)."""
    level, r = PATHS[0].level(0.4), 0.16
    x = torch.linspace(-1, 2, 3, dtype=F64)[:, None]
    corrector = PredictorCorrector(Ancestral(), 1, r)
    x_s, _ = Ancestral().step(gaussian(), x, PATHS[0].level(0.1), level, None, noise=Noise(range(3)))
    noise = Noise(range(3))
    found, _ = corrector.step(gaussian(), x, PATHS[0].level(0.1), level, None, noise=noise)
    again = Noise(range(3))
    again.normal(x.shape, F64)
    e, z = 2 * (r * level.sigma) ** 2, again.normal(x.shape, F64)
    score = gaussian()(x_s, level).score(x_s, level)
    assert torch.allclose(found, x_s + e * score + math.sqrt(2 * e) * z, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="ratio"):
        PredictorCorrector(Ancestral(), 1, 0.71)


@pytest.mark.parametrize(("moves", "ratio"), [(-1, 0.3), (1, 0.0), (1, 1.0)])
def test_impossible_settings_are_refused(moves, ratio):
    for make in (
        lambda: AnnealedLangevin(moves, ratio),
        lambda: PredictorCorrector(Ancestral(), moves, ratio),
    ):
        with pytest.raises(ValueError, match="moves"):
            make()


@pytest.mark.parametrize("solver", [AnnealedLangevin(), EulerMaruyama()], ids=lambda s: type(s).__name__)
def test_a_start_without_signal_is_refused_in_words(solver):
    levels = [Level(0.0, 1.0), *line(PATHS[3], 3), CLEAN]
    with pytest.raises(UsageError, match="without any signal"):
        integrate(gaussian(), solver, levels, torch.zeros(2, 1, dtype=F64), noise=Noise([0, 1]))
