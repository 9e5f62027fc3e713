"""Diffusion as a density: the reverse process of a schedule, run by a solver over a grid.

    x_T = sigma_T eps,  eps ~ N(0, temperature^2 I)      the named draw is eps
    x_0 = integrate(denoiser, solver, grid, x_T)

The denoiser that is integrated is the trained one, wrapped by guidance where the plan's scale is not 1 and
by clipping of its prediction of x_0 where the plan says so.
"""

from __future__ import annotations

from typing import ClassVar, final

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..diffusion.denoiser import Clipped, Denoiser
from ..diffusion.schedule import Schedule
from ..guidance.classifier_free import ClassifierFree
from ..samplers.solver import integrate
from .density import Density, Plan


@final
class Diffusion(Density):
    """p(x_0 given a condition) over tensors of a shape (C, *space)."""

    slot: ClassVar[str] = "x_T"

    def __init__(self, denoiser: Denoiser, schedule: Schedule, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.shape = denoiser, schedule, tuple(shape)

    def draw(self, count: int, plan: Plan, *, cond: Condition = NOTHING, noise: Noise) -> Tensor:
        """temperature * eps, (count, C, *space); scaled to the first level only by `sample`."""
        return plan.temperature * noise.normal((count, *self.shape), self.dtype)

    def sample(
        self, start: Tensor, plan: Plan, *, cond: Condition = NOTHING, noise: Noise | None = None
    ) -> Tensor:
        """The clean tensors that the reverse process reaches from a draw."""
        levels = plan.grid.levels(self.schedule, plan.steps)
        x = start * levels[0].sigma
        return integrate(self.wrapped(plan, cond), plan.solver, levels, x, cond=cond, noise=noise)

    def wrapped(self, plan: Plan, cond: Condition) -> Denoiser:
        """The denoiser as the plan wants it: guided where there is a condition to be guided by, clipped."""
        denoiser = self.denoiser
        if plan.scale != 1.0 and cond:
            denoiser = ClassifierFree(denoiser, plan.scale, plan.interval)
        return Clipped(denoiser) if plan.clip else denoiser
