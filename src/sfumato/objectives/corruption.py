"""What is done to an image before a denoising autoencoder sees it (Vincent et al. 2010, section 3.3).

    masking           each value becomes `value` with probability p, by a coin of its own
    Gaussian          x + std * eps
    salt and pepper   each value becomes the lowest or the highest, -1 or 1, with probability p

Values are those of the model, in [-1, 1]: the paper's zero is -1 here, which is black. What was changed
is drawn anew at every look at an image; the autoencoder is to give back the image as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise


class Corruption(nn.Module, ABC):
    """x (B, C, *space) -> a corrupted x of the same shape."""

    @abstractmethod
    def forward(self, x: Tensor, *, noise: Noise) -> Tensor:
        """The corrupted images; row b is a function of x_b and its own noise."""


@final
class Clean(Corruption):
    """Nothing is changed: the plain autoencoder."""

    def forward(self, x: Tensor, *, noise: Noise) -> Tensor:
        """x itself."""
        return x


@final
class Masking(Corruption):
    """A share p of the values is hidden behind one value (-1: black)."""

    def __init__(self, p: float = 0.3, value: float = -1.0) -> None:
        super().__init__()
        self.p, self.value = probability(p), value

    def forward(self, x: Tensor, *, noise: Noise) -> Tensor:
        """x, or `value` where a uniform draw is below p."""
        return torch.where(noise.uniform(x.shape) < self.p, self.value, x)


@final
class GaussianCorruption(Corruption):
    """x + std * eps, in model units: 0.1 is a twentieth of the range."""

    def __init__(self, std: float = 0.3) -> None:
        super().__init__()
        if not std >= 0.0:
            raise ValueError(f"a standard deviation is 0 or more, not {std}")
        self.std = std

    def forward(self, x: Tensor, *, noise: Noise) -> Tensor:
        """x + std * eps; it may leave [-1, 1], as in the paper."""
        return x + self.std * noise.normal(x.shape, x.dtype)


@final
class SaltAndPepper(Corruption):
    """A share p of the values is set to -1 or to 1, by a fair coin."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.p = probability(p)

    def forward(self, x: Tensor, *, noise: Noise) -> Tensor:
        """-1 where a uniform draw u < p/2, 1 where p/2 <= u < p, else x."""
        u = noise.uniform(x.shape)
        return torch.where(u < self.p / 2, -1.0, torch.where(u < self.p, 1.0, x))


@final
class InTurn(Corruption):
    """Several corruptions, one after the other."""

    def __init__(self, corruptions: tuple[Corruption, ...]) -> None:
        super().__init__()
        self.corruptions = nn.ModuleList(corruptions)

    def forward(self, x: Tensor, *, noise: Noise) -> Tensor:
        """The last of the first of x."""
        for corruption in self.corruptions:
            x = corruption(x, noise=noise)
        return x


def probability(p: float) -> float:
    """p itself; ValueError outside [0, 1]."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"a probability lies in [0, 1], not at {p}")
    return p
