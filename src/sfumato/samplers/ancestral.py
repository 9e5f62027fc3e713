"""Ancestral sampling: draw x_s from the model's reverse step (Ho et al. 2020, alg. 2).

    x_s = from_noisy x_t + from_clean mean + var^1/2 z

with the coefficients of q(x_s | x_t, x_0) and a chosen reverse variance. No noise is added in the
step to clean data (sigma_s = 0), whose variance belongs to a decoder. Between any two levels of a
grid it is the strided DDPM of Nichol & Dhariwal (2021, sec. 4).

A tilt is a gradient g(x_t) that shifts each drawn step by var g, as classifier guidance does with
g = s grad log p(y given x_t) (Dhariwal & Nichol 2021, alg. 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.shapes import per_sample
from ..core.stable import sqrt
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level, Term
from ..diffusion.transition import ReverseVariance, SmallVariance, transition
from .solver import Solver, draw

Tilt: TypeAlias = Callable[[Tensor, Level, Condition], Tensor | None]


class Ancestral(Solver[None]):
    """One draw per step; weak order 1 in the grid spacing. tilt(x_t, t, cond) -> (B, C, *space) or None."""

    order = 1

    def __init__(self, variance: ReverseVariance | None = None, tilt: Tilt | None = None) -> None:
        self.variance, self.tilt = variance or SmallVariance(), tilt

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
        if s.clean:
            return posterior.combine(q.from_noisy, x_t, q.from_clean), None
        std = sqrt(self.variance(t, s, posterior))
        if isinstance(s.sigma, Tensor) and isinstance(std, Tensor):
            std = std * per_sample(s.sigma > 0, std)
        shift: tuple[Term, ...] = ()
        if self.tilt is not None and (gradient := self.tilt(x_t, t, cond)) is not None:
            shift = ((std * std, gradient),)
        return posterior.combine(q.from_noisy, x_t, q.from_clean, (std, draw(noise, x_t)), *shift), None
