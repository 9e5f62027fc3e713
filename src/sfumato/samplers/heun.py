"""Heun's second-order step of the probability-flow ODE in tau = sigma/alpha (Karras et al. 2022, alg. 1).

In y = x/alpha the ODE is dy/dtau = eps on every path. Euler gives x' (the DDIM step); with the mean
at x', the trapezoid's correction reduces to a difference of posterior means:

    x' = keep x_t + gain mean(x_t, t),      gain = alpha_s (1 - e^-h),      h = (lambda_s - lambda_t)/2
    x_s = x' + alpha_s (e^h - 1)/2 (mean(x', s) - mean(x_t, t))

The first line tells mean(x_t, t) from x' and x_t, which leaves one mean, the one just computed:

    x_s = (1 - w) x' + w keep x_t + alpha_s (w - 1/2) mean(x', s),      w = e^h/2

Steps from pure noise (alpha_t = 0) or to clean data (sigma_s = 0) have infinite h and stay Euler
steps, so a grid of n steps costs 2n - 1 network calls.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.stable import Scalar, expm1
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level
from .ddim import exponential
from .solver import Solver


class Heun(Solver[None]):
    """Two network calls per step, deterministic."""

    order = 2

    def init(self, x: Tensor) -> None:
        """No state."""

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: None,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, None]:
        """Euler, then the trapezoid."""
        keep, gain = exponential(t, s)
        posterior: Posterior = denoiser(x_t, t, cond)
        euler = posterior.combine(keep, x_t, gain)
        w, new = _trapezoid(t, s)
        if not isinstance(w, Tensor) and w == 0:
            return euler, None
        posterior = denoiser(euler, s, cond)
        return posterior.combine(1.0 - w, euler, new, (w * keep, x_t)), None


def _trapezoid(t: Level, s: Level) -> tuple[Scalar, Scalar]:
    """w = e^h/2 and alpha_s (w - 1/2); both 0 where h is infinite."""
    growth = expm1(0.5 * (s.log_snr - t.log_snr))
    w, new = 0.5 * (growth + 1.0), 0.5 * s.alpha * growth
    if isinstance(w, Tensor):
        finite = torch.isfinite(w)
        return torch.where(finite, w, 0.0), torch.where(finite, new, 0.0)
    return (w, new) if w < math.inf else (0.0, 0.0)
