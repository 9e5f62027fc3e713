"""The way between two points.

    slerp(a, b, w) = sin((1 - w) u) / sin u * a + sin(w u) / sin u * b,   u the angle between a and b

The midpoint of two independent standard normal vectors of n dimensions has norm sqrt(n / 2), not sqrt(n):
a linear path between two starting noises x_T leaves the shell on which the model was trained. On a great
circle the norm goes smoothly from |a| to |b| (Shoemake 1985; Song et al. 2021, DDIM, appendix D.5).
"""

from __future__ import annotations

import torch
from torch import Tensor

PARALLEL = 1e-6  # sine of the angle below which a great circle is not defined


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """The great circle from a to b (B, ...), row by row; a straight line where a and b are parallel."""
    flat_a, flat_b = a.flatten(1).double(), b.flatten(1).double()
    norms = (flat_a.norm(dim=1) * flat_b.norm(dim=1)).clamp_min(1e-30)
    angle = torch.acos(((flat_a * flat_b).sum(1) / norms).clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    defined = sine > PARALLEL
    safe = torch.where(defined, sine, 1.0)
    from_a = torch.where(defined, torch.sin((1.0 - weight) * angle) / safe, 1.0 - weight)
    from_b = torch.where(defined, torch.sin(weight * angle) / safe, weight)
    return (from_a[:, None] * flat_a + from_b[:, None] * flat_b).reshape(a.shape).to(a.dtype)
