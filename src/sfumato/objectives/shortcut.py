"""Shortcut models: steps of every length at once (Frans et al. 2024, algorithm 1).

Most examples learn the posterior mean, from data (or a guided teacher): half of them at no distance, s = t
at any level, and half for one cell of the grid of `first` steps, the shortest leap that is ever made, which
is thereby DDIM's step. The others learn that one leap is two half as long, made by the student itself
without gradient:

    x_s = leap_{u to s}(leap_{t to u}(x_t)),       target = (x_s - keep x_t) / gain

with t, u, s neighbours of a grid of 2, 4, ... `first` steps. It is progressive distillation with all its
rounds at once and no teacher but itself; truths at short distance are passed on to longer ones.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from ..core.noise import Noise
from ..diffusion.level import Level
from ..diffusion.times import Times
from ..diffusion.weighting import Weighting
from ..samplers.grids import Grid
from ..samplers.leap import Leap
from .denoising import weighed
from .distiller import Distiller, Scene, Teaching, ratios, squared
from .progressive import at, one_for_two

CELLS = 0.5  # of the examples that do not halve a leap: those that learn to cross one cell


@final
class Shortcut(Distiller):
    """`halved` is the part of the examples that halve a leap; `first` the steps of the finest grid.

    average  decay per step of the weights that make the two leaps (Frans et al.: 0.999); 0: the student's own
    """

    settled: bool = False

    def __init__(
        self,
        times: Times,
        weighting: Weighting,
        grid: Grid,
        solver: Leap,
        first: int = 64,
        halved: float = 0.4,
        teaching: Teaching | None = None,
        start: float | None = None,
        average: float = 0.0,
    ) -> None:
        alone = teaching is None or teaching.scale == 1.0
        super().__init__(teaching, 0.0, start, alone=alone, average=average)
        if first < 2 or first & (first - 1) or not 0.0 <= halved <= 1.0:
            raise ValueError(f"a grid of a power of two steps, and a part of the examples: {first}, {halved}")
        self.times, self.weighting, self.grid, self.solver = times, weighting, grid, solver
        self.first, self.halved = first, halved

    def error(self, scene: Scene, noise: Noise) -> Tensor:
        """Weighted error of the answer, (B,)."""
        count = len(scene.x)
        draw = noise.uniform((count,))
        leaps = draw < self.halved
        cells = ~leaps & (draw < self.halved + CELLS * (1.0 - self.halved))
        t, u, s = self._places(scene, leaps, cells, noise)
        x_t = t.mix(scene.x, noise.normal(scene.x.shape, scene.x.dtype))
        student = scene.density.denoiser
        with torch.no_grad():
            target = scene.x if self.alone else self.taught(x_t, t, scene.cond).mean
            rows = leaps.nonzero()[:, 0]
            if len(rows):
                near, middle, end = (_rows(level, rows) for level in (t, u, s))
                cond = scene.cond.map(lambda v: v[rows])
                itself = self.teaching.limited(self.behind(student))
                far = one_for_two(self.solver, itself, x_t[rows], near, middle, end, cond)
                target = target.index_copy(0, rows, far)
        answer = student(x_t, t, self.solver.towards(s, x_t, scene.cond)).mean
        return weighed(self.weighting, t, squared(answer, target))

    def _places(self, scene: Scene, leaps: Tensor, cells: Tensor, noise: Noise) -> tuple[Level, Level, Level]:
        """t, u and s (B,) each: neighbours of a grid where an example leaps, else one level three times.

        An example that crosses one cell has t at its one end, u and s at its other.
        """
        levels = self.grid.levels(scene.schedule, self.first)
        doublings = (self.first // 2).bit_length()
        stride = 2 ** torch.floor(noise.uniform(leaps.shape, torch.float64) * doublings).long()
        place = 2 * stride * torch.floor(scene.u * (self.first // (2 * stride))).long()
        drawn = scene.level(-2.0 * torch.log(ratios(self.times, scene)))
        cell = torch.floor(scene.u * self.first).long()
        index = (torch.where(leaps, place + k * stride, cell + min(k, 1)) for k in range(3))
        near, middle, far = (_where(leaps | cells, at(levels, i), drawn) for i in index)
        return near, middle, far


def _rows(level: Level, rows: Tensor) -> Level:
    alpha, sigma, log_snr = (v[rows] for v in _tensors(level))
    return Level.known(alpha, sigma, log_snr)


def _where(mask: Tensor, a: Level, b: Level) -> Level:
    parts = [torch.where(mask, x, y) for x, y in zip(_tensors(a), _tensors(b), strict=True)]
    return Level.known(*parts)


def _tensors(level: Level) -> tuple[Tensor, Tensor, Tensor]:
    alpha, sigma, log_snr = level.alpha, level.sigma, level.log_snr
    assert isinstance(alpha, Tensor) and isinstance(sigma, Tensor) and isinstance(log_snr, Tensor)
    return alpha, sigma, log_snr
