"""What the units of a code may say, given the encoder's last numbers a (B, D).

    linear     h = a
    sigmoid    h = 1 / (1 + e^-a), in (0, 1): a unit is more or less active
    top k      h_j = a_j for the k largest a_j, 0 for the rest          (Makhzani & Frey 2014, section 2.1)

The gradient reaches the k largest and no other, so with a small k the units that win at first would win for
good and the rest never learn. Training therefore begins with many, k_0, and falls linearly to k over the
first half of a stage (section 2.3 of the paper); in its second half and afterwards k speak:

    k(done) = k + (k_0 - k) max(0, 1 - 2 done)               done: the share of the stage behind us

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

    def progress(self, done: float) -> None:
        """Told in training, before each step: the share of the stage that is behind us, in [0, 1]."""


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
    """The k largest numbers stay, the rest are 0. first: k_0, how many stay when training begins; 0: k."""

    def __init__(self, k: int, first: int = 0) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"a k-sparse code keeps at least one unit, not {k}")
        if first and first < k:
            raise ValueError(f"training begins with at least k = {k} units, not {first}")
        self.k, self.first = k, first or k
        self.now = k

    def progress(self, done: float) -> None:
        """k(done), rounded."""
        self.now = round(self.k + (self.first - self.k) * max(0.0, 1.0 - 2.0 * done))

    def forward(self, a: Tensor) -> Tensor:
        """a at its k largest places, (B, D); in training at its k(done) largest."""
        return _kept(a, a, self.now if self.training else self.k)

    def legal(self, z: Tensor) -> Tensor:
        """z at its k largest places by size: a code has k numbers, and they may be negative."""
        return _kept(z, z.abs(), self.k)

    def check(self, latent: int) -> None:
        """A code of fewer than k units has no k largest."""
        if self.first > latent:
            raise ValueError(f"k = {self.first} of {latent} code units: k is at most the code's length")


def _kept(values: Tensor, order: Tensor, k: int) -> Tensor:
    """values where order is among the k largest of its row, else 0."""
    places = order.topk(k, dim=1).indices
    return torch.zeros_like(values).scatter(1, places, values.gather(1, places))
