"""Probabilities of stored grey levels: a density integrated over the bin of each level.

Integers of an image lie at x_k = -1 + k w, k = 0 .. levels - 1, w = 2 / (levels - 1). With standardised
bin edges a = (x - w/2 - m) / s and b = (x + w/2 - m) / s,

    P(x) = F(b) - F(a),   a = -infinity for the first level, b = +infinity for the last,

so that the levels' probabilities sum to one exactly (Salimans et al. 2017, eq. 2; Ho et al. 2020, eq. 13).
They are formed where nothing cancels:

    logistic   sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^-(b - a))
    Gaussian   gauss_mass.py, on the side of the nearer tail

Dividing -log P by D log 2 gives bits per dimension, the number of the literature.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_sum
from ..core.stable import log1mexp
from .base import Distribution
from .gauss_mass import gauss_log_mass
from .logistic_mean import logistic_mean


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
    def mean(self) -> Tensor:
        """The location; differs from E[x] only by what the outer bins cut off."""
        return self.location

    @final
    def log_prob(self, x: Tensor) -> Tensor:
        """Sum of log P(x) in nats, (B,); x on the grid of levels."""
        return event_sum(self.log_mass(x))

    @abstractmethod
    def log_mass(self, x: Tensor) -> Tensor:
        """log P(x) of every element in nats, (B, ...)."""

    @final
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """A draw of the density, moved to the nearest level."""
        x = self.location + temperature * torch.exp(self.log_scale) * self._standard(noise)
        return (torch.round((x.clamp(-1.0, 1.0) + 1.0) / self.width) * self.width - 1.0).clamp(-1.0, 1.0)

    @abstractmethod
    def _standard(self, noise: Noise) -> Tensor:
        """Draws of the standard density in the shape of the event."""


@final
class DiscretizedLogistic(Discretized):
    """Logistic density with F = sigmoid, over `levels` grey levels."""

    @property
    def mean(self) -> Tensor:
        """E[x] over the grey levels, within [-1, 1]."""
        return logistic_mean(self.location, self.log_scale, self.levels)

    def log_mass(self, x: Tensor) -> Tensor:
        """log P(x) of every element in nats, (B, ...)."""
        inverse = torch.exp(-self.log_scale)
        u, h = (x - self.location) * inverse, self.width * inverse
        first, last = x < -1.0 + 0.5 * self.width, x > 1.0 - 0.5 * self.width
        below, above = F.logsigmoid(u + 0.5 * h), F.logsigmoid(0.5 * h - u)
        inside = log1mexp(h)
        assert isinstance(inside, Tensor)
        return torch.where(first, below, torch.where(last, above, below + above + inside))

    def _standard(self, noise: Noise) -> Tensor:
        p = noise.uniform(self.location.shape, self.location.dtype).clamp(1e-7, 1.0 - 1e-7)
        return torch.logit(p)


@final
class DiscretizedGaussian(Discretized):
    """Gaussian density with F = Phi, over `levels` grey levels."""

    def log_mass(self, x: Tensor) -> Tensor:
        """log P(x) of every element in nats, (B, ...)."""
        return gauss_log_mass(x, self.location, self.log_scale, self.width)

    def _standard(self, noise: Noise) -> Tensor:
        return noise.normal(self.location.shape, self.location.dtype)
