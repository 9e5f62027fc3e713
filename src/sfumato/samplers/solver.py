"""Solving the reverse process: a pure step between two levels, and the only loop.

    x_s, state = step(denoiser, x_t, t, s, state)        t noisier than s

A solver remembers nothing: what a multistep method knows of earlier steps is its explicit state, so
one solver serves many trajectories at once, and a distiller may take single steps with a level of
its own for each sample. Steps are written in the posterior mean and the two levels, hence hold on
every path (VP, VE, linear ...), down to sigma = 0.

Every step divides by what lies between its levels, log-SNR(s) - log-SNR(t), and all that a solver promises is
promised for the way from noise to data. So the loop takes levels whose log-SNR rises strictly, clean data
(sigma = 0) at most once and last. A solver that moves within a level says that it may also stay at one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.errors import UsageError
from ..core.noise import Noise
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level

S = TypeVar("S")
Watch: TypeAlias = Callable[[Tensor, Level, Tensor], object]


class Solver(ABC, Generic[S]):
    """A step of order `order`: its global error falls at least as (grid spacing)^order.

    stays: whether a step may end at the level where it began.
    """

    order: int
    stays: bool = False

    @abstractmethod
    def init(self, x: Tensor) -> S:
        """The state before the first step from x (B, ...)."""

    @abstractmethod
    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: S,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, S]:
        """x_s (B, ...) and the new state, from x_t at level t; levels are floats or (B,)."""


def integrate(
    denoiser: Denoiser,
    solver: Solver[Any],
    levels: Sequence[Level],
    x: Tensor,
    *,
    cond: Condition = NOTHING,
    noise: Noise | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Carry x (B, C, *space) from levels[0] through every level to levels[-1].

    UsageError for levels that do not lead from noise to data; see `check_levels`.
    watch(x_t, level, mean) is called before each step with the first posterior mean of that step
    (so never for the last level). Gradients and inference mode are the caller's business.
    """
    check_levels(levels, stays=solver.stays)
    seen = _Seen(denoiser) if watch is not None else None
    model, state = seen or denoiser, solver.init(x)
    for t, s in pairwise(levels):
        x_t = x
        x, state = solver.step(model, x_t, t, s, state, cond=cond, noise=noise)
        if seen is not None and watch is not None:
            watch(x_t, t, seen.take())
    return x


def check_levels(levels: Sequence[Level], *, stays: bool = False) -> None:
    """UsageError unless the log-SNR rises strictly (stays: does not fall), clean data being the last level.

    Of levels that each sample has its own of (B,) nothing is asked: it would read them back from a device.
    """
    for k, (t, s) in enumerate(pairwise(levels), 1):
        before, after = t.log_snr, s.log_snr
        if isinstance(before, Tensor) or isinstance(after, Tensor) or before < after:
            continue
        if stays and before == after < math.inf:
            continue
        if before == math.inf:
            what = "sampling cannot go on from clean data"
        elif before == after:
            what = "sampling visits the same level twice in a row"
        elif math.isnan(before) or math.isnan(after):
            what = "a level of sampling is no number"
        else:
            what = "sampling would go back to more noise"
        raise UsageError(
            what,
            where=f"levels {k} and {k + 1} of {len(levels)}: log-SNR {before:.6g}, then {after:.6g}",
            remedy="Log-SNR rises from each level to the next, clean data come once and last. Take a grid of "
            "the library (--grid log-snr), fewer steps, or mend the schedule's clock.",
        )


class _Seen(Denoiser):
    """A denoiser that keeps the first posterior mean it gave since it was last asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.means: list[Tensor] = []

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        posterior: Posterior = self.denoiser(x_t, level, cond)
        self.means.append(posterior.mean)
        return posterior

    def take(self) -> Tensor:
        first = self.means[0]
        self.means.clear()
        return first


def draw(noise: Noise | None, x: Tensor) -> Tensor:
    """A standard normal tensor like x; a solver that needs noise and has none is a mistake of its caller."""
    if noise is None:
        raise ValueError("this solver draws noise: give noise=Noise(seeds), one seed per sample")
    return noise.normal(x.shape, x.dtype)


def refuse_pure_noise(t: Level) -> None:
    """UsageError for a solver that moves the signal in x_t and so needs some: alpha_t > 0."""
    if not isinstance(t.alpha, Tensor) and t.alpha == 0:
        raise UsageError(
            "this solver cannot start from a level without any signal",
            remedy="Take another one, for example --solver sde-heun, or --grid log-snr.",
        )
