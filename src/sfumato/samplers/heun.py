"""Heun's second-order step of the probability-flow ODE in tau = sigma/alpha (Karras et al. 2022, alg. 1).

In y = x/alpha the ODE is dy/dtau = eps on every path. Euler gives x' (the DDIM step); with the mean
at x', the trapezoid's correction reduces to a difference of posterior means:

    x_s = x' + alpha_s (e^h - 1)/2 (mean(x', s) - mean(x_t, t)),     h = (lambda_s - lambda_t)/2

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
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level, add
from .ddim import ddim
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
        mean = denoiser(x_t, t, cond).mean
        x_s = ddim(x_t, mean, t, s)
        gain = _gain(t, s)
        if not isinstance(gain, Tensor) and gain == 0:
            return x_s, None
        return add(add(x_s, gain, denoiser(x_s, s, cond).mean), -gain, mean), None


def _gain(t: Level, s: Level) -> Scalar:
    """alpha_s (e^h - 1)/2, and 0 where h is infinite."""
    gain = 0.5 * s.alpha * expm1(0.5 * (s.log_snr - t.log_snr))
    if isinstance(gain, Tensor):
        return torch.where(torch.isfinite(gain), gain, 0.0)
    return gain if gain < math.inf else 0.0
