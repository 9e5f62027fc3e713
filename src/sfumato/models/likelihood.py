"""Heads that turn a decoder's output (B, C, *space) into p(x given z).

    Bernoulli             logits                                 black-and-white images
    Gaussian              mean, learned log-scale                float data (sigma-VAE)
    DiscretizedGaussian   mean, learned log-scale, grey levels   integers; ELBO in true bits
    DiscretizedLogistic   the same with heavier tails

The scale is learned, one for everything or one per channel: at the optimum it equals the error of the
reconstruction, which weighs the two terms of the ELBO without a hand-set beta (Rybkin et al. 2021,
"Simple and effective VAE training with calibrated decoders"). A soft floor keeps the density bounded:

    log_scale = floor + softplus(raw - floor)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributions.base import Distribution
from ..distributions.discrete import Bernoulli
from ..distributions.discretized import DiscretizedGaussian, DiscretizedLogistic
from ..distributions.gaussian import Gaussian


class Likelihood(nn.Module, ABC):
    """Reads a decoder's output as the distribution of an image."""

    @abstractmethod
    def forward(self, decoded: Tensor) -> Distribution:
        """p(x given z) for the decoder's output (B, C, *space)."""


@final
class BernoulliLikelihood(Likelihood):
    """The decoder's output is a logit of every pixel."""

    def forward(self, decoded: Tensor) -> Bernoulli:
        """Bernoulli with the given logits."""
        return Bernoulli(decoded)


@final
class LearnedScale(nn.Module):
    """A learned log-scale: `count` is 1 for all channels together, or the number of channels."""

    def __init__(self, count: int, start: float, floor: float) -> None:
        super().__init__()
        if start <= floor:
            raise ValueError(f"the log-scale must start above its floor {floor}, not at {start}")
        self.floor = floor
        self.raw = nn.Parameter(torch.full((count,), floor + math.log(math.expm1(start - floor))))

    def forward(self, x: Tensor) -> Tensor:
        """The log-scale, ready to broadcast against x (B, C, *space)."""
        value = self.floor + F.softplus(self.raw - self.floor)
        return value.reshape(-1, *(1,) * (x.ndim - 2))


@final
class GaussianLikelihood(Likelihood):
    """N(decoded, scale^2), for float data."""

    def __init__(self, scales: int = 1, start: float = -1.0, floor: float = -6.0) -> None:
        super().__init__()
        self.log_scale = LearnedScale(scales, start, floor)

    def forward(self, decoded: Tensor) -> Gaussian:
        """Gaussian around the decoder's output."""
        return Gaussian(decoded, self.log_scale(decoded))


@final
class DiscretizedGaussianLikelihood(Likelihood):
    """Probabilities of `levels` grey levels under N(decoded, scale^2)."""

    def __init__(self, levels: int = 256, scales: int = 1, start: float = -1.0, floor: float = -6.0) -> None:
        super().__init__()
        self.levels, self.log_scale = levels, LearnedScale(scales, start, floor)

    def forward(self, decoded: Tensor) -> DiscretizedGaussian:
        """Discretised Gaussian around the decoder's output."""
        return DiscretizedGaussian(decoded, self.log_scale(decoded), self.levels)


@final
class DiscretizedLogisticLikelihood(Likelihood):
    """Probabilities of `levels` grey levels under a logistic density around the decoder's output."""

    def __init__(self, levels: int = 256, scales: int = 1, start: float = -1.5, floor: float = -7.0) -> None:
        super().__init__()
        self.levels, self.log_scale = levels, LearnedScale(scales, start, floor)

    def forward(self, decoded: Tensor) -> DiscretizedLogistic:
        """Discretised logistic around the decoder's output."""
        return DiscretizedLogistic(decoded, self.log_scale(decoded), self.levels)
