"""Networks of a state that moves in time: what is known so far, and gated maps to a Gaussian.

    belief     b_t = GRU(b_{t-1}, e_t),  e_t the code of frame t                   b_t knows x_1 ... x_t
    gated      g = tanh(A u) sigmoid(B u),   mean = M g,   log std = S g           (Gregor et al. 2019, app.)

The gated map is the paper's "D-map": a multiplicative unit before the two linear heads, u = silu(W input)
one layer deeper than theirs. The GRU is that of Cho et al. 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Belief(nn.Module):
    """Frames (B, T, C, *space) -> b (B, T, width): an encoder of single frames and a recurrent summary."""

    def __init__(self, encoder: nn.Module, features: int, width: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width
        self.memory = nn.GRU(features, width, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        """b_t of every t, (B, T, width)."""
        codes = self.encoder(frames.flatten(0, 1)).reshape(*frames.shape[:2], -1)
        return self.memory(F.silu(codes))[0].to(frames.dtype)


class GatedMap(nn.Module):
    """(..., inputs) -> mean and log-scale (..., outputs) of a Gaussian; see the module."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.gate = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, 2 * outputs)

    def forward(self, *parts: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log_std) of the parts joined on the last axis."""
        a, b = self.gate(F.silu(self.first(torch.cat(parts, -1)))).chunk(2, -1)
        mean, log_std = self.last(torch.tanh(a) * torch.sigmoid(b)).chunk(2, -1)
        return mean, log_std
