"""Networks of a state that moves in time: what is known so far, and perceptrons to a Gaussian.

    belief     b_t = GRU(b_{t-1}, [e_t, 4 (e_t - e_{t-1})])      e_t the code of frame t, e_0 = e_1
    map        (mean, log std) = a residual perceptron with layer norms (nets/plain.py)

The paper's map is one multiplicative unit, mean = M (tanh(A u) sigmoid(B u)). Taught the exact position and
velocity of a digit that bounces, it is 4.8 pixels off ten frames ahead after 500 steps of 256 pairs, the
residual perceptron 1.1. The GRU is that of Cho et al. 2014.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .plain import MlpEncoder

LOUDER = 4.0  # codes change little from frame to frame: as they are, what moves is the last thing learned


class Belief(nn.Module):
    """Frames (B, T, C, *space) -> b (B, T, width): an encoder of single frames and a recurrent summary."""

    def __init__(self, encoder: nn.Module, features: int, width: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width
        self.memory = nn.GRU(2 * features, width, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        """b_t of every t, (B, T, width)."""
        codes = self.encoder(frames.flatten(0, 1)).reshape(*frames.shape[:2], -1)
        change = F.pad(codes[:, 1:] - codes[:, :-1], (0, 0, 1, 0))
        return self.memory(torch.cat([codes, LOUDER * change], -1))[0].to(frames.dtype)


class GaussianMap(nn.Module):
    """(..., inputs) -> mean and log-scale (..., outputs) of a Gaussian; see the module."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.net = MlpEncoder(inputs, (), 2 * outputs, width=width)

    def forward(self, *parts: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log_std) of the parts joined on the last axis."""
        joined = torch.cat(parts, -1)
        mean, log_std = self.net(joined.flatten(0, -2)).unflatten(0, joined.shape[:-1]).chunk(2, -1)
        return mean, log_std
