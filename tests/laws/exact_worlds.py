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


def starts(level: Level, count=9):
    """A spread of starting points at a level, (count, 1) float64."""
    eps = torch.linspace(-2.0, 2.0, count, dtype=F64)[:, None]
    return level.mix(torch.full_like(eps, 0.3), eps)
