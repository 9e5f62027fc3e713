"""From grey levels to a density: noise u inside the bin of a level, whose own density is paid back.

    log P(x) >= E_q[log p(x + u) - log q(u)],     u in [-w/2, w/2] for every number, w = 2 / (levels - 1)

with equality where q is p's own law within the bin (Theis et al. 2016, sec. 3.1; Ho et al. 2019, eq. 12).

    Uniform           q = 1/w: right for a density that is flat across a bin
    TruncatedNormal   q = N(0, s^2) cut to the bin: right for a density made of N(0, s^2) around the levels,
                      which is what diffusion trained on the levels themselves holds at its last noise level,
                      s = sigma/alpha there (Zheng et al. 2023, sec. 4.2)

The bins of the lowest and the highest level are open to the outside, (-inf, w/2] and [-w/2, inf): what a
sampler draws there is rounded to them, and p has half of its noise there. The normal is cut to them so; a
uniform law has no such form and keeps to [-w/2, w/2] everywhere, which is a bound as well, a looser one.

Of isolated levels (noise far below w, or neighbours that do not occur) the normal is p's own law, and no q
gains anything. Neighbours whose noise reaches over make p another law within the bin. By quadrature over
four laws of 17 levels (equally likely, e^(-k/2), e^(-2k), a bell of 2 levels) the best q then gains, in the
mean over levels, 0.02 to 0.035 bits a number where s is near 0.4 w, below 0.004 at w/5 and near 0.01 above w.
A learned q(u given x) was not built because there is so little to gain, not because there is nothing.
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

    @property
    @abstractmethod
    def name(self) -> str:
        """The law in words, for the method of a number."""

    @abstractmethod
    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """x + u (B, ...) for x on its grey levels, and log q(u) summed over the event (B,) float64."""


@final
class Uniform(Dequantisation):
    """u uniform over the bin."""

    @property
    def name(self) -> str:
        """uniform."""
        return "uniform"

    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """log q = -D log w."""
        u = self.width * (noise.uniform(x.shape, torch.float64) - 0.5)
        return x + u.to(x.dtype), u.new_full((len(x),), -x[0].numel() * math.log(self.width))


@final
class TruncatedNormal(Dequantisation):
    """u normal of standard deviation `std`, cut to the bin, which is open outwards at the two end levels."""

    def __init__(self, levels: int, std: float) -> None:
        super().__init__(levels)
        if not std > 0:
            raise ValueError(f"a standard deviation must be positive, not {std}")
        self.std = std

    @property
    def name(self) -> str:
        """The normal and its width in bins: truncated normal (0.5 bins)."""
        return f"truncated normal ({self.std / self.width:.3g} bins)"

    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """u = s Phi^-1 of a uniform number between the bin's ends; an end that is open is at Phi = 0 or 1.

        An open bin is drawn as the lowest one, mirrored for the highest: its mass is Phi(w/2s).
        """
        edge = 0.5 * self.width / self.std
        inside = math.erf(edge / math.sqrt(2.0))
        within = 0.5 + 0.5 * inside
        lowest, highest = x.double() < -1.0 + 0.5 * self.width, x.double() > 1.0 - 0.5 * self.width
        u = noise.uniform(x.shape, torch.float64)
        p = torch.where(lowest, within * u, 0.5 + inside * (u - 0.5))
        p = torch.where(highest, within * (1.0 - u), p)
        z = torch.special.ndtri(p.clamp(math.ldexp(1.0, -54), 1.0 - math.ldexp(1.0, -53))).clamp(max=edge)
        z = torch.where(lowest | highest, z, z.clamp(min=-edge))
        z = torch.where(highest, -z, z)
        log_q = event_sum(-0.5 * z * z) - x[0].numel() * (LOG_SQRT_2PI + math.log(self.std * inside))
        opened = event_sum((lowest | highest).double())
        return x + (self.std * z).to(x.dtype), log_q - opened * math.log(within / inside)
