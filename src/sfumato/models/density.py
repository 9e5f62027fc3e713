"""A density is what is sampled where the codec's codes live.

A sample is made in two steps, so that its randomness can be held, replaced and interpolated:

    start = draw(count, plan, cond, noise)       all the randomness that has a name: z, or x_T
    code  = sample(start, plan, cond, noise)     for a prior the draw itself; for diffusion the reverse
                                                 process from x_T (noise: what a stochastic solver adds)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.errors import UsageError
from ..core.noise import Noise
from ..nets.compute import PRECISIONS
from ..samplers.grids import Grid, Karras
from ..samplers.heun import Heun
from ..samplers.solver import Solver
from .guides import Guide

MOST_STEPS = 100_000  # of a plan; a grid is a list of levels
START = "Give a positive ratio of noise to signal, for instance 1, or leave it out to start from pure noise."


@dataclass(frozen=True)
class Plan:
    """How to sample.

    steps               intervals of the grid (Heun calls the network twice on each but the last)
    solver, grid        how to step, and over which noise levels
    scale               guidance gamma: 0 unconditional, 1 conditional, above 1 guided
    interval            log-SNR range (low, high) outside which guidance is off; None: everywhere
    guide               what guides; None: the model without its condition (classifier-free)
    temperature         scale of the starting noise x_T
    latent_temperature  scale of the prior's draw of z
    clip                clamp every prediction of x_0 to [-1, 1]
    start               sigma/alpha at which the reverse process starts, from the condition's first guess
                        noised to there; None: from pure noise
    precision           fp32, or bf16: products of the denoiser, and of its guide, in bfloat16
    """

    steps: int = 18
    solver: Solver = field(default_factory=Heun)
    grid: Grid = field(default_factory=Karras)
    scale: float = 1.0
    interval: tuple[float, float] | None = None
    guide: Guide | None = None
    temperature: float = 1.0
    latent_temperature: float = 1.0
    clip: bool = True
    start: float | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(
                f"{self.steps:,} sampling steps", remedy=f"Give 1 to {MOST_STEPS:,} steps, e.g. --steps 18."
            )
        if self.precision not in PRECISIONS:
            raise UsageError(f"no precision '{self.precision}'", remedy="Give fp32 or bf16.")
        for heat in (self.temperature, self.latent_temperature):
            if not (math.isfinite(heat) and heat >= 0.0):
                raise UsageError(
                    f"a temperature of {heat:g}", remedy="Temperatures are 0 or more; 1 is the model itself."
                )
        if self.start is not None and not (math.isfinite(self.start) and self.start > 0.0):
            raise UsageError(f"sampling from {self.start:g} times as much noise as signal", remedy=START)
        if not (math.isfinite(self.scale) and self.scale >= 0.0):
            raise UsageError(
                f"a guidance scale of {self.scale:g}",
                remedy="0 is unconditional, 1 conditional, above 1 guided: for example 2.",
            )
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise UsageError(
                f"guidance interval {self.interval} is empty", remedy="Give (low, high) log-SNR."
            )


def check_guided(plan: Plan, *, conditional: bool) -> None:
    """UsageError for a guidance scale of a plan where there is neither a condition nor a guide."""
    if plan.scale != 1.0 and plan.guide is None and not conditional:
        raise UsageError(
            f"a guidance scale of {plan.scale:g} changes nothing: there is no condition to be guided by",
            where="plan.scale",
            remedy="Leave it at 1, train with --set conditional=true, or sample with a classifier of noisy "
            "images (--classifier RUN) or a worse version (--guide RUN).",
        )


class Density(nn.Module, ABC):
    """p(code), conditional or not."""

    slot: ClassVar[str]  # the entry of `Given` that replaces the draw: "z", "x_T" or "codes"

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the parameters (or buffers), in which draws are made."""
        return _first(self).dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters (or buffers) are."""
        return _first(self).device

    @abstractmethod
    def draw(self, count: int, plan: Plan, *, cond: Condition = NOTHING, noise: Noise) -> Tensor:
        """The named randomness of `count` samples, (count, ...)."""

    @abstractmethod
    def sample(
        self, start: Tensor, plan: Plan, *, cond: Condition = NOTHING, noise: Noise | None = None
    ) -> Tensor:
        """The codes that belong to a draw, (count, ...)."""


def _first(module: nn.Module) -> Tensor:
    return next(
        (t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.empty(0)
    )
