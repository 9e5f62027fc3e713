"""The Gaussian probability of a grey level's bin, and its derivatives in closed form.

With standardised edges a < b, a = -infinity for the first level and b = +infinity for the last,

    P = Phi(b) - Phi(a) = Q(lo) - Q(hi),      Q(v) = erfc(v / sqrt 2) / 2
    d log P = (phi(b) db - phi(a) da) / P

lo and hi are the edges seen from the nearer tail, so that neither term is near one. All is computed in
float64, where the difference keeps ten digits for bins of a millionth of a standard deviation, and where
vectorised erfc costs a tenth of log Phi. Beyond lo = 25, where Q leaves the range of float64,

    log Q(v) = -v^2/2 - log(v sqrt(2 pi)) + log(1 - 1/v^2 + 3/v^4 - 15/v^6)          to 1e-9

Writing the derivative down leaves two numbers an element for the backward pass, and no graph.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..core.stable import log1mexp
from .gaussian import LOG_SQRT_2PI

FAR = 25.0
BEYOND = 1e150  # an edge that is not there, in standard deviations


def gauss_log_mass(x: Tensor, location: Tensor, log_scale: Tensor, width: float) -> Tensor:
    """log P of levels x = -1 + k width under N(location, exp(2 log_scale)), in nats; shapes broadcast.

    Differentiable once in all three tensors.
    """
    return cast(Tensor, _Mass.apply(x, location, log_scale, width))  # type: ignore[no-untyped-call]


class _Mass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, location: Tensor, log_scale: Tensor, width: float) -> Tensor:
        scale = log_scale.double().exp()
        u, half = (x.double() - location) / scale, 0.5 * width / scale
        # arithmetic instead of selection, which no kernel vectorises
        below, above = (x < -1.0 + 0.5 * width).double(), (x > 1.0 - 0.5 * width).double()
        a, b = u - half - BEYOND * below, u + half + BEYOND * above
        side = torch.copysign(torch.ones((), dtype=u.dtype, device=u.device), u + BEYOND * (above - below))
        one, other = side * a, side * b
        mass = log_between(torch.minimum(one, other), torch.maximum(one, other))
        ctx.shapes = x.shape, location.shape, log_scale.shape
        kind = mass_type(location)
        if any(ctx.needs_input_grad):
            at_a, at_b = (torch.exp(-0.5 * edge * edge - (mass + LOG_SQRT_2PI)) for edge in (a, b))
            ctx.save_for_backward(((at_b - at_a) / scale).to(kind), (at_a * a - at_b * b).to(kind))
        return mass.to(kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        by_x, by_log_scale = ctx.saved_tensors
        wanted, (x, location, log_scale) = ctx.needs_input_grad, ctx.shapes
        along = grad * by_x if wanted[0] or wanted[1] else None
        return (
            along.sum_to_size(x) if wanted[0] and along is not None else None,
            -along.sum_to_size(location) if wanted[1] and along is not None else None,
            (grad * by_log_scale).sum_to_size(log_scale) if wanted[2] else None,
            None,
        )


def mass_type(location: Tensor) -> torch.dtype:
    """The type of the answer: the location's, or float32 where that is a half type."""
    return location.dtype if location.dtype == torch.float64 else torch.float32


def log_between(lo: Tensor, hi: Tensor) -> Tensor:
    """log(Q(lo) - Q(hi)) for lo < hi, float64."""
    root = math.sqrt(0.5)
    body = torch.log(0.5 * (torch.erfc(lo * root) - torch.erfc(hi * root)))
    # rare, and on a CPU free to ask; a GPU would have to wait for the answer
    if lo.device.type == "cpu" and not bool((lo > FAR).any()):
        return body
    v, w = lo.clamp(min=FAR), hi.clamp(min=FAR)
    rest = _rest(v)
    apart = 0.5 * (w - v) * (w + v) + torch.log(w / v) + rest - _rest(w)
    inside = log1mexp(apart.clamp(min=1e-300))
    assert isinstance(inside, Tensor)
    far = rest - 0.5 * v * v - torch.log(v) - LOG_SQRT_2PI + inside
    return torch.where(lo > FAR, far, body)


def _rest(v: Tensor) -> Tensor:
    """log(1 - 1/v^2 + 3/v^4 - 15/v^6)."""
    square = 1.0 / (v * v)
    return torch.log1p(-square * (1.0 - 3.0 * square * (1.0 - 5.0 * square)))
