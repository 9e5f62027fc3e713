"""A gated PixelCNN with attention: logits of each code from those above it and to its left.

    vertical    v <- v + V_o gate(V * v + context)              all columns of the rows above
    horizontal  h <- h + H_o gate(H * h + W (V * v) + context)  this row, to the left, and v
    gate(a, b) = tanh(a) sigmoid(b)

(van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders", eq. 2 and fig. 2; there is
no blind spot, since v looks in all columns.) The input of v is shifted down by one row and that of h to the
right by one column; after that every convolution may look at its own position, so nothing is masked.
Features are normalised per position, x / rms(x). Attention over all earlier positions follows every few
layers (Chen et al. 2018, PixelSNAIL). A grid with one axis is a grid of one row.

Walking computes v once for each row and h at one position at a time, from stored rows.
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


def rms(x: Tensor) -> Tensor:
    """x / sqrt(mean over channels of x^2), at each position of (B, C, H, W)."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)


def gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b) of the two halves of the channels."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    """One layer of both stacks; `reach` positions are looked at to each side and above."""

    def __init__(self, width: int, reach: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.reach, self.dropout = reach, dropout
        self.column = nn.Conv2d(width, 2 * width, (reach + 1, 2 * reach + 1))
        self.row = nn.Conv2d(width, 2 * width, (1, reach + 1))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.context = nn.Conv2d(width, 4 * width, 1)
        self.out_v, self.out_h = zeroed(nn.Conv2d(width, width, 1)), zeroed(nn.Conv2d(width, width, 1))
        self.attention = CausalAttention(width, dropout=dropout) if attention else None

    def vertical(self, v: Tensor, padded: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(v, V * v) of the layer's rows; padded holds `reach` more rows above and columns at both sides."""
        looked = self.column(padded)
        return v + self._dropped(self.out_v(gate(looked + context))), looked

    def horizontal(self, h: Tensor, padded: Tensor, linked: Tensor) -> Tensor:
        """h; padded holds `reach` more columns to the left; linked = W (V * v) + context."""
        return h + self._dropped(self.out_h(gate(self.row(padded) + linked)))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


@final
class PixelCnn(CausalNet):
    """`depth` gated layers of `width` channels, attention after every `attend`-th (0: none).

    size, grid  number of codes, and the grid they lie on (1 or 2 axes)
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
        width: int = 96,
        depth: int = 6,
        reach: int = 2,
        attend: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(size, grid, above)
        if len(grid) > 2:
            raise ValueError("a PixelCNN reads codes on a line or a grid; for volumes use CausalTransformer")
        if not 0.0 <= dropout < 1.0 or reach < 1:
            raise ValueError("dropout lies in [0, 1) and a layer reaches at least one position")
        self.height, self.wide = (1, *self.grid)[-2:]
        self.code = nn.Embedding(size, width)
        self.context = Context(grid, width, classes=classes, above=above)
        self.layers = nn.ModuleList(
            GatedLayer(width, reach, dropout, bool(attend) and (k + 1) % attend == 0) for k in range(depth)
        )
        self.last = zeroed(nn.Conv2d(width, size, 1))

    def forward(self, codes: Tensor, above: Tensor, cond: Condition = NOTHING) -> Tensor:
        """Logits (B, length, size)."""
        e = self.code(codes.reshape(-1, self.height, self.wide)).movedim(-1, 1)
        v, h = F.pad(e[:, :, :-1], (0, 0, 1, 0)), F.pad(e[..., :-1], (1, 0, 0, 0))
        for layer, (down, right) in zip(self._layers(), self._contexts(above, cond), strict=True):
            r = layer.reach
            v, looked = layer.vertical(v, F.pad(rms(v), (r, r, r, 0)), down)
            h = layer.horizontal(h, F.pad(rms(h), (r, 0, 0, 0)), layer.link(looked) + right)
            if layer.attention is not None:
                h = layer.attention(h.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(h.shape)
        return self.last(rms(h)).flatten(2).transpose(1, 2).float()

    def walk(self, above: Tensor, cond: Condition = NOTHING) -> Walk:
        """One position a call: v by rows, h by positions, keys and values kept."""
        return _Steps(self, self._contexts(above, cond), len(above)).advance

    def _layers(self) -> list[GatedLayer]:
        return [layer for layer in self.layers if isinstance(layer, GatedLayer)]

    def _contexts(self, above: Tensor, cond: Condition) -> list[tuple[Tensor, Tensor]]:
        """What each layer adds to the gates of v and of h, (B or 1, 2 width, H, W) each."""
        context = self.context(above, cond)
        context = context.reshape(*context.shape[:2], self.height, self.wide)
        pairs = [layer.context(context).chunk(2, 1) for layer in self._layers()]
        return [(a, b) for a, b in pairs]


class _Steps:
    """A walk over the grid: what earlier positions left behind, and where it stands."""

    def __init__(self, net: PixelCnn, contexts: list[tuple[Tensor, Tensor]], rows: int) -> None:
        self.net, self.contexts, self.rows, self.at = net, contexts, rows, 0
        self.layers = net._layers()
        wide, size = net.wide, (rows, net.code.embedding_dim)
        new = net.code.weight.new_zeros
        # normalised v of all rows so far, with margins; normalised h of this row, with a margin
        self.v = [new(*size, net.height + k.reach, wide + 2 * k.reach) for k in self.layers]
        self.h = [new(*size, 1, wide + k.reach) for k in self.layers]
        self.linked: list[Tensor] = []
        self.kept = [
            None if k.attention is None else k.attention.cache(rows, net.length) for k in self.layers
        ]
        self.row = new(*size, 1, wide)  # embeddings of the row before, then of this one

    def advance(self, last: Tensor | None) -> Tensor:
        """The logits (B, size) of the next position, given the code of the one before."""
        i, j = divmod(self.at, self.net.wide)
        before = None if last is None else self.net.code(last)[:, :, None, None]
        if before is not None:
            self.row[..., (j - 1) % self.net.wide] = before[..., 0]
        if j == 0:
            self._vertical(i)
        h = torch.zeros_like(self.row[..., :1]) if j == 0 or before is None else before
        for k, layer in enumerate(self.layers):
            r = layer.reach
            self.h[k][..., r + j] = rms(h)[..., 0]
            h = layer.horizontal(h, self.h[k][..., j : j + r + 1], self.linked[k][..., j : j + 1])
            kept = self.kept[k]
            if layer.attention is not None and kept is not None:
                h = layer.attention.step(h[:, None, :, 0, 0], kept, self.at)[:, 0, :, None, None]
        self.at += 1
        return self.net.last(rms(h))[:, :, 0, 0]

    def _vertical(self, i: int) -> None:
        """v of row i in every layer, from the rows before; h begins anew."""
        v = self.row.clone()
        self.linked = []
        for k, (layer, (down, right)) in enumerate(zip(self.layers, self.contexts, strict=True)):
            r = layer.reach
            self.v[k][:, :, r + i, r : r + self.net.wide] = rms(v)[:, :, 0]
            part = self.v[k][:, :, i : i + r + 1]
            v, looked = layer.vertical(v, part, down[:, :, i : i + 1])
            self.linked.append(layer.link(looked) + right[:, :, i : i + 1])
            self.h[k].zero_()
