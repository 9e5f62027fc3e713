"""Networks of one layer, whose weights can be looked at.

    encoder      a = W x + b            (B, C, *space) -> (B, out_dim)
    decoder      y = V h + c            column j of V is the filter of unit j: an image
    transposed   y = W^T h + c          tied weights: V is the encoder's W turned round

With one layer the Jacobian of a code is known in closed form, and with tied weights a code cannot be made
small by making its filters large (Rifai et al. 2011, section 2; Vincent et al. 2010, section 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearEncoder(nn.Module):
    """a = W x + b on the flattened input, (B, C, *space) -> (B, out_dim)."""

    def __init__(self, channels: int, space: Sequence[int], out_dim: int) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.layer = nn.Linear(channels * math.prod(space), out_dim)

    @property
    def weight(self) -> Tensor:
        """W, (out_dim, C prod(space))."""
        return self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *space) -> (B, out_dim)."""
        return self.layer(x.flatten(1)).to(x.dtype)


class LinearDecoder(nn.Module):
    """y = V h + c, (B, latent_dim) -> (B, channels, *space)."""

    def __init__(self, latent_dim: int, channels: int, space: Sequence[int]) -> None:
        super().__init__()
        self.shape = (channels, *space)
        self.layer = nn.Linear(latent_dim, math.prod(self.shape))

    def filters(self) -> Tensor:
        """The image that each unit adds, (latent_dim, channels, *space)."""
        return self.layer.weight.detach().T.reshape(-1, *self.shape)

    def forward(self, h: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, *space)."""
        return self.layer(h).reshape(-1, *self.shape).to(h.dtype)


class TransposedDecoder(nn.Module):
    """y = W^T h + c with the W of an encoder, which owns it."""

    def __init__(self, encoder: LinearEncoder, channels: int, space: Sequence[int]) -> None:
        super().__init__()
        self.shape = (channels, *space)
        # in a tuple, so that the encoder's weights are not listed as the decoder's a second time
        self._tied = (encoder,)
        self.bias = nn.Parameter(torch.zeros(math.prod(self.shape)))

    def filters(self) -> Tensor:
        """The image that each unit adds, (latent_dim, channels, *space)."""
        return self._tied[0].weight.detach().reshape(-1, *self.shape)

    def forward(self, h: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, *space)."""
        return F.linear(h, self._tied[0].weight.T, self.bias).reshape(-1, *self.shape).to(h.dtype)
