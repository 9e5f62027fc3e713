"""Worlds in which everything about diffusion is known: data, exact denoisers, exact flow maps."""

import math

import torch

from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import Level
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.samplers.grids import levels_at

F64 = torch.float64
MEAN, STD = 0.7, 0.5
PATHS = [VariancePreserving(), VarianceExploding(), SubVariancePreserving(), Linear()]


def gaussian():
    """Data N(0.7, 0.5^2), one number per sample."""
    return GaussianDenoiser(torch.tensor(MEAN, dtype=F64), torch.tensor(STD, dtype=F64))


def mixture():
    """0.3 N(-1, 0.4^2) + 0.7 N(1, 0.6^2), one number per sample."""
    return MixtureDenoiser(
        torch.tensor([0.3, 0.7], dtype=F64),
        torch.tensor([[-1.0], [1.0]], dtype=F64),
        torch.tensor([0.4, 0.6], dtype=F64),
    )


def line(path, steps, low=-5.0, high=5.0):
    """Levels equally spaced in log-SNR from low to high: smooth, so that orders can be read off."""
    return levels_at(path, torch.linspace(low, high, steps + 1, dtype=F64))


def spread(level: Level):
    """Standard deviation of x_t for the Gaussian world."""
    return math.sqrt((level.alpha * STD) ** 2 + level.sigma**2)


def gaussian_flow(x_t, t: Level, s: Level):
    """Where the probability-flow ODE carries x_t in the Gaussian world: quantiles are kept."""
    return s.alpha * MEAN + spread(s) / spread(t) * (x_t - t.alpha * MEAN)


def mixture_flow(x_t, t: Level, s: Level, data: MixtureDenoiser | None = None):
    """Where it carries x_t (n, 1) in a mixture, that of `mixture` by default: F_s^-1(F_t(x_t)), by bisection.

    In one dimension trajectories do not cross, so the flow keeps quantiles, here of the mixtures q(x_t).
    """
    data = data or mixture()
    mean, var = data.means[:, 0], data.stds**2

    def share(x, level):
        """F(x), (n, 1)."""
        z = (x - level.alpha * mean) / torch.sqrt(level.alpha**2 * var + level.sigma**2)
        return (data.weights * torch.special.ndtr(z)).sum(1, keepdim=True)

    wanted, reach = share(x_t, t), 10.0 * (s.alpha + s.sigma)
    low, high = torch.full_like(x_t, -reach), torch.full_like(x_t, reach)
    for _ in range(64):
        middle = 0.5 * (low + high)
        below = share(middle, s) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def starts(level: Level, count=9):
    """A spread of starting points at a level, (count, 1) float64."""
    eps = torch.linspace(-2.0, 2.0, count, dtype=F64)[:, None]
    return level.mix(torch.full_like(eps, 0.3), eps)
