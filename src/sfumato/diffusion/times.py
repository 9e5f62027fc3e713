"""Which levels training visits: distributions over log-SNR, drawn with low discrepancy.

Each distribution is a quantile function u in [0, 1) -> lambda. A batch takes its u evenly spaced with
one common random shift (Kingma et al. 2021, app. I.1): u_i = (u_0 + i/n) mod 1. Every u_i is uniform,
and the batch's mean loss varies far less than with independent draws. The common shift is shared by
the rows of one group of Noise, so it is a function of that group's seed alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.noise import Noise
from .schedule import Schedule
from .tables import BetaTable


class Times(ABC):
    """A distribution of training levels."""

    @abstractmethod
    def quantile(self, schedule: Schedule, u: Tensor) -> Tensor:
        """The log-SNR (B,) below whose time lies the part u (B,) of the distribution."""

    def check(self, schedule: Schedule) -> None:  # noqa: B027
        """UsageError for a schedule on which the distribution has no levels; most have some on every one."""

    def draw(self, schedule: Schedule, noise: Noise, count: int) -> Tensor:
        """Log-SNRs (B,) float64 for a batch; count must be len(noise)."""
        return self.quantile(schedule, noise.stratified(count))


class UniformTime(Times):
    """t uniform on [earliest, 1] of the schedule."""

    def quantile(self, schedule: Schedule, u: Tensor) -> Tensor:
        """lambda(earliest + (1 - earliest) u)."""
        return schedule.clock(schedule.earliest + (1.0 - schedule.earliest) * u)


class TableTime(Times):
    """A row of a beta table, each equally often: DDPM's discrete training."""

    def check(self, schedule: Schedule) -> None:
        """UsageError for a schedule without rows."""
        if not isinstance(schedule, BetaTable):
            raise UsageError(
                f"rows of a table cannot be drawn from {type(schedule).__name__}, which has none",
                remedy="For a continuous schedule: --set stages.diffusion.objective.times=UniformTime",
            )

    def quantile(self, schedule: Schedule, u: Tensor) -> Tensor:
        """lambda((floor(u T) + 1) / T)."""
        if not isinstance(schedule, BetaTable):
            raise ValueError("rows can be drawn from a beta table only; use UniformTime")
        return schedule.clock((torch.floor(u * len(schedule)) + 1.0) / len(schedule))


class LogNormalSigma(Times):
    """log(sigma/alpha) ~ N(mean, std^2), whatever the clock (Karras et al. 2022, table 1)."""

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        self.mean, self.std = mean, std

    def quantile(self, schedule: Schedule, u: Tensor) -> Tensor:
        """-2 (mean + std Phi^-1(u))."""
        return -2.0 * (self.mean + self.std * _normal(u))


class LogitNormalTime(Times):
    """logit t ~ N(mean, std^2): more weight on the middle of a flow (Esser et al. 2024, eq. 19)."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def quantile(self, schedule: Schedule, u: Tensor) -> Tensor:
        """lambda(sigmoid(mean + std Phi^-1(u)))."""
        return schedule.clock(torch.sigmoid(self.mean + self.std * _normal(u)))


def _normal(u: Tensor) -> Tensor:
    """The normal quantile, kept finite: u = 0 counts as the middle of the first 2^-53."""
    return torch.special.ndtri(u.clamp(min=math.ldexp(1.0, -54)))
