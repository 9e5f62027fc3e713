"""A transformer for sequences, images and volumes: net(x, c_noise, condition) -> (B, C', *space).

    h  = W patches(x) + position                        p x p positions are one token (patchify)
    h += gate_1 attention(norm(h) (1 + scale_1) + shift_1)
    h += W_0 cross-attention(h, text)                   text: the condition's tokens, where it has them
    h += gate_2 mlp(norm(h) (1 + scale_2) + shift_2)
    x  = patches^-1(W_0 (norm(h) (1 + scale) + shift))

shift, scale and gate of all blocks are one linear map of the embedding of noise level and condition.
That map and W_0 start at zero (adaLN-Zero): every gate is exactly 0, every block the identity, and a
new network answers 0, so a preconditioned denoiser starts at its c_skip x.

Position enters as sinusoids, an equal part of the width for each axis:

    position(n)_k = (cos w_k n, sin w_k n),      w_k from 1 to 1/10000 in equal ratios

so <position(n), position(m)> is a function of n - m. Nothing else tells the tokens apart: without it
the network commutes with every permutation of the patches.

Any size of every axis works: a patch pads at the end by the edge and crops. Cost per token is
24 width^2 depth FLOPs forward, and attention 4 N width depth for N tokens.

Peebles and Xie 2023 (sec. 3, adaLN-Zero, patchify); Vaswani et al. 2017 (sinusoids); Goyal et al. 2017
(residual branches that start at zero).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.condition import NOTHING, Condition
from .attention import CrossAttention, attend, count_heads
from .blocks import crop_to, depth_to_space, pad_to, space_to_depth, zeroed
from .embed import Embedding, present_or_null, refuse_unknown, with_concat
from .gelu import Gelu

FASTEST, SLOWEST = 1.0, 1e-4  # radians per position


class DiT(nn.Module):
    """The network of a denoiser on (B, channels, *space), by attention over patches; the U-Net's signature.

    channels, space_dims   of x; space_dims is 1, 2 or 3
    width, depth           features of a token, number of blocks; 12 x 384, 12 x 768, 24 x 1024 are S, B, L
    head_dim               features of an attention head
    mlp_ratio              hidden features of a block's perceptron, in widths
    patch                  positions a side of a token
    concat_channels, vector_dim, classes, token_dim      the condition's slots, 0: none
    out_channels           default channels; 2 * channels for a learned variance
    dropout                within the perceptrons
    """

    def __init__(
        self,
        channels: int,
        space_dims: int,
        *,
        width: int = 192,
        depth: int = 6,
        head_dim: int = 64,
        mlp_ratio: int = 4,
        patch: int = 2,
        concat_channels: int = 0,
        vector_dim: int = 0,
        classes: int = 0,
        token_dim: int = 0,
        out_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if space_dims not in (1, 2, 3):
            raise ValueError(f"patches exist in 1, 2 and 3 spatial dimensions, not {space_dims}")
        if patch < 1 or depth < 1:
            raise ValueError(f"a transformer has a patch and a depth of at least 1, not {patch} and {depth}")
        self.concat_channels, self.token_dim, self.patch = concat_channels, token_dim, patch
        numbers = patch**space_dims
        extra = concat_channels + 1 if concat_channels else 0
        self.embedding = Embedding(width, width, classes=classes, vector_dim=vector_dim)
        if token_dim:
            self.null_token = nn.Parameter(torch.zeros(token_dim))
        self.first = nn.Linear((channels + extra) * numbers, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, head_dim, mlp_ratio * width, token_dim=token_dim, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = plain_norm(width)
        self.last = nn.Linear(width, (out_channels or channels) * numbers)
        self.modulation = nn.Linear(width, (6 * depth + 2) * width)
        _initialise(self)

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING) -> Tensor:
        """x (B, C, *space), c_noise (B,) or (1,) -> (B, C', *space), in x's type."""
        refuse_unknown(cond, tokens=self.token_dim)
        if cond.residuals:
            raise ValueError("a transformer has no skip connections to add the condition's residuals to")
        width = self.first.out_features
        modulation = self.modulation(self.embedding(c_noise, cond)).unsqueeze(1)
        *parts, last = modulation.split([*[6 * width] * len(self.blocks), 2 * width], dim=-1)
        text = present_or_null(cond.tokens, self.null_token, cond) if self.token_dim else None
        patches, grid = patchify(with_concat(x, cond, self.concat_channels), self.patch)
        # the sum is in x's type, and so is the residual stream, also where products are in bfloat16
        h = self.first(patches) + positions(grid, width, x.dtype, x.device)
        for block, part in zip(self.blocks, parts, strict=True):
            h = block(h, part, text)
        y = self.last(_modulated(self.norm(h), *last.chunk(2, dim=-1)))
        return crop_to(unpatchify(y, self.patch, grid), x.shape[2:]).to(x.dtype).contiguous()


class TransformerBlock(nn.Module):
    """h + gate attention(...), + cross-attention where there is text, + gate mlp(...): (B, N, width)."""

    def __init__(
        self, width: int, head_dim: int, hidden: int, *, token_dim: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout lies in [0, 1), not at {dropout}")
        self.heads, self.dropout = count_heads(width, head_dim), dropout
        self.norm_attention, self.norm_mlp = plain_norm(width), plain_norm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.gelu, self.mlp_out = nn.Linear(width, hidden), Gelu(), nn.Linear(hidden, width)
        self.cross = CrossAttention(width, token_dim, head_dim=head_dim) if token_dim else None

    def forward(self, h: Tensor, modulation: Tensor, text: Tensor | None = None) -> Tensor:
        """h (B, N, width), modulation (B or 1, 1, 6 width), text (B or 1, M, D)."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, dim=-1)
        q, k, v = self.qkv(_modulated(self.norm_attention(h), shift, scale)).chunk(3, dim=-1)
        h = h + gate * self.out(attend(q, k, v, self.heads))
        if self.cross is not None and text is not None:
            h = self.cross(h.transpose(1, 2), text).transpose(1, 2)
        inner = self.gelu(self.mlp_in(_modulated(self.norm_mlp(h), shift_mlp, scale_mlp)))
        if self.dropout:
            inner = F.dropout(inner, self.dropout, self.training)
        return h + gate_mlp * self.mlp_out(inner)


def plain_norm(width: int) -> nn.LayerNorm:
    """A layer norm without scale and shift of its own: the modulation gives them."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def _modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """h (1 + scale) + shift."""
    return h * (scale + 1) + shift


def _initialise(net: DiT) -> None:
    """Xavier for linear maps, and zero for what must be silent at the start."""
    for module in (net.first, *net.blocks.modules()):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in net.blocks:
        if isinstance(block, TransformerBlock) and block.cross is not None:
            zeroed(block.cross.out)
    zeroed(net.modulation)
    zeroed(net.last)


def patchify(x: Tensor, patch: int) -> tuple[Tensor, tuple[int, ...]]:
    """(B, C, *space) -> (B, N, C p^dims) and the grid of the N tokens; padded at the end by the edge."""
    x = space_to_depth(pad_to(x, patch), patch)
    return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


def unpatchify(tokens: Tensor, patch: int, grid: Sequence[int]) -> Tensor:
    """The inverse of patchify: (B, N, C p^dims) -> (B, C, *space), padding included."""
    x = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
    return depth_to_space(x, patch)


@lru_cache(maxsize=16)
def positions(grid: tuple[int, ...], width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The sinusoids of every token of a grid, (1, N, width); what no axis gets of the width stays zero."""
    with torch.inference_mode(False):  # kept, and used in training as well
        share = width // (2 * len(grid))
        if share < 1:
            raise ValueError(f"a width of {width} has no room for the position on {len(grid)} axes")
        waves = FASTEST * (SLOWEST / FASTEST) ** torch.linspace(0.0, 1.0, share, dtype=torch.float64)
        places = torch.tensor(list(product(*(range(n) for n in grid))), dtype=torch.float64)
        phase = (places[:, :, None] * waves).flatten(1)
        table = torch.cat([phase.cos(), phase.sin()], dim=1)
        return F.pad(table, (0, width - table.shape[1]))[None].to(device, dtype)
