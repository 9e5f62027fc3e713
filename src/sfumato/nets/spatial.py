"""Encoder and decoder whose code keeps its place in the image: (B, C, *space) <-> (B, width, *grid).

    encoder   (convolution with stride 2) `halvings` times, then residual blocks at the coarsest size
    decoder   residual blocks, then (twice the size, convolution) until one halving is left, which a last
              convolution to 2^dims values a position lays out in space

n positions become ceil(n / 2) at each halving, and every odd size is restored. Most of the work is done at
the coarsest size, where positions are few (van den Oord et al. 2017, sec. 4.1, has the same proportions).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import ResidualBlock, conv, crop_to, depth_to_space, resize_to
from .fused import NormSilu


def grid_of(space: Sequence[int], halvings: int) -> tuple[int, ...]:
    """The size after so many halvings, n -> ceil(n / 2)."""
    return tuple(-(-n // 2**halvings) for n in space)


def _widths(width: int, halvings: int) -> list[int]:
    """Channels from the finest size to the coarsest: half of the width before the last halving."""
    return [max(16, width // 2)] * (halvings - 1) + [width]


class SpatialEncoder(nn.Module):
    """(B, channels, *space) -> (B, width, *grid) features, grid = ceil(space / 2^halvings)."""

    def __init__(
        self, channels: int, dims: int, *, width: int = 64, halvings: int = 2, blocks: int = 2
    ) -> None:
        super().__init__()
        if halvings < 1:
            raise ValueError(f"an encoder halves its input at least once, not {halvings} times")
        self.width, self.halvings = width, halvings
        layers: list[nn.Module] = []
        for i, wide in enumerate(_widths(width, halvings)):
            layers += [NormSilu(channels)] if i else []
            layers.append(conv(dims, channels, wide, stride=2))
            channels = wide
        self.net = nn.Sequential(*layers, *(ResidualBlock(dims, width) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, *space) -> (B, width, *grid)."""
        return self.net(x)


class SpatialDecoder(nn.Module):
    """(B, width, *grid) -> (B, channels, *space); mirrors SpatialEncoder."""

    def __init__(
        self, channels: int, space: Sequence[int], *, width: int = 64, halvings: int = 2, blocks: int = 2
    ) -> None:
        super().__init__()
        dims = len(space)
        self.width, self.halvings = width, halvings
        self.sizes = [grid_of(space, k) for k in range(halvings - 1, -1, -1)]
        widths = _widths(width, halvings)[::-1]
        self.net = nn.Sequential(*(ResidualBlock(dims, width) for _ in range(blocks)))
        self.norms = nn.ModuleList(NormSilu(wide) for wide in widths)
        outs = [*widths[1:], channels * 2**dims]
        self.steps = nn.ModuleList(conv(dims, a, b) for a, b in zip(widths, outs, strict=True))

    def forward(self, h: Tensor) -> Tensor:
        """(B, width, *grid) -> (B, channels, *space)."""
        h = self.net(h)
        for i, (norm, step) in enumerate(zip(self.norms, self.steps, strict=True)):
            h = norm(h)
            if i < len(self.steps) - 1:
                h = resize_to(h, self.sizes[i])
            h = step(h)
        return crop_to(depth_to_space(h, 2), self.sizes[-1]).contiguous()
