"""Heads that turn a decoder's output (B, C, *space) into p(x given z).

    Bernoulli             logits                                 black-and-white images
    Gaussian              mean, learned log-scale                float data (sigma-VAE)
    FixedGaussian         mean; minus its logarithm is the squared error and a constant
    DiscretizedGaussian   mean, learned log-scale, grey levels   integers; ELBO in true bits
    DiscretizedLogistic   the same with heavier tails
    LogisticMixture       K logistics per pixel, channels coupled: all that a pixel needs from the decoder

The scale is learned, one for everything or one per channel: at the optimum it equals the error of the
reconstruction, which weighs the two terms of the ELBO without a hand-set beta (Rybkin et al. 2021,
"Simple and effective VAE training with calibrated decoders"). The mixture reads scales, weights and
couplings of every pixel from the decoder (Salimans et al. 2017). A soft floor keeps the density bounded:

    log_scale = floor + softplus(raw - floor)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from ..core.stable import inverse_softplus, soft_floor
from ..distributions.base import Distribution
from ..distributions.discrete import Bernoulli
from ..distributions.discretized import DiscretizedGaussian, DiscretizedLogistic
from ..distributions.gaussian import Gaussian
from ..distributions.mixture import DiscretizedLogisticMixture


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
        self.raw = nn.Parameter(torch.full((count,), floor + inverse_softplus(start - floor)))

    def forward(self, x: Tensor) -> Tensor:
        """The log-scale, ready to broadcast against x (B, C, *space)."""
        value = soft_floor(self.raw, self.floor)
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
class FixedGaussianLikelihood(Likelihood):
    """N(decoded, variance I): -log p = |x - decoded|^2 / (2 variance) + D/2 log(2 pi variance), in nats."""

    def __init__(self, variance: float = 0.5) -> None:
        super().__init__()
        if not variance > 0.0:
            raise ValueError(f"a variance is positive, not {variance}")
        self.log_std = 0.5 * math.log(variance)

    def forward(self, decoded: Tensor) -> Gaussian:
        """Gaussian of the given variance around the decoder's output."""
        return Gaussian(decoded, torch.full((), self.log_std).to(decoded))


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


@final
class LogisticMixtureLikelihood(Likelihood):
    """A mixture of `components` discretised logistics per pixel, read from `outputs` decoder channels.

    coupled: let the location of a channel depend on the channels before it. At the decoder's output 0 the
    components are spread over the range of grey values, so that they start apart and specialise.
    """

    def __init__(
        self,
        levels: int = 256,
        channels: int = 1,
        components: int = 5,
        coupled: bool = True,
        start: float = -1.5,
        floor: float = -7.0,
    ) -> None:
        super().__init__()
        if components < 1 or channels < 1:
            raise ValueError(f"no mixture of {components} components over {channels} channels")
        self.levels, self.channels, self.components, self.floor = levels, channels, components, floor
        pairs = channels * (channels - 1) // 2 if coupled else 0
        self.parts = [components, components * channels, components * channels, components * pairs]
        spread = torch.linspace(-1.0, 1.0, components + 2)[1:-1, None]
        self.centre = nn.Parameter(spread.repeat(1, channels))
        self.raw_scale = nn.Parameter(
            torch.full((components, channels), floor + inverse_softplus(start - floor))
        )

    @property
    def outputs(self) -> int:
        """Channels the decoder must have."""
        return sum(self.parts)

    def forward(self, decoded: Tensor) -> DiscretizedLogisticMixture:
        """The mixture of every pixel from the decoder's output (B, outputs, *space)."""
        space = decoded.shape[2:]
        logits, locations, scales, couplings = decoded.split(self.parts, 1)
        shape = (len(decoded), self.components, -1, *space)
        ones = (1,) * len(space)
        raw = scales.reshape(shape) + self.raw_scale.reshape(1, *self.raw_scale.shape, *ones)
        return DiscretizedLogisticMixture(
            logits,
            locations.reshape(shape) + self.centre.reshape(1, *self.centre.shape, *ones),
            soft_floor(raw, self.floor),
            torch.tanh(couplings.reshape(shape)) if self.parts[3] else None,
            self.levels,
        )
