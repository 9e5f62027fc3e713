"""What a diffusion model answers: the posterior q(x_0 | x_t).

With x_t = alpha x_0 + sigma eps the posterior mean settles every other prediction by one linear map:

    eps      = (x_t - alpha mean) / sigma                       noise            (Ho et al. 2020, eq. 9)
    score    = (alpha mean - x_t) / sigma^2                     grad log q(x_t)  (Vincent 2011; Tweedie)
    velocity = (alpha eps - sigma mean) / sqrt(alpha^2+sigma^2)                  (Salimans & Ho 2022, sec. 4)
    drift    = alpha' mean + sigma' eps                         dx_t/dt of the probability-flow ODE

A network states the mean as a line, c_skip x_t + c_out F, and each of these, like each solver's step,
asks for a x_t + b mean. Both together are (a + b c_skip) x_t + b c_out F: the scalars meet first, and
the mean itself is computed only for those who look at it.

Whatever changes predictions (guidance, clipping, control) takes a denoiser and is a denoiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, final

from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.stable import Scalar, sqrt
from .level import Level, Term, combine


class Line(NamedTuple):
    """The posterior mean skip x_t + out output, not yet computed; scalars are floats or (B,)."""

    skip: Scalar
    x_t: Tensor
    out: Scalar
    output: Tensor


@final
class Posterior:
    """q(x_0 | x_t): mean (B, C, *space), given as it is or as a line; var likewise where it is known.

    fraction (B, C, *space) in [0, 1] places a learned reverse variance between the smallest and the
    largest one on a log scale (Nichol & Dhariwal 2021, eq. 15); see transition.InterpolatedVariance.
    """

    __slots__ = ("_line", "_mean", "fraction", "var")

    def __init__(
        self, mean: Tensor | Line, var: Tensor | None = None, fraction: Tensor | None = None
    ) -> None:
        self._mean: Tensor | None = None
        self._line: Line | None = None
        if isinstance(mean, Line):
            self._line = mean
        else:
            self._mean = mean
        self.var, self.fraction = var, fraction

    @property
    def mean(self) -> Tensor:
        """E[x_0 | x_t], (B, C, *space)."""
        if self._mean is None:
            assert self._line is not None
            skip, x_t, out, output = self._line
            self._mean = combine((skip, x_t), (out, output))
        return self._mean

    def combine(self, a: Scalar, x_t: Tensor, b: Scalar, *terms: Term) -> Tensor:
        """a x_t + b mean + the terms; along the line where x_t is the tensor the denoiser was given."""
        line = self._line
        if line is None or line.x_t is not x_t:
            return combine((a, x_t), (b, self.mean), *terms)
        return combine((a + b * line.skip, x_t), (b * line.out, line.output), *terms)

    def eps(self, x_t: Tensor, level: Level) -> Tensor:
        """Predicted noise (x_t - alpha mean) / sigma; needs sigma > 0."""
        return self.combine(1.0 / level.sigma, x_t, -level.alpha / level.sigma)

    def score(self, x_t: Tensor, level: Level) -> Tensor:
        """Predicted gradient of log q(x_t); needs sigma > 0."""
        var = level.sigma**2
        return self.combine(-1.0 / var, x_t, level.alpha / var)

    def velocity(self, x_t: Tensor, level: Level) -> Tensor:
        """v = (alpha eps - sigma mean) / scale = (alpha x_t / scale - scale mean) / sigma; needs sigma > 0.

        scale = sqrt(alpha^2 + sigma^2) is 1 on the variance-preserving path, where v was defined.
        """
        scale = sqrt(level.alpha**2 + level.sigma**2)
        return self.combine(level.alpha / (scale * level.sigma), x_t, -scale / level.sigma)

    def drift(self, x_t: Tensor, level: Level, rate: Level) -> Tensor:
        """dx_t/dt = alpha' mean + sigma' eps, with rate = (alpha', sigma') of Schedule.rate."""
        ratio = rate.sigma / level.sigma
        return self.combine(ratio, x_t, rate.alpha - level.alpha * ratio)


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
