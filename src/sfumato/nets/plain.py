"""Networks without skips across levels: perceptrons, and the encoder and decoder of an autoencoder.

    perceptron          h = W_in x,  then h += W_2 silu(norm(W_1 silu(norm h)) (1 + scale) + shift) for
                        every block, then W_out silu(norm h)
    encoder             conv, stride 2, then (residual block, stride 2) until at most 4 positions remain
                        per axis, then one linear map to out_dim numbers
    decoder             the same backwards; every odd size on the way is restored

Both take any size: strides round up, n -> ceil(n / 2). The first stride comes before any block, because
full-resolution convolutions are most of the cost of an autoencoder and little of its quality.

Kingma and Welling 2014 (appendix C: the perceptrons of a VAE).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ..core.condition import NOTHING, Condition
from .blocks import ResidualBlock, conv, crop_to, depth_to_space, resize_to, zeroed
from .embed import Embedding, refuse_unknown, with_concat
from .fused import NormSilu, modulated

SMALLEST = 4  # positions per axis at which an encoder stops halving


class MlpNet(nn.Module):
    """The network of a denoiser on points (B, dim), with the U-Net's signature; starts at zero."""

    def __init__(
        self,
        dim: int,
        *,
        width: int = 128,
        depth: int = 4,
        concat_channels: int = 0,
        vector_dim: int = 0,
        classes: int = 0,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.concat_channels = concat_channels
        self.embedding = Embedding(width, width, classes=classes, vector_dim=vector_dim)
        self.first = nn.Linear(dim + (concat_channels + 1 if concat_channels else 0), width)
        self.blocks = nn.ModuleList(_MlpBlock(width) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width * depth)
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, out_channels or dim))

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING) -> Tensor:
        """x (B, dim), c_noise (B,) or (1,) -> (B, dim or out_channels)."""
        refuse_unknown(cond, tokens=0)
        parts = self.modulation(self.embedding(c_noise, cond)).chunk(len(self.blocks), dim=1)
        h = self.first(with_concat(x, cond, self.concat_channels))
        for block, modulation in zip(self.blocks, parts, strict=True):
            h = block(h, modulation)
        return self.last(F.silu(self.norm(h))).to(x.dtype)


class _MlpBlock(nn.Module):
    """h + W_2 silu(norm(W_1 silu(norm h)) (1 + scale) + shift), modulated where a modulation is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear_in, self.linear_out = nn.Linear(width, width), zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, modulation: Tensor | None = None) -> Tensor:
        inner = self.norm_out(self.linear_in(F.silu(self.norm_in(h))))
        if modulation is not None:
            inner = modulated(inner, modulation)
        return h + self.linear_out(F.silu(inner))


class _Mlp(nn.Sequential):
    """Linear, residual blocks, norm, SiLU, linear: (B, c_in) -> (B, c_out)."""

    def __init__(self, c_in: int, c_out: int, width: int, depth: int) -> None:
        body = [_MlpBlock(width) for _ in range(depth)]
        super().__init__(
            nn.Linear(c_in, width), *body, nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, c_out)
        )


class MlpEncoder(nn.Module):
    """(B, C, *space) -> (B, out_dim) by a perceptron on the flattened input."""

    def __init__(
        self, channels: int, space: Sequence[int], out_dim: int, *, width: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.net = _Mlp(channels * math.prod(space), out_dim, width, depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *space) -> (B, out_dim)."""
        return self.net(x.flatten(1)).to(x.dtype)


class MlpDecoder(nn.Module):
    """(B, latent_dim) -> (B, channels, *space) by a perceptron."""

    def __init__(
        self, latent_dim: int, channels: int, space: Sequence[int], *, width: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        self.shape = (channels, *space)
        self.net = _Mlp(latent_dim, math.prod(self.shape), width, depth)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, *space)."""
        return self.net(z).reshape(-1, *self.shape).to(z.dtype)


def halvings(space: Sequence[int]) -> list[tuple[int, ...]]:
    """The sizes an encoder passes through: from the input down to at most 4 positions per axis."""
    sizes = [tuple(space)]
    while not sizes[1:] or max(sizes[-1]) > SMALLEST:
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
    return sizes


def widths_of(levels: int, width: int, limit: int = 4) -> list[int]:
    """Channels per level: doubling from width, at most limit * width."""
    return [width * min(2**i, limit) for i in range(levels)]


class ConvEncoder(nn.Module):
    """(B, C, *space) -> (B, out_dim) for any size in 1-D, 2-D and 3-D; see the module.

    out_dim is twice the latent dimension when mean and log-variance are wanted.
    """

    def __init__(
        self, channels: int, space: Sequence[int], out_dim: int, *, width: int = 32, blocks: int = 1
    ) -> None:
        super().__init__()
        self.out_dim = out_dim
        sizes, dims = halvings(space), len(space)
        widths = widths_of(len(sizes) - 1, width)
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise([channels, *widths]):
            layers += [conv(dims, c_in, c_out, stride=2)]
            layers += [ResidualBlock(dims, c_out) for _ in range(blocks)]
        self.net = nn.Sequential(*layers, NormSilu(widths[-1]), nn.Flatten())
        self.last = nn.Linear(widths[-1] * math.prod(sizes[-1]), out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *space) -> (B, out_dim)."""
        return self.last(self.net(x)).to(x.dtype)


class ConvDecoder(nn.Module):
    """(B, latent_dim) -> (B, channels, *space) for any size in 1-D, 2-D and 3-D; mirrors ConvEncoder."""

    def __init__(
        self, latent_dim: int, channels: int, space: Sequence[int], *, width: int = 32, blocks: int = 1
    ) -> None:
        super().__init__()
        dims = len(space)
        self.sizes = halvings(space)[::-1]
        widths = widths_of(len(self.sizes) - 1, width)[::-1]
        self.start = (widths[0], *self.sizes[0])
        self.first = nn.Linear(latent_dim, math.prod(self.start))
        self.rows = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(dims, w) for _ in range(blocks))) for w in widths
        )
        # the last step to full size is a convolution to 2^dims values per position, laid out in space:
        # no feature map at full resolution is ever computed
        self.steps = nn.ModuleList(conv(dims, a, b) for a, b in pairwise(widths))
        self.norm = NormSilu(widths[-1])
        self.last = conv(dims, widths[-1], channels * 2**dims)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, *space)."""
        h = self.first(z).reshape(-1, *self.start)
        for i, row in enumerate(self.rows):
            if i:
                h = self.steps[i - 1](resize_to(h, self.sizes[i]))
            h = row(h)
        h = depth_to_space(self.last(self.norm(h)), 2)
        return crop_to(h, self.sizes[-1]).to(z.dtype).contiguous()
