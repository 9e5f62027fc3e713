"""Progressive distillation: a student whose one step is its teacher's two (Salimans & Ho 2022, algorithm 2).

On a grid of 2n steps the teacher goes from t by way of u to s with the library's DDIM, each example at a
level of its own. The answer with which one DDIM step reaches the same point follows from that step itself,
x_s = keep x_t + gain answer (samplers/ddim.exponential):

    target = (x_s - keep x_t) / gain
    loss   = max(SNR_t, 1) |student(x_t, t) - target|^2                  truncated SNR (their sec. 4)

The trained student is the teacher of the round with half the steps. `Matching` makes a student answer like
its teacher at every level: it builds guidance in, or changes what the network predicts, before any round.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.errors import UsageError
from ..core.noise import Noise
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level, combine
from ..diffusion.schedule import Schedule
from ..diffusion.times import Times
from ..diffusion.weighting import Weighting
from ..samplers.ddim import Ddim, exponential
from ..samplers.grids import Grid
from ..samplers.solver import Solver
from .denoising import diffusion_of, weighed
from .distiller import Distiller, Scene, Teaching, ratios, squared


@final
class Progressive(Distiller):
    """One round: then the student makes `steps` steps on the grid where its teacher made twice as many."""

    def __init__(
        self,
        steps: int,
        grid: Grid,
        weighting: Weighting,
        teaching: Teaching | None = None,
        dropout: float = 0.0,
        start: float | None = None,
    ) -> None:
        super().__init__(teaching, dropout, start)
        if steps < 1:
            raise ValueError(f"a round leaves at least one step, not {steps}")
        self.steps, self.grid, self.weighting = steps, grid, weighting

    def open(self, model: nn.Module, target: int) -> None:
        """The student becomes the teacher; UsageError for a grid whose halves are not its every other level.

        More even steps than reach down to the cleanest level are spread otherwise (samplers/grids.Angle): a
        round would learn levels that the next one does not start from.
        """
        _, density = diffusion_of(model)
        schedule = self.part(density)
        if not nested(self.grid, schedule, self.steps):
            fits = self.steps
            while fits > 1 and not nested(self.grid, schedule, fits):
                fits //= 2
            raise UsageError(
                f"{2 * self.steps} steps are too many to be halved on this noise schedule",
                where="progressive distillation",
                remedy=f"Begin with fewer: --set first={2 * fits}",
            )
        super().open(model, target)

    def error(self, scene: Scene, noise: Noise) -> Tensor:
        """Truncated-SNR error of the student's answer, (B,)."""
        levels = self.grid.levels(scene.schedule, 2 * self.steps)
        place = 2 * torch.floor(scene.u * self.steps).long()
        t, u, s = (at(levels, place + k) for k in range(3))
        x_t = t.mix(scene.x, noise.normal(scene.x.shape, scene.x.dtype))
        with torch.no_grad():
            target = one_for_two(Ddim(), self.taught, x_t, t, u, s, scene.cond)
        answer = scene.density.denoiser(x_t, t, scene.cond).mean
        return weighed(self.weighting, t, squared(answer, target))


@final
class Matching(Distiller):
    """The student answers as its teacher does, at every level; needed before rounds if the two differ."""

    def __init__(
        self,
        times: Times,
        weighting: Weighting,
        teaching: Teaching | None = None,
        dropout: float = 0.0,
        start: float | None = None,
    ) -> None:
        super().__init__(teaching, dropout, start)
        self.times, self.weighting = times, weighting

    def error(self, scene: Scene, noise: Noise) -> Tensor:
        """Weighted error between the two answers, (B,)."""
        t = scene.level(-2.0 * torch.log(ratios(self.times, scene)))
        x_t = t.mix(scene.x, noise.normal(scene.x.shape, scene.x.dtype))
        with torch.no_grad():
            target = self.taught(x_t, t, scene.cond).mean
        answer = scene.density.denoiser(x_t, t, scene.cond).mean
        return weighed(self.weighting, t, squared(answer, target))


def nested(grid: Grid, schedule: Schedule, steps: int) -> bool:
    """Whether the levels of n steps are every other one of those of 2n, but for pure noise and the data."""
    coarse, fine = (grid.levels(schedule, n)[1:-1] for n in (steps, 2 * steps))
    return all(
        math.isclose(a.log_snr, b.log_snr, abs_tol=1e-6) for a, b in zip(coarse, fine[1::2], strict=True)
    )


def one_for_two(
    solver: Solver[None],
    teacher: Denoiser,
    x_t: Tensor,
    t: Level,
    u: Level,
    s: Level,
    cond: Condition = NOTHING,
) -> Tensor:
    """The answer (B, ...) whose one DDIM step from t to s lands where two steps of the solver, by u, do."""
    middle, _ = solver.step(teacher, x_t, t, u, None, cond=cond)
    end, _ = solver.step(teacher, middle, u, s, None, cond=cond)
    keep, gain = exponential(t, s)
    return combine((1.0 / gain, end), (-keep / gain, x_t))


def at(levels: list[Level], index: Tensor) -> Level:
    """A level for each example: levels[index_b], as (B,) float64."""
    table = torch.tensor(
        [[level.alpha, level.sigma, level.log_snr] for level in levels],
        dtype=torch.float64,
        device=index.device,
    )
    alpha, sigma, log_snr = table[index].unbind(1)
    return Level.known(alpha, sigma, log_snr)
