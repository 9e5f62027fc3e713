"""What a diffusion model answers: the posterior q(x_0 | x_t).

With x_t = alpha x_0 + sigma eps the posterior mean settles every other prediction by one linear map:

    eps      = (x_t - alpha mean) / sigma                       noise            (Ho et al. 2020, eq. 9)
    score    = (alpha mean - x_t) / sigma^2                     grad log q(x_t)  (Vincent 2011; Tweedie)
    velocity = (alpha eps - sigma mean) / sqrt(alpha^2+sigma^2)                  (Salimans & Ho 2022, sec. 4)
    drift    = alpha' mean + sigma' eps                         dx_t/dt of the probability-flow ODE

Whatever changes predictions (guidance, clipping, control) takes a denoiser and is a denoiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.stable import sqrt
from .level import Level, combine


@dataclass(frozen=True, slots=True)
class Posterior:
    """q(x_0 | x_t): mean (B, C, *space); var likewise where the denoiser knows it.

    fraction (B, C, *space) in [0, 1] places a learned reverse variance between the smallest and the
    largest one on a log scale (Nichol & Dhariwal 2021, eq. 15); see transition.InterpolatedVariance.
    """

    mean: Tensor
    var: Tensor | None = None
    fraction: Tensor | None = None

    def eps(self, x_t: Tensor, level: Level) -> Tensor:
        """Predicted noise (x_t - alpha mean) / sigma; needs sigma > 0."""
        return combine(1.0 / level.sigma, x_t, -level.alpha / level.sigma, self.mean)

    def score(self, x_t: Tensor, level: Level) -> Tensor:
        """Predicted gradient of log q(x_t); needs sigma > 0."""
        var = level.sigma**2
        return combine(level.alpha / var, self.mean, -1.0 / var, x_t)

    def velocity(self, x_t: Tensor, level: Level) -> Tensor:
        """v = (alpha eps - sigma mean) / scale = (alpha x_t / scale - scale mean) / sigma; needs sigma > 0.

        scale = sqrt(alpha^2 + sigma^2) is 1 on the variance-preserving path, where v was defined.
        """
        scale = sqrt(level.alpha**2 + level.sigma**2)
        return combine(level.alpha / (scale * level.sigma), x_t, -scale / level.sigma, self.mean)

    def drift(self, x_t: Tensor, level: Level, rate: Level) -> Tensor:
        """dx_t/dt = alpha' mean + sigma' eps, with rate = (alpha', sigma') of Schedule.rate."""
        ratio = rate.sigma / level.sigma
        return combine(ratio, x_t, rate.alpha - level.alpha * ratio, self.mean)


class Denoiser(nn.Module, ABC):
    """A map from a noisy tensor and its level to the posterior over the clean one."""

    @abstractmethod
    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The posterior of x_0 given x_t (B, C, *space) at a level (floats or (B,))."""


class Clipped(Denoiser):
    """Static thresholding: the posterior mean clamped to the range of the data (Ho et al. 2020, app. B).

    Noise, score and velocity follow from the clamped mean, so a step stays consistent with it.
    """

    def __init__(self, denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"clipping needs low < high, not {low} and {high}")
        self.denoiser, self.low, self.high = denoiser, low, high

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The inner posterior with its mean clamped to [low, high]."""
        inner: Posterior = self.denoiser(x_t, level, cond)
        return Posterior(inner.mean.clamp(self.low, self.high), inner.var, inner.fraction)
