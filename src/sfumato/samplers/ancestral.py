"""Ancestral sampling: draw x_s from the model's reverse step (Ho et al. 2020, alg. 2).

    x_s = from_noisy x_t + from_clean mean + var^1/2 z

with the coefficients of q(x_s | x_t, x_0) and a chosen reverse variance. No noise is added in the
step to clean data (sigma_s = 0), whose variance belongs to a decoder. Between any two levels of a
grid it is the strided DDPM of Nichol & Dhariwal (2021, sec. 4).
"""

from __future__ import annotations

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.shapes import per_sample
from ..core.stable import sqrt
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level
from ..diffusion.transition import ReverseVariance, SmallVariance, transition
from .solver import Solver, draw


class Ancestral(Solver[None]):
    """One draw per step; weak order 1 in the grid spacing."""

    order = 1

    def __init__(self, variance: ReverseVariance | None = None) -> None:
        self.variance = variance or SmallVariance()

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
        """x_s drawn from the reverse step."""
        posterior: Posterior = denoiser(x_t, t, cond)
        q = transition(t, s)
        if not isinstance(s.sigma, Tensor) and s.sigma == 0:
            return posterior.combine(q.from_noisy, x_t, q.from_clean), None
        std = sqrt(self.variance(t, s, posterior))
        if isinstance(s.sigma, Tensor) and isinstance(std, Tensor):
            std = std * per_sample(s.sigma > 0, std)
        return posterior.combine(q.from_noisy, x_t, q.from_clean, (std, draw(noise, x_t))), None
