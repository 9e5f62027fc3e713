"""A codec carries images to the space in which a density lives, and back.

Pixels are a codec: the identity. A VAE is one: images to vectors. The second stage never knows which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from ..core.noise import Noise


class Codec(nn.Module, ABC):
    """x (B, C, *space) in [-1, 1] <-> z (B, ...)."""

    @abstractmethod
    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The code of x: a draw of the posterior, or its mean where no noise is given."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """The expected image of a code."""


@final
class Pixels(Codec):
    """The identity."""

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """x itself."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """z itself."""
        return z
