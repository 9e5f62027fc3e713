"""Which grey level was it, seen through Gaussian noise: the decoder of a variational diffusion model.

    P(x_k) = phi((x_k - m) / s) / sum_j phi((x_j - m) / s)         x_k = -1 + k w, w = 2 / (levels - 1)

the posterior of a level under q(z | x) = N(alpha x, sigma^2) with all levels equally likely beforehand,
m = z / alpha and s = sigma / alpha (Kingma et al. 2021, sec. 3.2 and app. C). Where s is far below w it is
one at the right level; a bin of a Gaussian around m (see discretized.py) is not, because z is noisy: at
s = w / 6 it costs 0.054 bits per dimension and this 0.011.

The sum runs over the levels within 8 s of m: what is left out is below e^-32 of it. Its cost grows with
s / w, so it is meant for the last, almost clean level of a process.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.shapes import event_sum

REACH = 8.0  # standard deviations within which levels are summed


def lattice_log_prob(x: Tensor, location: Tensor, scale: Tensor, levels: int) -> Tensor:
    """log P(x) in nats, (B,): x and location (B, ...), scale one number or broadcasting to them.

    ValueError for fewer than two levels; x must lie on the levels, which is not looked at.
    """
    if levels < 2:
        raise ValueError(f"a likelihood of grey levels needs at least 2 of them, not {levels}")
    width = 2.0 / (levels - 1)
    around = min(levels - 1, math.ceil(REACH * float(scale.detach().max()) / width) + 1)
    # the level next to m, clamped to those there are; a constant, so that no gradient asks how it moves
    nearest = torch.round((location.detach().clamp(-1.0, 1.0) + 1.0) / width)
    total = torch.full_like(location, -math.inf)
    for offset in range(-around, around + 1):
        k = nearest + offset
        exponent = _exponent(k * width - 1.0, location, scale)
        there = (k >= 0) & (k <= levels - 1)
        total = torch.logaddexp(total, torch.where(there, exponent, torch.full_like(exponent, -1e30)))
    return event_sum(_exponent(x, location, scale) - total)


def _exponent(x: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((x - location) / scale) ** 2
