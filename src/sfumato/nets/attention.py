"""Attention over positions, and from positions to tokens.

    y = x + W_0 softmax(Q K^T / sqrt(d)) V,      W_0 starts at zero

Self-attention takes Q, K, V from the normalised positions of a feature map (B, C, *space); it costs
positions^2, so it belongs to the coarse levels. Cross-attention takes K and V from tokens (B, N, D).

Vaswani et al. 2017, eq. 1.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import zeroed


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, h d) -> (B, h, N, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt d) V for (B, N, h d) tensors, head by head."""
    out = F.scaled_dot_product_attention(_heads(q, heads), _heads(k, heads), _heads(v, heads))
    return out.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Every position attends to every other: (B, C, *space) -> the same shape, C = heads * head_dim."""

    def __init__(self, channels: int, *, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = count_heads(channels, head_dim)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *space) -> (B, C, *space)."""
        flat = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(flat).chunk(3, dim=-1)
        y = self.out(attend(q, k, v, self.heads))
        return x + y.transpose(1, 2).reshape(x.shape)


class CrossAttention(nn.Module):
    """Every position attends to the tokens (B, N, D), and to nothing else."""

    def __init__(self, channels: int, token_dim: int, *, head_dim: int = 32) -> None:
        super().__init__()
        self.heads = count_heads(channels, head_dim)
        self.norm, self.norm_tokens = nn.LayerNorm(channels), nn.LayerNorm(token_dim)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(token_dim, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, C, *space), (B or 1, N, D) -> (B, C, *space)."""
        q = self.q(self.norm(x.flatten(2).transpose(1, 2)))
        k, v = self.kv(self.norm_tokens(tokens)).expand(x.shape[0], -1, -1).chunk(2, dim=-1)
        y = self.out(attend(q, k, v, self.heads))
        return x + y.transpose(1, 2).reshape(x.shape)


def count_heads(channels: int, head_dim: int) -> int:
    """How many heads of the wanted width fit; the channels must divide evenly."""
    heads = max(1, channels // head_dim)
    if channels % heads:
        raise ValueError(f"{channels} channels do not split into heads of {head_dim}")
    return heads
