"""Consistency: all points of a trajectory have one answer, the trajectory's clean end.

    loss = |f(x_t, t) - f'(x_r, r)|_c / (t - r),      |d|_c = (mean d^2 + c^2)^1/2 - c      pseudo-Huber

t and r < t are ratios sigma/alpha, x_t and x_r two points of one trajectory, and f' does not learn. With the
identity at the clean end (a row of diffusion/scaling.py) the truth there is passed on to all levels.

x_r      Stepped: a solver's step of the teacher from x_t       distillation (Song et al. 2023, algorithm 2)
         Mixed: the same clean image under the same noise       training (algorithm 3), and tuning
(t, r)   Doubling: neighbours on Karras' grid of N levels, N doubling over the stage
                                                                (Song & Dhariwal 2023, sec. 3.4)
         Easing: r = t (1 - n(t) / 2^(k+1)), k rising over the stage; at first r = 0 for most t, which is
         diffusion training: from a trained model it goes on smoothly (Geng et al. 2024, eq. 13)
f'       the student itself (stop-gradient), or an average of its weights (Song et al. 2023)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor

from ..core.condition import Condition
from ..core.noise import Noise
from ..core.shapes import event_mean
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level
from ..diffusion.schedule import Schedule
from ..diffusion.times import Times
from ..samplers.solver import Solver
from .distiller import Distiller, Scene, Teaching, ratios

MOST_STAGES = 30  # of easing: a gap of 2^-30 t is far above float64's rounding, and far below the network's
HUBER = 0.00054  # Song & Dhariwal 2023, sec. 3.3, for a mean over elements


class Pairing(ABC):
    """Where on its trajectory an example was before."""

    @abstractmethod
    def earlier(
        self, teacher: Denoiser, x: Tensor, eps: Tensor, x_t: Tensor, t: Level, r: Level, cond: Condition
    ) -> Tensor:
        """x_r (B, ...) of x_t = alpha_t x + sigma_t eps; levels (B,)."""


@final
class Mixed(Pairing):
    """The same image under the same noise: unbiased only as r approaches t, and needs no teacher."""

    def earlier(
        self, teacher: Denoiser, x: Tensor, eps: Tensor, x_t: Tensor, t: Level, r: Level, cond: Condition
    ) -> Tensor:
        """alpha_r x + sigma_r eps."""
        return r.mix(x, eps)


@final
class Stepped(Pairing):
    """A step of the teacher's probability-flow ODE."""

    def __init__(self, solver: Solver[Any]) -> None:
        self.solver = solver

    def earlier(
        self, teacher: Denoiser, x: Tensor, eps: Tensor, x_t: Tensor, t: Level, r: Level, cond: Condition
    ) -> Tensor:
        """The solver's x_r."""
        return self.solver.step(teacher, x_t, t, r, self.solver.init(x_t), cond=cond)[0]


class Spacing(ABC):
    """The curriculum: how far apart the two points are, as a function of the part of the stage done."""

    @abstractmethod
    def __call__(self, ratio: Tensor, progress: float, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """(t, r) in sigma/alpha, (B,) float64 each, for a drawn sigma/alpha (B,)."""


@final
class Doubling(Spacing):
    """Neighbours of Karras' grid with first ... last intervals, doubled at equal parts of the stage."""

    def __init__(
        self, first: int = 10, last: int = 160, rho: float = 7.0, low: float = 0.002, high: float = 80.0
    ) -> None:
        if not 1 <= first <= last or not 0 < low < high:
            raise ValueError(
                f"a grid grows from 1 interval or more to no fewer, between positive levels: "
                f"from {first} to {last}, between {low} and {high}"
            )
        self.first, self.last, self.rho, self.low, self.high = first, last, rho, low, high

    def intervals(self, progress: float) -> int:
        """N after a part of the stage."""
        doublings = math.floor(math.log2(self.last / self.first)) + 1
        return min(self.last, self.first * 2 ** min(int(progress * doublings), doublings - 1))

    def __call__(self, ratio: Tensor, progress: float, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The grid's interval around a ratio."""
        high = min(self.high, math.exp(-0.5 * float(schedule.log_snr(1.0))))
        low, high = self.low ** (1 / self.rho), high ** (1 / self.rho)
        n = self.intervals(progress)
        place = torch.ceil((ratio ** (1 / self.rho) - low) / (high - low) * n).clamp(1, n)
        t, r = ((low + (high - low) * k / n) ** self.rho for k in (place, place - 1))
        return t, r


@final
class Easing(Spacing):
    """r = t (1 - n(t) / 2^(k+1)), n(t) = 1 + 8 sigmoid(-t / 2d), at least 0; k = 0 ... stages - 1.

    n is Geng et al.'s for data of standard deviation d = 1/2; t is taken relative to it.
    """

    def __init__(self, data: float = 0.5, stages: int = 8) -> None:
        if not 1 <= stages <= MOST_STAGES or not data > 0:
            raise ValueError(
                f"stages are 1 to {MOST_STAGES} and the data's deviation positive, not {stages}, {data}"
            )
        self.data, self.stages = data, stages

    def __call__(self, ratio: Tensor, progress: float, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """The drawn ratio and the smaller one."""
        k = min(int(progress * self.stages), self.stages - 1)
        n = 1.0 + 8.0 * torch.sigmoid(-ratio / (2.0 * self.data))
        return ratio, (ratio * (1.0 - n / 2.0 ** (k + 1))).clamp(min=0.0)


@final
class SelfConsistency(Distiller):
    """The consistency loss; see the module for pairing and spacing.

    times    distribution of t;  huber  c of the pseudo-Huber distance
    average  decay per step of the target's weights; 0: the student's own
    """

    settled: bool = False

    def __init__(
        self,
        times: Times,
        spacing: Spacing,
        pairing: Pairing,
        average: float = 0.0,
        huber: float = HUBER,
        teaching: Teaching | None = None,
        dropout: float = 0.0,
        start: float | None = None,
    ) -> None:
        super().__init__(teaching, dropout, start, alone=isinstance(pairing, Mixed), average=average)
        if huber < 0:
            raise ValueError(f"c is not negative: {huber}")
        self.times, self.spacing, self.pairing, self.huber = times, spacing, pairing, huber

    def error(self, scene: Scene, noise: Noise) -> Tensor:
        """Distance between the two answers over the distance of their ratios, (B,)."""
        student = scene.density.denoiser
        drawn = ratios(self.times, scene)
        t_ratio, r_ratio = self.spacing(drawn, scene.progress, scene.schedule)
        t, r = (scene.level(-2.0 * torch.log(v)) for v in (t_ratio, r_ratio))
        eps = noise.normal(scene.x.shape, scene.x.dtype)
        x_t = t.mix(scene.x, eps)
        with torch.no_grad():
            teacher = student if self.alone else self.taught
            x_r = self.pairing.earlier(teacher, scene.x, eps, x_t, t, r, scene.cond)
            target = self.behind(student)(x_r, r, scene.cond).mean
        answer = student(x_t, t, scene.cond).mean
        return pseudo_huber(answer, target, self.huber) / (t_ratio - r_ratio).to(answer.dtype)


def pseudo_huber(a: Tensor, b: Tensor, c: float) -> Tensor:
    """(mean (a - b)^2 + c^2)^1/2 - c over the elements of each example, (B,); 0 where a = b, c at least 1e-8.

    Written as s / ((s + c^2)^1/2 + c), which neither cancels for small s nor is ever negative.
    """
    square, c = event_mean((a - b) ** 2), max(c, 1e-8)
    return square / (torch.sqrt(square + c * c) + c)
