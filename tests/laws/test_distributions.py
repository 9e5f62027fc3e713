"""What samplers draw is the data's distribution, by a bound that wrong samplers break.

Dvoretzky-Kiefer-Wolfowitz: for n independent draws the empirical CDF is farther than
sqrt(log(2/p) / 2n) from the true one with probability at most p. Here n = 10,000 and p = 1e-6: a right
sampler fails one run in a million, if its discretisation error hides below the bound of 2.7 %.
"""

import math

import pytest
import torch
from exact_worlds import F64, MEAN, PATHS, STD, gaussian, line, mixture

from sfumato.core.noise import Noise
from sfumato.diffusion.denoiser import Denoiser, Posterior
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.diffusion.transition import LargeVariance, MatchedVariance, SmallVariance
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Karras, LogSnr, Quadratic, Trailing, Uniform
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

N = 10_000
BOUND = math.sqrt(math.log(2e6) / (2 * N))


def normal_cdf(x, mean, std):
    return 0.5 * torch.special.erfc((mean - x) / (std * math.sqrt(2)))


def distance(x, cdf):
    """The Kolmogorov distance between draws (N, 1) and a CDF."""
    ordered = cdf(x.flatten().sort().values)
    steps = torch.arange(len(ordered) + 1, dtype=F64) / len(ordered)
    return float(torch.maximum((ordered - steps[:-1]).abs().max(), (ordered - steps[1:]).abs().max()))


def gaussian_cdf(x):
    return normal_cdf(x, MEAN, STD)


def mixture_cdf(x):
    return 0.3 * normal_cdf(x, -1.0, 0.4) + 0.7 * normal_cdf(x, 1.0, 0.6)


def draws(denoiser, solver, levels, seed=11):
    """Samples from x_T ~ N(0, sigma^2), as a user would start."""
    noise = Noise([seed], rows=N)
    x = levels[0].sigma * noise.normal((N, 1), F64)
    with torch.no_grad():
        return integrate(denoiser, solver, levels, x, noise=noise)


def test_matched_variance_is_exact_for_gaussians_however_few_the_steps():
    """Ancestral sampling with the true reverse variance: three steps suffice."""
    levels = line(PATHS[0], 3, low=-14.0, high=14.0)
    assert distance(draws(gaussian(), Ancestral(MatchedVariance()), levels), gaussian_cdf) < BOUND


@pytest.mark.parametrize(
    ("solver", "steps"),
    [
        (Ddim(), 100),
        (Ddim(1.0), 100),
        (Ancestral(SmallVariance()), 100),
        (Heun(), 30),
        (DpmPlusPlus2M(), 30),
        (UniPC(2), 20),
    ],
    ids=["ddim", "ddim-1", "ancestral", "heun", "2m", "unipc"],
)
def test_solvers_draw_the_mixture(solver, steps):
    levels = LogSnr().levels(BetaTable(linear_betas()), steps)
    assert distance(draws(mixture(), solver, levels), mixture_cdf) < BOUND


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_every_path_draws_the_mixture(path):
    levels = [*line(path, 30, low=-9.0, high=9.0), CLEAN]
    assert distance(draws(mixture(), DpmPlusPlus2M(), levels), mixture_cdf) < BOUND


@pytest.mark.parametrize(
    "grid", [Uniform(), Trailing(), Quadratic(), Karras()], ids=lambda g: type(g).__name__
)
def test_every_grid_draws_the_mixture(grid):
    levels = grid.levels(BetaTable(linear_betas()), 60)
    assert distance(draws(mixture(), UniPC(2), levels), mixture_cdf) < BOUND


class NoNoise(Ddim):
    """A mutant: the stochastic step that forgets its noise."""

    def step(self, denoiser, x_t, t, s, state, *, cond=None, noise=None):
        class Silent:
            def normal(self, shape, dtype):
                return torch.zeros(shape, dtype=dtype)

        return super().step(denoiser, x_t, t, s, state, noise=Silent())


class Biased(Denoiser):
    """A mutant: a posterior mean four per cent too large."""

    def forward(self, x_t, level, cond=None):
        return Posterior(1.04 * mixture()(x_t, level).mean)


def leading():
    """A mutant grid: DDPM's stride that misses the noisiest row, started from pure noise nevertheless."""
    table = BetaTable(linear_betas())
    levels = [*(table.at(i) for i in range(900, 0, -100)), CLEAN]
    return levels


MUTANTS = {
    "forgets its noise": lambda levels: draws(mixture(), NoNoise(1.0), levels),
    "mean too large": lambda levels: draws(Biased(), Ddim(), levels),
    "large variance, few steps": lambda levels: draws(gaussian(), Ancestral(LargeVariance()), levels[::16]),
    "stride misses the noisiest level": lambda levels: draws(mixture(), Ddim(), leading()),
    "stops before clean data": lambda levels: draws(mixture(), Ddim(), levels[:-45]),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_bound_catches_wrong_samplers(mutant):
    levels = LogSnr().levels(BetaTable(linear_betas()), 100)
    cdf = gaussian_cdf if "large" in mutant and "few" in mutant else mixture_cdf
    assert distance(MUTANTS[mutant](levels), cdf) > 2 * BOUND
