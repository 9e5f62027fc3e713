"""A U-Net for sequences, images and volumes: net(x, c_noise, condition) -> (B, C', *space).

    x ------- conv ------- level 0 ----------------------------------- level 0 ------- conv_0 ---- out
                              |  stride 2                    nearest, x2  |
                              +------- level 1 ------------ level 1 ------+
                                          |                    |
                                          +---- level 2 ... ---+

Every level is a row of equal residual blocks (see blocks.py) on the way down and another on the way up,
so a level compiles once. On the way up a level joins what comes from below and its own skip by

    h = up(W_1 below) + W_2 skip + b

which is the 1x1 convolution of their concatenation, without concatenating, and with the lower half
computed before the upsampling. One linear map gives the modulation of all blocks. Attention stands
between the ways down and up at the levels asked for.

The last layer starts at zero: a new network answers 0, so a preconditioned denoiser starts at its
c_skip x. Any size of every axis works: strides round up and the way up returns to the sizes it saw; a
patch pads at the end and crops.

Ronneberger et al. 2015; Ho et al. 2020, appendix B; Dhariwal and Nichol 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.shapes import per_sample_mask
from .attention import CrossAttention, SelfAttention
from .blocks import (
    ResidualBlock,
    conv,
    crop_to,
    depth_to_space,
    pad_to,
    resize_to,
    space_to_depth,
)
from .embed import Embedding, present_or_null, refuse_unknown, with_concat
from .fused import NormSilu


class UNet(nn.Module):
    """The network of a denoiser on (B, channels, *space), with every slot of a condition.

    channels, space_dims   of x; space_dims is 1, 2 or 3
    width, multipliers     level l has width * multipliers[l] channels, at 1/2^l of the size
    blocks                 residual blocks per level and way; the coarsest level has twice as many in a row
    attention, head_dim    levels with attention between their two ways; cost grows with positions^2
    concat_channels, vector_dim, classes, token_dim      the condition's slots, 0: none
    out_channels           default channels; 2 * channels for a learned variance
    patch                  p x p positions become channels first: p^dims fewer positions throughout
    dropout                within the residual blocks
    """

    def __init__(
        self,
        channels: int,
        space_dims: int,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        head_dim: int = 32,
        concat_channels: int = 0,
        vector_dim: int = 0,
        classes: int = 0,
        token_dim: int = 0,
        out_channels: int | None = None,
        patch: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [width * m for m in multipliers]
        if any(not 0 <= level < len(widths) for level in attention):
            raise ValueError(f"attention at levels {tuple(attention)} of a network of {len(widths)} levels")
        if token_dim and not attention:
            raise ValueError("tokens enter by attention: name at least one attention level")
        self.concat_channels, self.token_dim, self.patch = concat_channels, token_dim, patch
        depth = patch**space_dims
        extra = concat_channels + 1 if concat_channels else 0
        self.embedding = Embedding(width, 2 * width, classes=classes, vector_dim=vector_dim)
        if token_dim:
            self.null_token = nn.Parameter(torch.zeros(token_dim))
        self.first = conv(space_dims, (channels + extra) * depth, widths[0])
        self.descents = nn.ModuleList(_Row(space_dims, w, blocks, dropout) for w in widths)
        self.ascents = nn.ModuleList(
            _Row(space_dims, w, blocks, dropout, *((head_dim, token_dim) if i in attention else ()))
            for i, w in enumerate(widths)
        )
        self.strides = nn.ModuleList(conv(space_dims, *pair, stride=2) for pair in pairwise(widths))
        self.joins = nn.ModuleList(_Join(space_dims, *pair) for pair in pairwise(widths))
        self.parts = [2 * blocks * w for w in widths]
        self.modulation = nn.Linear(2 * width, 2 * sum(self.parts))
        self.norm = NormSilu(widths[0])
        self.last = conv(space_dims, widths[0], (out_channels or channels) * depth, zero=True)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING) -> Tensor:
        """x (B, C, *space), c_noise (B,) or (1,) -> (B, C', *space), in x's type."""
        refuse_unknown(cond, tokens=self.token_dim)
        modulation = self.modulation(self.embedding(c_noise, cond))
        parts = modulation.split([*self.parts, *reversed(self.parts)], dim=1)
        tokens = present_or_null(cond.tokens, self.null_token, cond) if self.token_dim else None
        h = pad_to(with_concat(x, cond, self.concat_channels), self.patch)
        h = self.first(space_to_depth(h, self.patch))
        skips = []
        for i, row in enumerate(self.descents):
            h = row(self.strides[i - 1](h) if i else h, parts[i])
            skips.append(h)
        skips = _with_residuals(skips, cond)
        h = skips[-1]
        for i, row in reversed(list(enumerate(self.ascents))):
            if i < len(skips) - 1:
                h = self.joins[i](h, skips[i])
            h = row(h, parts[-1 - i], tokens)
        h = depth_to_space(self.last(self.norm(h)), self.patch)
        return crop_to(h, x.shape[2:]).to(x.dtype).contiguous()


class _Row(nn.Module):
    """Attention, if any, and the residual blocks of one level on one way."""

    def __init__(
        self, dims: int, channels: int, blocks: int, dropout: float, head_dim: int = 0, token_dim: int = 0
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, head_dim=head_dim) if head_dim else None
        self.cross = CrossAttention(channels, token_dim, head_dim=head_dim) if token_dim else None
        self.blocks = nn.ModuleList(ResidualBlock(dims, channels, dropout=dropout) for _ in range(blocks))

    def forward(self, h: Tensor, modulation: Tensor, tokens: Tensor | None = None) -> Tensor:
        """h (B, C, *space), modulation (B or 1, blocks * 2 C), tokens (B or 1, N, D)."""
        if self.attention is not None:
            h = self.attention(h)
        if self.cross is not None and tokens is not None:
            h = self.cross(h, tokens)
        for block, part in zip(self.blocks, modulation.chunk(len(self.blocks), dim=1), strict=True):
            h = block(h, part)
        return h


class _Join(nn.Module):
    """up(W_1 below) + W_2 skip + b: the 1x1 convolution of the concatenation of both."""

    def __init__(self, dims: int, fine: int, coarse: int) -> None:
        super().__init__()
        self.below = conv(dims, coarse, fine, 1)
        self.skip = conv(dims, fine, fine, 1, bias=False)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return resize_to(self.below(below), tuple(skip.shape[2:])) + self.skip(skip)


def _with_residuals(skips: list[Tensor], cond: Condition) -> list[Tensor]:
    """Add the condition's residuals, one per level from fine to coarse, where the condition is present."""
    if not cond.residuals:
        return skips
    if len(cond.residuals) != len(skips):
        raise ValueError(f"{len(cond.residuals)} residuals for a network of {len(skips)} levels")
    keep = cond.present
    added = (r if keep is None else torch.where(per_sample_mask(keep, r), r, 0.0) for r in cond.residuals)
    return [skip + r for skip, r in zip(skips, added, strict=True)]
