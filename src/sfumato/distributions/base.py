"""A probability distribution over tensors, and the divergence between two of them.

    log_prob(x)   log p(x) in nats, summed over the event: (B, ...) -> (B,)
    sample(noise) one draw per row, from that row's own noise
    kl(q, p)      KL(q || p) = E_q[log q - log p] in nats, (B,); closed form or TypeError

Every row of a batch is one event, whatever its shape; its elements are independent given the
parameters. A log-probability is of the event as a whole, so that sums of nats need no care about means:
dividing by the number of elements is the business of whoever reports a number per dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import singledispatch

from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_sum


class Distribution(ABC):
    """A batch of independent distributions over events of one shape."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E[x], (B, ...)."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of events x (B, ...) in nats, (B,)."""

    @abstractmethod
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """One draw per row; a temperature below 1 draws nearer to the mode (1: the distribution itself)."""

    def check(self, x: Tensor) -> None:  # noqa: B027
        """DataError where events x cannot be told from this family at all; by default all can."""


@singledispatch
def kl_per_unit(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p) of every element of the event in nats, (B, ...): which units carry information."""
    raise no_closed_form(q, p)


def kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q || p) = E_q[log q(x) - log p(x)] >= 0 in nats, (B,)."""
    return event_sum(kl_per_unit(q, p))


def no_closed_form(q: Distribution, p: Distribution) -> TypeError:
    """The error for a pair of families whose divergence has no closed form here."""
    return TypeError(f"KL({type(q).__name__} || {type(p).__name__}) has no closed form; sample it")
