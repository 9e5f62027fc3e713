"""Diffusion as a density: the reverse process of a schedule, run by a solver over a grid.

    x_T = sigma_T eps,  eps ~ N(0, temperature^2 I)      the named draw is eps
    x_0 = integrate(denoiser, solver, grid, x_T)

Where the condition holds a first guess of x_0 (DiffuseVAE's reconstruction), the process may start later,
at a level t < 1 of the schedule, from the guess noised to there (Meng et al. 2022, SDEdit):

    x_t = alpha_t guess + sigma_t eps

What the guess has right is not drawn again, and fewer steps are left. In DiffuseVAE's second formulation this
is the same line: its frame y = x_t - x_hat follows the plain process of x_0.

The steps are float32; in a plan of precision bf16 the network's products are rounded to bfloat16. The
denoiser that is integrated is the trained one, wrapped by guidance where the plan's scale is not 1 and
by clipping of its prediction of x_0 where the plan says so. A scale without anything to be guided by (neither
a condition nor a guide) is refused: it would change nothing.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar, final

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.errors import UsageError
from ..core.noise import Noise
from ..diffusion.denoiser import Clipped, Denoiser
from ..diffusion.level import Level
from ..diffusion.schedule import Schedule, Until
from ..guidance.classifier_free import ClassifierFree
from ..nets.compute import PRECISIONS, Compute
from ..samplers.solver import Solver, integrate
from .density import Density, Plan, check_guided


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
        levels = self.levels(plan)
        x = start * levels[0].sigma if plan.start is None else levels[0].mix(self.guess(cond), start)
        denoiser, solver = self.wrapped(plan, cond)
        rounded = plan.precision != Plan.precision  # float32 leaves what a caller has chosen
        with Compute(PRECISIONS[plan.precision]).context(x.device) if rounded else nullcontext():
            return integrate(denoiser, solver, levels, x, cond=cond, noise=noise)

    def levels(self, plan: Plan) -> list[Level]:
        """The levels that a plan visits, noisiest first, clean data last; solvers ask at all but the last."""
        schedule = self.schedule if plan.start is None else Until(self.schedule, plan.start)
        return plan.grid.levels(schedule, plan.steps)

    def guess(self, cond: Condition) -> Tensor:
        """The first guess of x_0 that a condition holds, (B, C, *space); UsageError where it holds none."""
        if cond.concat is None or cond.concat.shape[1:] != self.shape:
            raise UsageError(
                "a start below pure noise needs a first guess, which this model's condition does not hold",
                remedy="Leave --start out, or use a diffusevae run.",
            )
        return cond.concat

    def wrapped(self, plan: Plan, cond: Condition) -> tuple[Denoiser, Solver[Any]]:
        """Denoiser and solver as the plan wants them: guided and clipped; UsageError as `check_guided`."""
        check_guided(plan, conditional=bool(cond))
        denoiser, solver = self.denoiser, plan.solver
        if plan.guide is not None:
            denoiser, solver = plan.guide.steer(denoiser, solver, plan.scale, plan.interval)
        elif plan.scale != 1.0:
            denoiser = ClassifierFree(denoiser, plan.scale, plan.interval)
        return Clipped(denoiser) if plan.clip else denoiser, solver
