"""Looking at a ladder level by level, in the standardised coordinates of its codes (models/hvae.py).

moved    one level goes along a great circle towards another draw of itself, all others held:
             e_l(t) = cos(t) e_l + sin(t) e'_l,   t from 0 to reach / 2.5 of a right angle
         e_l(t) is as likely as e_l: what changes in the row is what this level decides
drawn    the first l levels of a sample, all finer ones at their prior means: how an image comes into being
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.hvae import Hvae

WHOLE = 2.5  # the reach at which a level arrives at the other draw


def moved(model: Hvae, here: Tensor, there: Tensor, level: int, count: int, reach: float) -> Tensor:
    """(count, size): the code here (1, size) with one level on its way to that level of there."""
    rows = here.repeat(count, 1)
    first = sum(model.sizes[:level])
    part = slice(first, first + model.sizes[level])
    angle = torch.linspace(0.0, 0.5 * math.pi * reach / WHOLE, count, dtype=here.dtype, device=here.device)
    rows[:, part] = torch.cos(angle)[:, None] * here[:, part] + torch.sin(angle)[:, None] * there[:, part]
    return rows


def title(model: Hvae, level: int, nats: float) -> str:
    """The name of a level: level 3 of 12 (4 x 4)  1.25 nats."""
    size = " x ".join(map(str, model.shapes[level][1:]))
    return f"level {level + 1} of {len(model.shapes)} ({size})  {nats:.2f} nats"
