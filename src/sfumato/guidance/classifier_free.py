"""Classifier-free guidance as a denoiser (Ho & Salimans 2022, eq. 6).

    mean = mean(nothing) + scale (mean(cond) - mean(nothing))

Extrapolating the posterior mean, eps or score is the same, for each is linear in the mean at a given
level. scale = 1 is the conditional model, 0 the unconditional one, above 1 trades diversity for
fidelity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition, stack
from ..core.shapes import per_sample
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level
from .strength import Interval, Strength


class ClassifierFree(Denoiser):
    """Guides one denoiser that was trained with dropped conditions.

    scale >= 0; interval = (low, high) in log-SNR. Where the answer is a single model's (scale 0 or 1,
    outside the interval, nothing to condition on) it is that model's own forward, bit for bit;
    elsewhere both are evaluated in one batch of twice the size.
    """

    def __init__(self, denoiser: Denoiser, scale: float, interval: Interval | None = None) -> None:
        super().__init__()
        self.denoiser, self.strength = denoiser, Strength(scale, interval)

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The guided posterior: mean extrapolated, variance that of the conditional model."""
        scale = self.strength.at(level)
        if not cond or (not isinstance(scale, Tensor) and scale == 1):
            return self.denoiser(x_t, level, cond)
        keep = torch.ones(x_t.shape[0], dtype=torch.bool, device=x_t.device)
        if not isinstance(scale, Tensor) and scale == 0:
            return self.denoiser(x_t, level, cond.drop(~keep))
        both = stack(cond.drop(keep), cond.drop(~keep))
        answer: Posterior = self.denoiser(torch.cat([x_t, x_t]), _twice(level), both)
        conditional, free = answer.mean.chunk(2)
        mean = torch.lerp(free, conditional, per_sample(scale, free))
        return Posterior(mean, _first_half(answer.var), _first_half(answer.fraction))


def _twice(level: Level) -> Level:
    alpha, sigma = (torch.cat([v, v]) if isinstance(v, Tensor) else v for v in (level.alpha, level.sigma))
    return Level(alpha, sigma)


def _first_half(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.chunk(2)[0]
