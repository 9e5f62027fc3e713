"""Distributions over finite sets.

    Bernoulli    P(1) = sigmoid(l);  log P(b) = b l - softplus(l)
    Categorical  P(k) = softmax(l)_k

Images live in [-1, 1]; a Bernoulli reads a pixel as b = (x + 1) / 2. For black-and-white images that is a
probability. For grey ones it is the expected log-likelihood of an image whose pixels were switched on
with probability b, i.e. minus the cross-entropy: a customary loss, but no density of the grey values.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import DataError
from ..core.noise import Noise
from ..core.shapes import event_sum
from ..core.stable import inverse_cdf
from .base import Distribution, kl_per_unit, no_closed_form

ROUNDING = 1e-4  # beyond [-1, 1], as float32 may leave the ends


@final
class Bernoulli(Distribution):
    """Pixels that are -1 or +1; logits (B, ...)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """2 sigmoid(l) - 1 = tanh(l / 2), in [-1, 1]."""
        return torch.tanh(0.5 * self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        """Sum of b l - softplus(l), b = (x + 1) / 2, in nats, (B,)."""
        return event_sum(0.5 * (x + 1.0) * self.logits - F.softplus(self.logits))

    def check(self, x: Tensor) -> None:
        """Outside [-1, 1] b is no probability, and the cross-entropy has no lower bound."""
        low, high = float(x.min()), float(x.max())
        if not (low >= -1.0 - ROUNDING and high <= 1.0 + ROUNDING):
            raise DataError(
                f"a sigmoid likelihood reads values as probabilities, and these go from "
                f"{0.5 * (low + 1.0):.3g} to {0.5 * (high + 1.0):.3g} instead of 0 to 1",
                remedy="Scale the data to their range, or choose GaussianLikelihood.",
            )

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """-1 or +1 with probability sigmoid(l / temperature) of +1."""
        u = noise.uniform(self.logits.shape, self.logits.dtype)
        return torch.where(u < torch.sigmoid(self.logits / temperature), 1.0, -1.0).to(u)

    def entropy(self) -> Tensor:
        """softplus(l) - l sigmoid(l), summed, in nats, (B,)."""
        return event_sum(F.softplus(self.logits) - self.logits * torch.sigmoid(self.logits))


@final
class Categorical(Distribution):
    """Integers 0 .. K - 1; logits (B, ..., K), events (B, ...) int64."""

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = F.log_softmax(logits, -1)

    @property
    def mean(self) -> Tensor:
        """The class probabilities, (B, ..., K): the mean of the one-hot code."""
        return self.log_probs.exp()

    def log_prob(self, x: Tensor) -> Tensor:
        """Sum of log P(x) in nats, (B,)."""
        return event_sum(self.log_probs.gather(-1, x.unsqueeze(-1)).squeeze(-1))

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Integers (B, ...) drawn with probabilities softmax(l / temperature)."""
        shape, dtype = self.log_probs.shape[:-1], self.log_probs.dtype
        return self.quantile(noise.uniform(shape, dtype), temperature)

    def quantile(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """F^-1(u), the first integer whose distribution function exceeds u (B, ...), in u's precision.

        At temperature 0 the likeliest integer, whatever u.
        """
        if temperature == 0.0:
            return self.log_probs.argmax(-1)
        p = F.softmax(self.log_probs.to(u.dtype) / temperature, -1)
        return inverse_cdf(p, u)

    def entropy(self) -> Tensor:
        """-sum_k P(k) log P(k), summed, in nats, (B,)."""
        return event_sum(-(self.log_probs * self.mean).sum(-1))


@kl_per_unit.register
def _(q: Bernoulli, p: Distribution) -> Tensor:
    if not isinstance(p, Bernoulli):
        raise no_closed_form(q, p)
    return torch.sigmoid(q.logits) * (q.logits - p.logits) + F.softplus(p.logits) - F.softplus(q.logits)


@kl_per_unit.register
def _(q: Categorical, p: Distribution) -> Tensor:
    if not isinstance(p, Categorical):
        raise no_closed_form(q, p)
    return (q.mean * (q.log_probs - p.log_probs)).sum(-1)
