"""The parts of convolutional networks, for one, two and three spatial dimensions alike.

Residual block, pre-activated and modulated by the noise level and the condition:

    h = conv(silu(norm(x)))
    y = x + conv_0(silu(dropout(norm(h) (1 + scale) + shift)))         conv_0 starts at zero

so a fresh block is the identity, and all blocks of one level have the same shapes. The norm is a group
norm over groups of 16 channels: per sample, hence independent of the rest of the batch.

Space to depth, patch p:  (B, C, p a, p b) <-> (B, C p^2, a, b), a permutation of the same numbers;
p^dims fewer positions, p^dims times the channels at the edges of the network only.

He et al. 2016 (pre-activation); Wu and He 2018 (group norm); Dhariwal and Nichol 2021 (scale and shift).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional as F

from .fused import NormSilu

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


def conv(
    dims: int,
    c_in: int,
    c_out: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    bias: bool = True,
    zero: bool = False,
) -> nn.Module:
    """A padded convolution in 1, 2 or 3 dimensions: n -> ceil(n / stride) positions; zero: starts at zero."""
    if dims not in _CONV:
        raise ValueError(f"convolutions exist for 1, 2 and 3 spatial dimensions, not {dims}")
    module = _CONV[dims](c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=bias)
    return zeroed(module) if zero else module


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all its parameters set to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResidualBlock(nn.Module):
    """x + conv_0(silu(norm(conv(silu(norm x))) (1 + scale) + shift)): (B, C, *space) -> the same shape."""

    def __init__(self, dims: int, channels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_in, self.norm_out = NormSilu(channels), NormSilu(channels)
        self.conv_in = conv(dims, channels, channels)
        self.conv_out = conv(dims, channels, channels, zero=True)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout lies in [0, 1), not at {dropout}")
        self.dropout = dropout

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """modulation: (B or 1, 2 C), scale and shift; without it the block is not modulated."""
        h, x = self.norm_in.fork(x)
        h = self.norm_out(self.conv_in(h), modulation)
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        return self.conv_out(h).add_(x)  # in place: the convolution's output is ours, and unsaved


def resize_to(x: Tensor, space: tuple[int, ...]) -> Tensor:
    """Nearest neighbour to the given size; undoes a stride of 2 of any size, odd ones too."""
    return x if tuple(x.shape[2:]) == tuple(space) else F.interpolate(x, size=space, mode="nearest")


def space_to_depth(x: Tensor, patch: int) -> Tensor:
    """(B, C, p n_1, ..) -> (B, C p^dims, n_1, ..); sizes must be divisible by the patch."""
    if patch == 1:
        return x
    space = x.shape[2:]
    if any(n % patch for n in space):
        raise ValueError(f"space {tuple(space)} is not divisible by the patch {patch}")
    dims = len(space)
    x = x.reshape(*x.shape[:2], *chain.from_iterable((n // patch, patch) for n in space))
    inner = [3 + 2 * i for i in range(dims)]
    x = x.permute(0, 1, *inner, *[2 + 2 * i for i in range(dims)])
    return x.reshape(x.shape[0], -1, *[n // patch for n in space])


def depth_to_space(x: Tensor, patch: int) -> Tensor:
    """The inverse of space_to_depth: (B, C p^dims, n_1, ..) -> (B, C, p n_1, ..)."""
    if patch == 1:
        return x
    space = x.shape[2:]
    dims = len(space)
    x = x.reshape(x.shape[0], -1, *[patch] * dims, *space)
    x = x.permute(0, 1, *chain.from_iterable((2 + dims + i, 2 + i) for i in range(dims)))
    return x.reshape(*x.shape[:2], *[n * patch for n in space])


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """x padded at the end of every spatial axis, by its edge, to a multiple; the caller crops."""
    missing = [-n % multiple for n in x.shape[2:]]
    if not any(missing):
        return x
    return F.pad(x, tuple(chain.from_iterable((0, m) for m in reversed(missing))), mode="replicate")


def crop_to(x: Tensor, space: Sequence[int]) -> Tensor:
    """The first positions of every spatial axis."""
    for axis, n in enumerate(space):
        x = x.narrow(2 + axis, 0, n)
    return x
