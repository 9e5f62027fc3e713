"""Leaps: a step whose answer knows where it leads (Frans et al. 2024, shortcut models).

    x_s = keep x_t + gain answer(x_t, t, s)            keep, gain of DDIM (samplers/ddim.exponential)

DDIM's step is exact for an answer that stays the same from t to s. The posterior mean does not; an answer
that is told s can be the one for which the step is exact, however long it is. At s = t that is the posterior
mean, at a clean s the consistency function. s enters the network as a vector beside the noise level,

    (cos k phi, sin k phi),  k = 1 ... 4,      tan phi = sigma_s / (alpha_s d)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level
from .ddim import Ddim
from .solver import Solver

WAVES = 4
FEATURES = 2 * WAVES


class Leap(Solver[None]):
    """DDIM's step with an answer that is told its end; `data` is the deviation d of the data."""

    order = 1

    def __init__(self, data: float = 0.5) -> None:
        if not data > 0:
            raise ValueError(f"the standard deviation of the data must be positive, not {data}")
        self.data = data

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
        """One deterministic leap from t to s."""
        return Ddim().step(denoiser, x_t, t, s, None, cond=self.towards(s, x_t, cond))

    def towards(self, s: Level, x: Tensor, cond: Condition = NOTHING) -> Condition:
        """The condition with the end of the leap in its vector slot, (B, 8)."""
        return cond.join(Condition(vector=self.features(s, x)))

    def features(self, s: Level, x: Tensor) -> Tensor:
        """Waves of the angle of a level, (B, 8) in x's type."""
        if isinstance(s.sigma, Tensor) and isinstance(s.alpha, Tensor):
            phi = torch.atan2(s.sigma, s.alpha * self.data)
        else:
            angle = math.atan2(float(s.sigma), float(s.alpha) * self.data)
            phi = torch.full((x.shape[0],), angle, dtype=torch.float64, device=x.device)
        waves = phi[:, None] * torch.arange(1, WAVES + 1, device=x.device)
        return torch.cat([waves.cos(), waves.sin()], 1).to(x.dtype)
