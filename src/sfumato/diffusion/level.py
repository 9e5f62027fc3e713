"""Where a noisy tensor stands: x_t = alpha x + sigma eps with eps ~ N(0, I).

    SNR = alpha^2 / sigma^2        log_snr = log SNR        (Kingma et al. 2021, eq. 3)

Everything about a noise level follows from (alpha, sigma): no integer step, no schedule, no beta is
needed to denoise, to weigh a loss or to step from one level to another. Both are Python floats when
a whole batch shares the level (sampling: coefficients cost no kernel) or tensors (B,), best in
float64, when each sample has its own (training, distillation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from ..core.shapes import per_sample
from ..core.stable import Scalar, log

Term: TypeAlias = tuple[Scalar, Tensor]

ZERO = torch.zeros((), device="cpu")  # 0 + a x takes a float as it is; a * x makes a tensor of it first


def combine(first: Term, *rest: Term) -> Tensor:
    """a x + b y + ... for the terms (a, x), (b, y), ... with tensors (B, ...); changes none of them.

    Scalars are floats, one per sample (B,), or one per element (B, ...). A term with a float is one
    kernel, and all such terms share one allocation where no gradient can be asked for.
    """
    a, x = first
    total = per_sample(a, x) * x if isinstance(a, Tensor) else torch.add(ZERO, x, alpha=a)
    owned = not torch.is_grad_enabled()
    for b, y in rest:
        if isinstance(b, Tensor):
            total = total + per_sample(b, total) * y
        else:
            total = total.add_(y, alpha=b) if owned else torch.add(total, y, alpha=b)
    return total


@dataclass(frozen=True)
class Level:
    """A level of noise: signal scale alpha >= 0 and noise scale sigma >= 0, floats or (B,) tensors."""

    alpha: Scalar
    sigma: Scalar

    @cached_property
    def log_snr(self) -> Scalar:
        """log alpha^2 / sigma^2 in nats; +inf where sigma = 0, -inf where alpha = 0."""
        return 2.0 * (log(self.alpha) - log(self.sigma))

    @classmethod
    def known(cls, alpha: Scalar, sigma: Scalar, log_snr: Scalar) -> Level:
        """A level of which the log-SNR is known already and need not be computed from the scales."""
        level = cls(alpha, sigma)
        vars(level)["log_snr"] = log_snr
        return level

    @property
    def batched(self) -> bool:
        """Whether each sample has its own level."""
        return isinstance(self.alpha, Tensor) or isinstance(self.sigma, Tensor)

    @property
    def clean(self) -> bool:
        """Whether the level of a whole batch is sigma = 0; False where each sample has its own (B,)."""
        return not isinstance(self.sigma, Tensor) and self.sigma == 0

    def mix(self, x: Tensor, eps: Tensor) -> Tensor:
        """The noisy tensor alpha x + sigma eps, (B, ...)."""
        return combine((self.alpha, x), (self.sigma, eps))


CLEAN = Level(1.0, 0.0)
