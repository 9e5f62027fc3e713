"""The noise of a training step, the same however the step is cut.

A step takes the examples [seen, seen + batch). They are grouped into blocks of up to eight rows; a
block's generator is seeded by (run seed, stage, phase, position of the block), so what an example
draws depends on its position and not on which micro-batch or which process computes it. A
micro-batch smaller than a block draws the whole block and keeps its own rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..core.noise import Noise, seed_of


def block_of(batch: int) -> int:
    """Rows in a block: the largest divisor of the batch that also divides eight."""
    return math.gcd(batch, 8)


def seed_networks(seed: int, device: torch.device) -> None:
    """Seed what does not draw from a `Noise`, such as dropout.

    Not torch.manual_seed: with a GPU build of PyTorch and no GPU in use it keeps a growing list of
    calls to make up for later.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class Rows(Noise):
    """Draws for the rows [start, stop) of a run's endless sequence of examples."""

    def __init__(
        self,
        key: tuple[int | str, ...],
        start: int,
        stop: int,
        *,
        block: int,
        device: torch.device | str = "cpu",
    ) -> None:
        first, last = start // block, -(-stop // block)
        super().__init__([seed_of(*key, k) for k in range(first, last)], rows=block, device=device)
        self.window = slice(start - first * block, stop - first * block)

    def __len__(self) -> int:
        return self.window.stop - self.window.start

    def _draw(
        self, shape: Sequence[int], dtype: torch.dtype, fill: Callable[[Tensor, torch.Generator], object]
    ) -> Tensor:
        if shape[0] != len(self):
            raise ValueError(f"noise for {len(self)} rows was asked for a batch of {shape[0]}")
        out = torch.empty((len(self.generators) * self.rows, *shape[1:]), dtype=dtype)
        for k, generator in enumerate(self.generators):
            fill(out[k * self.rows : (k + 1) * self.rows], generator)
        return out[self.window].to(self.device, non_blocking=True)

    def __getitem__(self, groups: slice) -> Noise:
        """Rows cannot be cut further; cut the batch instead."""
        raise TypeError("the noise of a training step is cut by the trainer")
