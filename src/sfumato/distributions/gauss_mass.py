"""The Gaussian probability of a grey level's bin, and its derivatives in closed form.

With standardised edges a < b, a = -infinity for the first level and b = +infinity for the last,

    P = Phi(b) - Phi(a) = Q(lo) - Q(hi),      Q(v) = erfc(v / sqrt 2) / 2
    d log P = (phi(b) db - phi(a) da) / P

lo and hi are the edges seen from the nearer tail, so that neither term is near one. All is computed in
float64, where the difference keeps ten digits for bins of a millionth of a standard deviation, and where
vectorised erfc costs a tenth of log Phi. Beyond lo = 25, where Q leaves the range of float64,

    log Q(v) = -v^2/2 - log(v sqrt(2 pi)) + log(1 - 1/v^2 + 3/v^4 - 15/v^6)          to 1e-9

Most bins of most images are narrow and inner. With u the bin's middle, h half its width and e = h^2, the
cumulants of a uniform position within the bin make log P a polynomial, to 2e-7 for h <= 0.15, |u| h <= 0.5:

    log P = log 2h - log sqrt(2 pi) - e/6 + e^2/90 + (-1/2 + e/6 - e^2/45) u^2
            + (-e^2/180 + 2 e^3/945) u^4 + e^3/2835 u^6

which float32 holds, and which costs a third. An outer bin is a single tail, whose series begins at v = 9 in
float32, to 3e-6.

Writing the derivative down leaves two numbers an element for the backward pass, and no graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..core.stable import log1mexp
from .gaussian import LOG_SQRT_2PI

FAR, FAR_SINGLE = 25.0, 9.0  # where Q is left to the series, in float64 and in float32
NARROW, REACH = 0.15, 0.5  # of h and |u| h, within which the series holds
BEYOND = 1e150  # an edge that is not there, in standard deviations


def gauss_log_mass(x: Tensor, location: Tensor, log_scale: Tensor, width: float) -> Tensor:
    """log P of levels x = -1 + k width under N(location, exp(2 log_scale)), in nats; shapes broadcast.

    Differentiable once in all three tensors.
    """
    return cast(Tensor, _Mass.apply(x, location, log_scale, width))  # type: ignore[no-untyped-call]


class _Mass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, location: Tensor, log_scale: Tensor, width: float) -> Tensor:
        found, kind = None, mass_type(location)
        # a GPU would have to wait to learn which bins the series does not reach
        if x.device.type == "cpu" and kind == torch.float32 and log_scale.numel() <= x[0].shape[:1].numel():
            found = by_series(x, location, log_scale, width)
        mass, by_x, by_log_scale = found or by_tails(x, location, log_scale, width)
        ctx.shapes = x.shape, location.shape, log_scale.shape
        ctx.save_for_backward(by_x.to(kind), by_log_scale.to(kind))
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


def by_tails(x: Tensor, location: Tensor, log_scale: Tensor, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """log P and its derivatives in x and log_scale, float64: exact for every bin."""
    scale = log_scale.double().exp()
    u, half = (x.double() - location) / scale, 0.5 * width / scale
    # arithmetic instead of selection, which no kernel vectorises
    below, above = (x < -1.0 + 0.5 * width).double(), (x > 1.0 - 0.5 * width).double()
    a, b = u - half - BEYOND * below, u + half + BEYOND * above
    side = torch.copysign(torch.ones((), dtype=u.dtype, device=u.device), u + BEYOND * (above - below))
    one, other = side * a, side * b
    mass = log_between(torch.minimum(one, other), torch.maximum(one, other))
    at_a, at_b = (torch.exp(-0.5 * edge * edge - (mass + LOG_SQRT_2PI)) for edge in (a, b))
    return mass, (at_b - at_a) / scale, at_a * a - at_b * b


def _by_tail(x: Tensor, location: Tensor, log_scale: Tensor, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same of first and last levels alone: P = Q(v) with v the inner edge seen from the middle.

    One term, from which nothing is taken away: float32 will do.
    """
    inverse, side = torch.exp(-log_scale), torch.sign(x)
    v = (side * (x - location) - 0.5 * width) * inverse
    log_ratio = log_mills(v, FAR_SINGLE)
    slope = torch.exp(-log_ratio)
    return log_ratio - 0.5 * v * v - LOG_SQRT_2PI, -slope * side * inverse, slope * v


def by_series(
    x: Tensor, location: Tensor, log_scale: Tensor, width: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The same in float32, inner bins by the series as far as it reaches; None: it reaches too few."""
    scale = log_scale.double().exp()
    half = 0.5 * width / scale
    if not bool((half <= NARROW).all()):
        return None
    u = ((x.float() - location.float()) * (1.0 / scale).float()).contiguous()
    outer = x.abs().expand(u.shape) > 1.0 - 0.5 * width
    apart = (u.abs() * half.float() > REACH) & ~outer
    if 2 * int(apart.sum()) > apart.numel():
        return None
    e = half * half
    rows = [
        torch.log(2.0 * half) - LOG_SQRT_2PI - e / 6 + e**2 / 90,
        -0.5 + e / 6 - e**2 / 45,
        -(e**2) / 180 + 2 * e**3 / 945,
        e**3 / 2835,
    ]
    # what each gains by d log h
    wider = [1 - e / 3 + 2 * e**2 / 45, e / 3 - 4 * e**2 / 45, -(e**2) / 45 + 4 * e**3 / 315, 2 * e**3 / 945]
    q = u * u
    by_x = _polynomial([2 * k * row / scale for k, row in enumerate(rows)][1:], q) * u
    by_log_scale = _polynomial([-2 * k * rows[k] - wider[k] for k in range(4)], q)
    found = _polynomial(rows, q), by_x, by_log_scale
    for chosen, exactly in ((outer, _by_tail), (apart, by_tails)):
        places = chosen.flatten().nonzero().squeeze(1)
        if len(places):
            some = [part.expand(u.shape).flatten()[places] for part in (x, location, log_scale)]
            for whole, part in zip(found, exactly(some[0], some[1], some[2], width), strict=True):
                whole.view(-1)[places] = part.float()
    return found


def _polynomial(rows: Sequence[Tensor], q: Tensor) -> Tensor:
    """rows[0] + q (rows[1] + q (...)), in q's type."""
    *others, value = [row.to(q.dtype) for row in rows]
    value = value * q
    for row in others[:0:-1]:
        value = value.add_(row).mul_(q)
    return value.add_(others[0])


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


def log_mills(v: Tensor, far: float) -> Tensor:
    """log of Mills' ratio Q(v)/phi(v); by the series beyond `far`, where nothing is left to cancel."""
    body = torch.log(0.5 * torch.erfc(v * math.sqrt(0.5))) + 0.5 * v * v + LOG_SQRT_2PI
    if not bool((v > far).any()):
        return body
    w = v.clamp(min=far)
    return torch.where(v > far, _rest(w) - torch.log(w), body)


def _rest(v: Tensor) -> Tensor:
    """log(1 - 1/v^2 + 3/v^4 - 15/v^6)."""
    square = 1.0 / (v * v)
    return torch.log1p(-square * (1.0 - 3.0 * square * (1.0 - 5.0 * square)))
