"""Discrete beta tables as clocks: DDPM's T steps.

    q(x_i | x_{i-1}) = N((1 - beta_i)^1/2 x_{i-1}, beta_i I),   alpha_i^2 = prod_{j <= i} (1 - beta_j)
    (Ho et al. 2020, eq. 2 and 4)

Row i = 0 ... T-1 of the table sits at time (i + 1) / T, and clean data at t = 0. Between rows
b = -log alpha^2 is linear in t: beta is constant in continuous time within a step, so the table is
an ordinary clock that is exact at its rows and finite, differentiable and invertible between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.stable import Scalar
from .level import Level
from .paths import ShrinkingPath, VariancePreserving
from .schedule import Schedule


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """beta from first to last in equal steps, (T,) float64 (Ho et al. 2020, sec. 4)."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int = 1000, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """beta of alpha^2 = cos^2((t + s)/(1 + s) pi/2), clipped, (T,) (Nichol & Dhariwal 2021, eq. 17)."""
    t = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    signal = torch.cos((t + offset) / (1.0 + offset) * (math.pi / 2)) ** 2
    return (1.0 - signal[1:] / signal[:-1]).clamp(max=most)


class BetaTable(Schedule):
    """The clock of a table of T betas; time (i + 1)/T is row i.

    The rows are a buffer outside the state dict (they follow from the constructor's arguments).
    """

    decays: Tensor

    def __init__(self, betas: Tensor | Sequence[float], path: ShrinkingPath | None = None) -> None:
        table = torch.as_tensor(betas, dtype=torch.float64)
        if table.ndim != 1 or not len(table) or not bool(((table > 0) & (table < 1)).all()):
            raise ValueError("a beta table is a list of numbers between 0 and 1")
        path = path or VariancePreserving()
        super().__init__(path, 1.0 / len(table))
        self.fading = path
        decays = torch.cat([table.new_zeros(1), -torch.log1p(-table).cumsum(0)])
        self.register_buffer("decays", decays, persistent=False)

    def __len__(self) -> int:
        return len(self.decays) - 1

    def clock(self, t: Tensor) -> Tensor:
        """The path's log-SNR where -log alpha^2 is interpolated between rows."""
        rows = self.decays.to(t.device)
        row = (t.detach() * len(self)).long().clamp(0, len(self) - 1)
        b = rows[row] + (rows[row + 1] - rows[row]) * (t * len(self) - row)
        return self.fading.log_snr(b)

    def inverse(self, log_snr: Tensor) -> Tensor:
        """Linear interpolation of time in -log alpha^2."""
        rows, b = self.decays.to(log_snr.device), self.fading.decay(log_snr)
        row = (torch.searchsorted(rows, b.detach().contiguous(), right=True) - 1).clamp(0, len(self) - 1)
        t = (row + (b - rows[row]) / (rows[row + 1] - rows[row])) / len(self)
        return t.clamp(0.0, 1.0)

    def at(self, index: int) -> Level:
        """The level of row index (0 is the least noisy, T-1 the last), exact, as floats."""
        if not 0 <= index < len(self):
            raise ValueError(f"row {index} of a table of {len(self)} rows")
        return self.path.level(float(self.fading.log_snr(self.decays[index + 1])))

    def index(self, level: Level) -> Scalar:
        """The fractional row of a level: what a network trained on integer steps wants to be told."""
        t = self.time(level.log_snr)
        return t * len(self) - 1.0
