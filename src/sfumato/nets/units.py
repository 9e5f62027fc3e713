"""What the units of a code may say, given the encoder's last numbers a (B, D).

    linear     h = a
    sigmoid    h = 1 / (1 + e^-a), in (0, 1): a unit is more or less active
    top k      h_j = a_j for the k largest a_j, 0 for the rest          (Makhzani & Frey 2014, section 2.1)

The k largest are kept in training and afterwards; the gradient reaches those k and no other.
`legal` is the nearest code the units could have said: a code drawn from a fitted density need not be one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn


class Units(nn.Module, ABC):
    """The last step of an encoder."""

    @abstractmethod
    def forward(self, a: Tensor) -> Tensor:
        """The code h (B, D) of numbers a (B, D)."""

    @abstractmethod
    def legal(self, z: Tensor) -> Tensor:
        """The code nearest to any z (B, D) among those the units can say; h itself for a code h."""

    def check(self, latent: int) -> None:
        """ValueError where codes of this length do not exist for these units."""


@final
class LinearUnits(Units):
    """h = a."""

    def forward(self, a: Tensor) -> Tensor:
        """a itself."""
        return a

    def legal(self, z: Tensor) -> Tensor:
        """z itself."""
        return z


@final
class SigmoidUnits(Units):
    """h = sigmoid(a), each unit in (0, 1)."""

    def forward(self, a: Tensor) -> Tensor:
        """sigmoid(a)."""
        return torch.sigmoid(a)

    def legal(self, z: Tensor) -> Tensor:
        """z cut to [0, 1]."""
        return z.clamp(0.0, 1.0)


@final
class TopUnits(Units):
    """The k largest numbers stay, the rest are 0."""

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"a k-sparse code keeps at least one unit, not {k}")
        self.k = k

    def forward(self, a: Tensor) -> Tensor:
        """a at its k largest places, (B, D)."""
        return _kept(a, a, self.k)

    def legal(self, z: Tensor) -> Tensor:
        """z at its k largest places by size: a code has k numbers, and they may be negative."""
        return _kept(z, z.abs(), self.k)

    def check(self, latent: int) -> None:
        """A code of fewer than k units has no k largest."""
        if self.k > latent:
            raise ValueError(f"k = {self.k} of {latent} code units: k is at most the code's length")


def _kept(values: Tensor, order: Tensor, k: int) -> Tensor:
    """values where order is among the k largest of its row, else 0."""
    places = order.topk(k, dim=1).indices
    return torch.zeros_like(values).scatter(1, places, values.gather(1, places))
