"""Images drawn block by block, so that whoever waits for many can be told how long.

The blocks are those the generator works in (models/generator.py): an image is the same, to the bit, as if all
had been asked for at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..models.density import Plan
from ..models.generator import CPU_ROWS, Generator
from ..models.given import Given
from .progress import Pace


def in_blocks(
    generator: Generator, plan: Plan, given: Given, seeds: Sequence[int], batch: int, pace: Pace | None
) -> Tensor:
    """The samples of these seeds, (n, C, *space); `pace` hears of every block."""
    count, device = len(seeds), generator.density.device
    if pace is None:
        return generator.sample(count, plan, given, seeds=seeds, batch=batch)
    given, parts = given.expanded(count), []
    size = CPU_ROWS if device.type == "cpu" else batch
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))
        some = given.take(torch.tensor(rows))
        parts.append(generator.sample(len(rows), plan, some, seeds=seeds[first : rows.stop], batch=batch))
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what was asked for is drawn only now
        pace.drew(len(rows))
    return torch.cat(parts)
