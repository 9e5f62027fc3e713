"""Where a noisy tensor stands: x_t = alpha x + sigma eps with eps ~ N(0, I).

    SNR = alpha^2 / sigma^2        log_snr = log SNR        (Kingma et al. 2021, eq. 3)

Everything about a noise level follows from (alpha, sigma): no integer step, no schedule, no beta is
needed to denoise, to weigh a loss or to step from one level to another. Both are Python floats when
a whole batch shares the level (sampling: coefficients cost no kernel) or tensors (B,), best in
float64, when each sample has its own (training, distillation).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.shapes import per_sample
from ..core.stable import Scalar, log


def combine(a: Scalar, x: Tensor, b: Scalar, y: Tensor) -> Tensor:
    """a x + b y for x, y (B, ...), with scalars per batch or per sample; never changes x or y.

    With floats it is two kernels and, where no gradient can be asked for, one allocation.
    """
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return per_sample(a, x) * x + per_sample(b, x) * y
    scaled = torch.mul(x, a)
    return torch.add(scaled, y, alpha=b) if torch.is_grad_enabled() else scaled.add_(y, alpha=b)


def add(x: Tensor, b: Scalar, y: Tensor) -> Tensor:
    """x + b y in one kernel for a float b, per sample for b (B,); element by element for b (B, ...)."""
    return x + per_sample(b, x) * y if isinstance(b, Tensor) else torch.add(x, y, alpha=b)


@dataclass(frozen=True, slots=True)
class Level:
    """A level of noise: signal scale alpha >= 0 and noise scale sigma >= 0, floats or (B,) tensors."""

    alpha: Scalar
    sigma: Scalar

    @property
    def log_snr(self) -> Scalar:
        """log alpha^2 / sigma^2 in nats; +inf where sigma = 0, -inf where alpha = 0."""
        return 2.0 * (log(self.alpha) - log(self.sigma))

    @property
    def batched(self) -> bool:
        """Whether each sample has its own level."""
        return isinstance(self.alpha, Tensor) or isinstance(self.sigma, Tensor)

    def mix(self, x: Tensor, eps: Tensor) -> Tensor:
        """The noisy tensor alpha x + sigma eps, (B, ...)."""
        return combine(self.alpha, x, self.sigma, eps)


CLEAN = Level(1.0, 0.0)
