"""Probabilities of stored grey levels: a density integrated over the bin of each level.

Integers of an image lie at x_k = -1 + k w, k = 0 .. levels - 1, w = 2 / (levels - 1). With standardised
bin edges a = (x - w/2 - m) / s and b = (x + w/2 - m) / s,

    P(x) = F(b) - F(a),   a = -infinity for the first level, b = +infinity for the last,

so that the levels' probabilities sum to one exactly (Salimans et al. 2017, eq. 2; Ho et al. 2020, eq. 13).
The difference of two nearby numbers is never formed:

    logistic   sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^-(b - a))
    Gaussian   in the left tail (Phi(b) - Phi(a) = Phi(-a) - Phi(-b)),
               log Phi(b) + log(1 - e^-(log Phi(b) - log Phi(a)));
               for a narrow bin, h = b - a < 0.03 with middle u,
               phi(u) h sinh(y) / y e^(-h^2 / 24), y = u h / 2, to a relative error below h^4 (1 + u^2) / 1000

Dividing -log P by D log 2 gives bits per dimension, the number of the literature.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_sum
from ..core.stable import log1mexp
from .base import Distribution
from .gaussian import LOG_SQRT_2PI

NARROW = 0.03  # bin width in standard deviations below which the Gaussian integral uses its expansion


class Binned(Distribution):
    """Probabilities of the grey levels x_k = 2 k / (levels - 1) - 1, and of nothing between them."""

    levels: int


class Discretized(Binned):
    """A location-scale density integrated over bins; mean (B, ...), log_scale broadcasts to it."""

    def __init__(self, location: Tensor, log_scale: Tensor, levels: int) -> None:
        if levels < 2:
            raise ValueError(f"a discretised likelihood needs at least 2 levels, not {levels}")
        self.location, self.log_scale, self.levels = location, log_scale, levels
        self.width = 2.0 / (levels - 1)

    @property
    @final
    def mean(self) -> Tensor:
        """The location; differs from E[x] only by what the outer bins cut off."""
        return self.location

    @final
    def log_prob(self, x: Tensor) -> Tensor:
        """Sum of log P(x) in nats, (B,); x on the grid of levels."""
        return event_sum(self.log_mass(x))

    @final
    def log_mass(self, x: Tensor) -> Tensor:
        """log P(x) of every element in nats, (B, ...)."""
        inverse = torch.exp(-self.log_scale)
        u, h = (x - self.location) * inverse, self.width * inverse
        first, last = x < -1.0 + 0.5 * self.width, x > 1.0 - 0.5 * self.width
        inner = self._log_bin(u, h)
        return torch.where(
            first, self._log_cdf(u + 0.5 * h), torch.where(last, self._log_cdf(0.5 * h - u), inner)
        )

    @final
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """A draw of the density, moved to the nearest level."""
        x = self.location + temperature * torch.exp(self.log_scale) * self._standard(noise)
        return (torch.round((x.clamp(-1.0, 1.0) + 1.0) / self.width) * self.width - 1.0).clamp(-1.0, 1.0)

    @abstractmethod
    def _log_cdf(self, u: Tensor) -> Tensor:
        """log F(u) of the standard density, which is symmetric: 1 - F(u) = F(-u)."""

    @abstractmethod
    def _log_bin(self, u: Tensor, h: Tensor) -> Tensor:
        """log(F(u + h/2) - F(u - h/2))."""

    @abstractmethod
    def _standard(self, noise: Noise) -> Tensor:
        """Draws of the standard density in the shape of the event."""


@final
class DiscretizedLogistic(Discretized):
    """Logistic density with F = sigmoid, over `levels` grey levels."""

    def _log_cdf(self, u: Tensor) -> Tensor:
        return F.logsigmoid(u)

    def _log_bin(self, u: Tensor, h: Tensor) -> Tensor:
        inside = log1mexp(h)
        assert isinstance(inside, Tensor)
        return F.logsigmoid(u + 0.5 * h) + F.logsigmoid(0.5 * h - u) + inside

    def _standard(self, noise: Noise) -> Tensor:
        p = noise.uniform(self.location.shape, self.location.dtype).clamp(1e-7, 1.0 - 1e-7)
        return torch.logit(p)


@final
class DiscretizedGaussian(Discretized):
    """Gaussian density with F = Phi, over `levels` grey levels."""

    def _log_cdf(self, u: Tensor) -> Tensor:
        return torch.special.log_ndtr(u)

    def _log_bin(self, u: Tensor, h: Tensor) -> Tensor:
        h = h.expand_as(u)
        narrow = h < NARROW
        # each branch gets harmless arguments where the other one is taken, so no gradient is NaN
        y = 0.5 * u * torch.where(narrow, h, 0.0)
        expansion = -0.5 * u * u - LOG_SQRT_2PI + h.log() + _log_sinhc(y) - h * h / 24.0
        h_wide = torch.where(narrow, 1.0, h)
        left = -u.abs()
        top = torch.special.log_ndtr(left + 0.5 * h_wide)
        ratio = top - torch.special.log_ndtr(left - 0.5 * h_wide)
        inside = log1mexp(ratio)
        assert isinstance(inside, Tensor)
        return torch.where(narrow, expansion, top + inside)

    def _standard(self, noise: Noise) -> Tensor:
        return noise.normal(self.location.shape, self.location.dtype)


def _log_sinhc(y: Tensor) -> Tensor:
    """log(sinh(y) / y), even in y; its series y^2 / 6 - y^4 / 180 near zero."""
    small = y.abs() < 0.1
    z = torch.where(small, 1.0, y.abs())
    far = z + torch.log(-torch.expm1(-2.0 * z)) - torch.log(z) - math.log(2.0)
    near = torch.where(small, y, 0.0)
    return torch.where(small, near**2 / 6.0 - near**4 / 180.0, far)
