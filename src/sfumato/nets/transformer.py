"""A causal transformer over codes on a grid of any dimension, read in raster order.

    x_i = E c_{i-1} + context_i                        x_0: a learned start instead of a code
    x <- x + attention(norm x),  x <- x + W_2 gelu(W_1 norm x)          each position sees itself and before
    logits_i = V norm(x_i)                             V starts at zero: a fresh network says uniform

Vaswani et al. 2017 (pre-normalised as in Radford et al. 2019). Walking keeps keys and values: one position
costs one row of each product instead of the whole sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.condition import NOTHING, Condition
from .blocks import zeroed
from .causal import Above, CausalAttention, CausalNet, Context, Walk


class Block(nn.Module):
    """Attention that looks back, then a perceptron at each position."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention = CausalAttention(width, dropout=dropout)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), zeroed(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> the same shape."""
        return self.perceptron(self.attention(x))

    def perceptron(self, x: Tensor) -> Tensor:
        """x + W_2 gelu(W_1 norm x)."""
        y = self.narrow(F.gelu(self.wide(self.norm(x))))
        return x + F.dropout(y, self.dropout, self.training)


@final
class CausalTransformer(CausalNet):
    """`depth` blocks of `width` channels over the codes of a grid.

    size, grid  number of codes, and the grid they lie on (1, 2 or 3 axes)
    above       (number of codes, grid) of every level above, coarsest first
    classes     0: unconditional; otherwise the context holds the class
    """

    def __init__(
        self,
        size: int,
        grid: Sequence[int],
        above: Sequence[Above] = (),
        *,
        classes: int = 0,
        width: int = 128,
        depth: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(size, grid, above)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout lies in [0, 1), not at {dropout}")
        self.code = nn.Embedding(size, width)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.context = Context(grid, width, classes=classes, above=above)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, size))

    def forward(self, codes: Tensor, above: Tensor, cond: Condition = NOTHING) -> Tensor:
        """Logits (B, length, size)."""
        before = self.start.expand(len(codes), 1, -1)
        x = torch.cat([before, self.code(codes[:, :-1])], 1) + self._context(above, cond)
        for block in self.blocks:
            x = block(x)
        return self.last(self.norm(x)).float()

    def walk(self, above: Tensor, cond: Condition = NOTHING) -> Walk:
        """One position a call, with keys and values kept."""
        context, rows = self._context(above, cond), len(above)
        blocks = [b for b in self.blocks if isinstance(b, Block)]
        caches = [block.attention.cache(rows, self.length) for block in blocks]
        at = 0

        def advance(last: Tensor | None) -> Tensor:
            nonlocal at
            before = self.start.expand(rows, 1, -1) if last is None else self.code(last)[:, None]
            x = before + context[:, at : at + 1]
            for block, cache in zip(blocks, caches, strict=True):
                x = block.perceptron(block.attention.step(x, cache, at))
            at += 1
            return self.last(self.norm(x[:, 0]))

        return advance

    def _context(self, above: Tensor, cond: Condition) -> Tensor:
        """(B or 1, length, width)."""
        return self.context(above, cond).flatten(2).transpose(1, 2)
