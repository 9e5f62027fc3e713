"""Which rows of a table to train on: by how much their losses have been, as far back as is remembered.

    p(i) = (1 - e) sqrt(E[L_i^2]) / sum_j sqrt(E[L_j^2]) + e / T        (Nichol & Dhariwal 2021, eq. 18)

is the distribution under which the sum of all rows' losses, estimated from one of them as L_i / p(i), has the
least variance. E[L_i^2] is the mean over the last ten training steps that met row i. Until every row has been
met ten times, rows are drawn uniformly. The estimate is unbiased either way.

All of this is buffers, saved with the run, so a resumed training draws the rows it would have drawn. A step
may be cut into micro-batches and spread over processes: what it has seen is gathered and takes effect
when the step is complete. Nothing is read back to the host, which a GPU would have to be waited for.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

KEPT = 10  # steps remembered for each row
UNIFORM = 0.001  # of the draws, which keeps a row from being forgotten


@final
class LossHistory(nn.Module):
    """The last losses of each of T rows, and the distribution that follows from them."""

    squares: Tensor  # (T, KEPT) float64, mean squared loss of a row in one step
    met: Tensor  # (T,) int64, steps that have met a row
    pending: Tensor  # (2, T) float64, of the step under way: sum of squared losses, number of losses

    def __init__(self, rows: int) -> None:
        super().__init__()
        if rows < 1:
            raise ValueError(f"a history of {rows} rows")
        self.register_buffer("squares", torch.zeros(rows, KEPT, dtype=torch.float64))
        self.register_buffer("met", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("pending", torch.zeros(2, rows, dtype=torch.float64))

    def probabilities(self) -> Tensor:
        """p, (T,) float64, summing to one."""
        rows = len(self.met)
        size = self.squares.mean(1).sqrt()
        uniform = torch.full_like(size, 1.0 / rows)
        known = (self.met >= KEPT).all() & (size.sum() > 0)
        drawn = (1.0 - UNIFORM) * size / size.sum().clamp_min(1e-300) + UNIFORM * uniform
        return torch.where(known, drawn, uniform)

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (B,) int64 at quantiles u (B,) in [0, 1) of p, and their p (B,)."""
        p = self.probabilities()
        edges = p.cumsum(0)
        rows = torch.searchsorted(edges / edges[-1], u, right=True).clamp(max=len(p) - 1)
        return rows, p[rows]

    @torch.no_grad()
    def note(self, rows: Tensor, losses: Tensor) -> None:
        """Take in losses (B,) of rows (B,) of the step under way; what is not finite is left out."""
        losses = losses.detach().double()
        fine = torch.isfinite(losses)
        seen = torch.stack([torch.where(fine, losses, 0.0) ** 2, fine.double()])
        # a product, since additions at an index come in any order on a GPU
        self.pending += seen @ (rows[:, None] == torch.arange(len(self.met), device=rows.device)).double()

    @torch.no_grad()
    def commit(self) -> None:
        """Make what the step has seen part of the history; `pending` is summed over processes by now."""
        total, count = self.pending
        hit, slot = count > 0, (self.met % KEPT)[:, None]
        value = torch.where(
            hit[:, None], (total / count.clamp_min(1.0))[:, None], self.squares.gather(1, slot)
        )
        self.squares.scatter_(1, slot, value)
        self.met += hit
        self.pending.zero_()
