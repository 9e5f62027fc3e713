"""Grids: which levels a solver visits, from noise to clean data.

    Uniform      t_i from 1 to the earliest time in n equal steps        (DDPM strides that keep T-1)
    Trailing     t_i = 1 - i/n, at most down to the earliest time        (Lin et al. 2024, sec. 3.3)
    Quadratic    t_i^1/2 in equal steps, denser near the data            (Song, Meng & Ermon 2021, app. D.2)
    LogSnr       lambda in equal steps                                   (Lu et al. 2022)
    Karras       (sigma/alpha)^(1/rho) in equal steps                    (Karras et al. 2022, eq. 5)
    Angle        arctan(sigma / (alpha d)) in equal steps down to 0      (Salimans & Ho 2022; Lu & Song 2024)

Every grid has n levels to evaluate a denoiser at, then CLEAN: n + 1 levels, n steps. All include the
noisiest time, without which samples keep a tint, and none goes below the clean end of the schedule, where
nothing was trained. The last three work on levels, not on time, within a
range of sigma/alpha: a clock that ends in pure noise has no log-SNR there to space evenly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..diffusion.level import CLEAN, Level
from ..diffusion.paths import Path
from ..diffusion.schedule import Schedule


class Grid(ABC):
    """A rule that places n + 1 levels on a schedule."""

    @abstractmethod
    def log_snr(self, schedule: Schedule, steps: int) -> Tensor:
        """The log-SNRs (n,) float64 at which the denoiser is evaluated, increasing."""

    def levels(self, schedule: Schedule, steps: int) -> list[Level]:
        """n levels as floats, noisiest first, then CLEAN; UsageError for fewer than one step."""
        if steps < 1:
            raise UsageError(f"{steps} sampling steps", remedy="Ask for at least one step.")
        with torch.no_grad():
            log_snr = self.log_snr(schedule, steps)
        return [*levels_at(schedule.path, log_snr), CLEAN]


def levels_at(path: Path, log_snr: Tensor) -> list[Level]:
    """Levels of a path as floats, one for each log-SNR (n,)."""
    log_snr = log_snr.double()
    level = path.level(log_snr)
    assert isinstance(level.alpha, Tensor) and isinstance(level.sigma, Tensor)
    return list(map(Level.known, level.alpha.tolist(), level.sigma.tolist(), log_snr.tolist()))


class TimeGrid(Grid):
    """A grid that is a rule for times."""

    @abstractmethod
    def times(self, earliest: float, steps: int) -> Tensor:
        """Times (n,) float64, decreasing from 1 to no less than earliest."""

    def log_snr(self, schedule: Schedule, steps: int) -> Tensor:
        """The clock at the times."""
        return schedule.clock(self.times(schedule.earliest, steps))


class Uniform(TimeGrid):
    """Equal steps of time, both ends included."""

    def times(self, earliest: float, steps: int) -> Tensor:
        """1 ... earliest."""
        return torch.linspace(1.0, earliest, steps, dtype=torch.float64)


class Trailing(TimeGrid):
    """Equal steps of time down to, and without, zero: every stride of a table, its last row included.

    More steps than reach down to the earliest time (more than a table has rows) are those of `Uniform`: what
    lies between the first row and clean data no training has visited.
    """

    def times(self, earliest: float, steps: int) -> Tensor:
        """1 - i/n while 1/n is no less than earliest."""
        if steps * earliest > 1.0 + 1e-9:
            return Uniform().times(earliest, steps)
        return 1.0 - torch.arange(steps, dtype=torch.float64) / steps


class Quadratic(TimeGrid):
    """Equal steps of the square root of time, both ends included."""

    def times(self, earliest: float, steps: int) -> Tensor:
        """(1 ... earliest^1/2)^2."""
        return torch.linspace(1.0, math.sqrt(earliest), steps, dtype=torch.float64) ** 2


class Rows(TimeGrid):
    """Another grid moved to the nearest rows of a table of T rows, for networks that know no other level."""

    def __init__(self, grid: TimeGrid, rows: int = 1000) -> None:
        self.grid, self.rows = grid, rows

    def times(self, earliest: float, steps: int) -> Tensor:
        """Multiples of 1/T, without repetition."""
        rows = torch.round(self.grid.times(earliest, steps) * self.rows).clamp(min=1)
        return rows.unique().flip(0) / self.rows


class LevelGrid(Grid):
    """A grid between two ratios sigma/alpha, cut to the range of the schedule."""

    def __init__(self, low: float = 0.002, high: float = 80.0) -> None:
        if not 0 < low < high:
            raise ValueError(f"a grid needs 0 < low < high, not {low} and {high}")
        self.low, self.high = low, high

    def bounds(self, schedule: Schedule) -> tuple[float, float]:
        """The lowest and highest log-SNR of the grid."""
        first, last = (float(schedule.log_snr(t)) for t in (1.0, schedule.earliest))
        return max(first, -2.0 * math.log(self.high)), min(last, -2.0 * math.log(self.low))


class LogSnr(LevelGrid):
    """Equal steps of log-SNR."""

    def log_snr(self, schedule: Schedule, steps: int) -> Tensor:
        """Low to high."""
        return torch.linspace(*self.bounds(schedule), steps, dtype=torch.float64)


class Karras(LevelGrid):
    """Equal steps of (sigma/alpha)^(1/rho): rho = 7 spends more steps near the data."""

    def __init__(self, rho: float = 7.0, low: float = 0.002, high: float = 80.0) -> None:
        super().__init__(low, high)
        if not rho > 0:
            raise ValueError(f"rho must be positive, not {rho}")
        self.rho = rho

    def log_snr(self, schedule: Schedule, steps: int) -> Tensor:
        """-2 rho log of the evenly spaced roots."""
        first, last = (math.exp(-0.5 * v / self.rho) for v in self.bounds(schedule))
        return -2.0 * self.rho * torch.log(torch.linspace(first, last, steps, dtype=torch.float64))


class Angle(LevelGrid):
    """Equal steps of the angle phi, tan phi = sigma / (alpha d), down to and without 0.

    The angle is where signal of deviation d and noise weigh equally (Nichol & Dhariwal's cosine clock for
    d = 1, whatever the model's own clock). Even steps of it suit few of them: one step is all of it, two
    stop where signal and noise are equal. Every level of n steps is one of 2n steps, which is what halving
    the steps by distillation needs. More steps than reach down to the cleanest level are even between both
    ends, as those of `Trailing`, and no longer nested (objectives/progressive.py refuses them).
    """

    def __init__(self, data: float = 0.5, low: float = 0.002, high: float = 80.0) -> None:
        super().__init__(low, high)
        if not data > 0:
            raise ValueError(f"the standard deviation of the data must be positive, not {data}")
        self.data = data

    def log_snr(self, schedule: Schedule, steps: int) -> Tensor:
        """-2 log(d tan phi), phi from the noisiest level's angle."""
        noisiest, cleanest = (math.atan(math.exp(-0.5 * v) / self.data) for v in self.bounds(schedule))
        if noisiest < steps * cleanest * (1.0 - 1e-9):
            phi = torch.linspace(noisiest, cleanest, steps, dtype=torch.float64)
        else:
            phi = noisiest * (1.0 - torch.arange(steps, dtype=torch.float64) / steps)
        return -2.0 * torch.log(self.data * torch.tan(phi))
