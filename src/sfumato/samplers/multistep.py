"""DPM-Solver++(2M): a second-order step at one network call (Lu et al. 2022, alg. 2).

In half log-SNR l = lambda/2 the probability-flow ODE has the exact solution, on every path,

    x_s = (sigma_s/sigma_t) x_t + alpha_s int_{l_t}^{l_s} e^(l - l_s) mean(l) dl

A constant mean gives DDIM. The line through the last two means, with its slope weighted as in the
paper, replaces mean by the extrapolation D at unchanged cost:

    x_s = (sigma_s/sigma_t) x_t + alpha_s (1 - e^-h) D,   D = mean_t + h/(2 h') (mean_t - mean_before)

with h = l_s - l_t and h' the step before. The first step, and a step to sigma_s = 0, are DDIM steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.stable import Scalar
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level, combine
from .ddim import exponential
from .solver import Solver


@dataclass(frozen=True, slots=True)
class Before:
    """The posterior mean (B, ...) of the step before, and its half log-SNR."""

    mean: Tensor
    half: Scalar


class DpmPlusPlus2M(Solver[Before | None]):
    """Two-step data-prediction solver, one network call per step, deterministic."""

    order = 2

    def init(self, x: Tensor) -> None:
        """Nothing is known before the first step."""

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: Before | None,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, Before | None]:
        """x_s from the means of this step and the one before."""
        mean = denoiser(x_t, t, cond).mean
        now = 0.5 * t.log_snr
        h = 0.5 * s.log_snr - now
        keep, gain = exponential(t, s)
        if state is None:
            return combine((keep, x_t), (gain, mean)), Before(mean, now)
        slope = _slope(h, now - state.half, s)
        extrapolated = (gain * (1.0 + slope), mean), (-gain * slope, state.mean)
        return combine((keep, x_t), *extrapolated), Before(mean, now)


def _slope(h: Scalar, before: Scalar, s: Level) -> Scalar:
    """h/(2 h'), and 0 where s is clean (h infinite)."""
    if isinstance(h, Tensor):
        return torch.where(torch.isfinite(h), 0.5 * h / before, 0.0)
    return 0.0 if s.clean else 0.5 * h / before
