"""Fine detail shown to a network as extra channels: sines of the grey values themselves.

    x -> [x, sin(2 pi f x), cos(2 pi f x)]   for f = 1 / w and 1 / (2 w),   w = 2 / (levels - 1)

(Kingma et al. 2021, app. C.) w is the distance of neighbouring grey levels. Likelihood is mostly spent on
the last, almost clean levels of noise, where the question is which of two neighbouring levels it was; a
change that small hardly moves a network of x alone, and turns these waves around. They are for inputs in
model units, as they are on the variance-preserving path.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING, Condition

WAVES = (1.0, 2.0)  # periods in grey levels
COPIES = 1 + 2 * len(WAVES)  # channels for each one of x


class FineDetail(nn.Module):
    """net([x, waves of x], c_noise, cond): the inner network takes COPIES times the channels of x."""

    def __init__(self, net: nn.Module, levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"grey levels are at least 2, not {levels}")
        self.net, self.levels = net, levels

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING) -> Tensor:
        """x (B, C, *space) -> what the inner network makes of (B, COPIES C, *space)."""
        turns = math.pi * (self.levels - 1)
        phases = [x.float() * (turns / period) for period in WAVES]
        waves = [wave(phase).to(x.dtype) for phase in phases for wave in (torch.sin, torch.cos)]
        return self.net(torch.cat([x, *waves], 1), c_noise, cond)
