"""From grey levels to a density: noise u inside the bin of a level, whose own density is paid back.

    log P(x) >= E_q[log p(x + u) - log q(u)],     u in [-w/2, w/2] for every number, w = 2 / (levels - 1)

with equality where q is p's own law within the bin (Theis et al. 2016, sec. 3.1; Ho et al. 2019, eq. 12).

    Uniform           q = 1/w: right for a density that is flat across a bin
    TruncatedNormal   q = N(0, s^2) cut to the bin: right for a density made of N(0, s^2) around the levels,
                      which is what diffusion trained on the levels themselves holds at its last noise level,
                      s = sigma/alpha there (Zheng et al. 2023, sec. 4.2)

The second becomes the first where s is far above w, so it needs no choice. A trained q(u given x) could add
nothing to it: a denoiser that finds the level at all leaves just this law around it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_sum
from .gaussian import LOG_SQRT_2PI


class Dequantisation(ABC):
    """A law of u within the bin of one of `levels` grey levels."""

    def __init__(self, levels: int) -> None:
        if levels < 2:
            raise ValueError(f"grey levels to dequantise are at least 2, not {levels}")
        self.width = 2.0 / (levels - 1)

    @abstractmethod
    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """x + u (B, ...) for x on its grey levels, and log q(u) summed over the event (B,) float64."""


@final
class Uniform(Dequantisation):
    """u uniform over the bin."""

    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """log q = -D log w."""
        u = self.width * (noise.uniform(x.shape, torch.float64) - 0.5)
        return x + u.to(x.dtype), u.new_full((len(x),), -x[0].numel() * math.log(self.width))


@final
class TruncatedNormal(Dequantisation):
    """u normal of standard deviation `std`, cut to the bin."""

    def __init__(self, levels: int, std: float) -> None:
        super().__init__(levels)
        if not std > 0:
            raise ValueError(f"a standard deviation must be positive, not {std}")
        self.std = std

    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """u = s Phi^-1 of a uniform number between the bin's ends."""
        edge = 0.5 * self.width / self.std
        inside = math.erf(edge / math.sqrt(2.0))
        p = 0.5 + inside * (noise.uniform(x.shape, torch.float64) - 0.5)
        z = torch.special.ndtri(p.clamp(min=math.ldexp(1.0, -54))).clamp(-edge, edge)
        log_q = event_sum(-0.5 * z * z) - x[0].numel() * (LOG_SQRT_2PI + math.log(self.std * inside))
        return x + (self.std * z).to(x.dtype), log_q
