"""The mean of a discretised logistic over its grey levels, without a sum over all of them.

With edges e_j = -1 + (j + 1/2) w between the levels, w = 2 / (levels - 1), summation by parts gives

    E[x] = sum_k x_k P(x_k) = 1 - w sum_j F(e_j),        F(t) = sigmoid((t - m) / s)

the midpoint rule for the mean of the logistic cut to [-1, 1], which has a closed form:

    E[clip X] = 1 - int_-1^1 F dt = 1 - s (softplus((1 - m) / s) - softplus((-1 - m) / s))

s >= w    the integral and three terms of the Euler-Maclaurin series of the midpoint rule,
          w sum_j F(e_j) = int F - w^2/24 [F'] + 7 w^4/5760 [F'''] - 31 w^6/967680 [F^(5)] + ...,
          [f] = f(1) - f(-1); what is left out is below 1e-5 w (the poles of F lie pi s off the real line)
s < w     the sum over the 25 edges nearest to m; the others are 0 or 1 to within e^-12
few       up to 26 levels: the sum itself
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 25  # edges beyond which F is 0 or 1 where s < w


def logistic_mean(location: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """E[x] of DiscretizedLogistic(location, log_scale, levels), in the shape of both together."""
    location, scale = torch.broadcast_tensors(location, torch.exp(log_scale))
    edges, width = levels - 1, 2.0 / (levels - 1)
    if edges <= NEAR:
        return 1.0 - width * _over_edges(location, scale, torch.zeros_like(location), edges, width)
    wide = 1.0 - _midpoint_rule(location, scale, width)
    narrow = scale < width
    m, s = location[narrow], scale[narrow]
    first = ((m + 1.0) / width - 0.5 * NEAR).round().clamp(0, edges - NEAR)
    above = edges - NEAR - first  # edges above those looked at, where F = 1
    wide[narrow] = 1.0 - width * (above + _over_edges(m, s, first, NEAR, width))
    return wide


def _over_edges(location: Tensor, scale: Tensor, first: Tensor, count: int, width: float) -> Tensor:
    """The sum of F over `count` edges from number `first` on."""
    total = torch.zeros_like(location)
    for j in range(count):
        total += torch.sigmoid((-1.0 + (first + j + 0.5) * width - location) / scale)
    return total


def _midpoint_rule(location: Tensor, scale: Tensor, width: float) -> Tensor:
    """w sum_j F(e_j) by the Euler-Maclaurin series."""
    high, low = (1.0 - location) / scale, (-1.0 - location) / scale
    integral = scale * (F.softplus(high) - F.softplus(low))
    h = (width / scale).clamp_max(1.0).square()  # (w / s)^2; narrower ones are not taken from here
    terms = [
        p * ((1 - h * 7 / 240 * (1 - 6 * p)) + h * h * 31 / 40320 * (1 - 30 * p + 120 * p * p))
        for p in (torch.sigmoid(u) * torch.sigmoid(-u) for u in (high, low))
    ]
    return integral - width * (width / scale) / 24 * (terms[0] - terms[1])
