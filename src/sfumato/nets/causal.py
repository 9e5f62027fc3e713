"""What networks over codes share: the order, the context, and attention that looks back only.

    p(c) = prod_i p(c_i given c_<i, context)                   codes of a grid, in raster order

A causal network answers with all logits at once (training: c is known), and can be walked one code at a time
(sampling), keeping what it has computed of earlier positions. Both give the same numbers up to rounding.

The context of a position, the same for every code, is

    class embedding + place + what the levels above say of this place

where each level above is embedded on its own grid and resized to this one (Razavi et al. 2019, sec. 3.2).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.condition import NOTHING, Condition
from .attention import count_heads
from .blocks import ResidualBlock, resize_to, zeroed
from .embed import present_or_null, refuse_unknown

# advance(codes of the position before (B,), None at the first) -> logits of this one (B, K)
Walk: TypeAlias = Callable[[Tensor | None], Tensor]
Above: TypeAlias = tuple[int, Sequence[int]]  # a level above: number of codes, grid


class CausalNet(nn.Module, ABC):
    """Logits of `length` codes below `size`, each from those before it and from the `known` codes above."""

    last: nn.Module  # makes the logits; starts at zero

    def __init__(self, size: int, grid: Sequence[int], above: Sequence[Above] = ()) -> None:
        super().__init__()
        if size < 2 or not grid:
            raise ValueError(f"a prior over {size} codes on a grid {tuple(grid)} does not exist")
        self.size, self.grid, self.length = size, tuple(grid), math.prod(grid)
        self.known = sum(math.prod(space) for _, space in above)

    @abstractmethod
    def forward(self, codes: Tensor, above: Tensor, cond: Condition = NOTHING) -> Tensor:
        """codes (B, length) and above (B, known) -> (B, length, size); logits i depend on codes < i."""

    @abstractmethod
    def walk(self, above: Tensor, cond: Condition = NOTHING) -> Walk:
        """The same logits, position by position; each call is given the code before."""


class Context(nn.Module):
    """Class, place and the levels above as a map (B or 1, width, *grid)."""

    def __init__(
        self,
        grid: Sequence[int],
        width: int,
        *,
        classes: int = 0,
        above: Sequence[Above] = (),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.grid, self.classes = tuple(grid), classes
        self.place = nn.Parameter(0.1 * torch.randn(1, width, *grid))
        if classes:
            self.label = nn.Embedding(classes + 1, width)
        self.spaces = tuple(tuple(space) for _, space in above)
        self.above = nn.ModuleList(nn.Embedding(size, width) for size, _ in above)
        self.blocks = nn.Sequential(*(ResidualBlock(len(grid), width) for _ in range(blocks if above else 0)))

    def forward(self, above: Tensor, cond: Condition) -> Tensor:
        """above (B, known) int64."""
        refuse_unknown(cond, label=self.classes, vector=0, concat=0, tokens=0)
        context: Tensor = self.place
        parts = above.split([math.prod(space) for space in self.spaces], 1)
        for embedding, space, codes in zip(self.above, self.spaces, parts, strict=True):
            there = embedding(codes.reshape(-1, *space)).movedim(-1, 1)
            context = context + resize_to(there, self.grid)
        context = self.blocks(context)
        if self.classes:
            null = torch.full((), self.classes, dtype=torch.int64, device=above.device)
            label = self.label(present_or_null(cond.label, null, cond))
            context = context + label.reshape(*label.shape, *(1,) * len(self.grid))
        return context


class CausalAttention(nn.Module):
    """x_i + W_0 softmax(q_i K_<=i^T / sqrt(d)) V_<=i over (B, N, width); W_0 starts at zero."""

    def __init__(self, width: int, *, head_dim: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = count_heads(width, head_dim), dropout
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Every position at once, (B, N, width) -> the same shape."""
        q, k, v = self._split(x)
        return self._join(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def step(self, x: Tensor, cache: Tensor, at: int) -> Tensor:
        """Position `at` alone, (B, 1, width); keys and values of those before are in the cache."""
        q, k, v = self._split(x)
        cache[0, :, :, at], cache[1, :, :, at] = k[:, :, 0], v[:, :, 0]
        keys, values = cache[:, :, :, : at + 1]
        return self._join(x, F.scaled_dot_product_attention(q, keys, values))

    def cache(self, rows: int, length: int) -> Tensor:
        """Room for the keys and values of `length` positions, (2, B, heads, length, head_dim)."""
        width = self.qkv.in_features // self.heads
        return self.qkv.weight.new_zeros(2, rows, self.heads, length, width)

    def _split(self, x: Tensor) -> list[Tensor]:
        """Queries, keys, values, each (B, heads, N, head_dim)."""
        parts = self.qkv(self.norm(x)).chunk(3, -1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]

    def _join(self, x: Tensor, heads: Tensor) -> Tensor:
        y = self.out(heads.transpose(1, 2).flatten(2))
        return x + F.dropout(y, self.dropout, self.training)
