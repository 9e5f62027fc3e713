"""Numerically stable scalar functions, on Python floats and on tensors alike.

A level of noise is a Python float when it is shared by a whole batch (sampling: no kernel is
launched for it) and a tensor of shape (B,) when each sample has its own (training). Every function
up to log1mexp takes either and answers in kind, in double precision for floats.

    log1mexp(x) = log(1 - exp(-x)), x > 0        sigmoid(x) = 1 / (1 + exp(-x))
    softplus^-1(y) = log(e^y - 1) = y + log(1 - e^-y), y > 0

Besides, what parameters and draws need: the softplus's inverse, a soft floor, an inverse distribution
function.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

Scalar: TypeAlias = float | Tensor


def exp(x: Scalar) -> Scalar:
    """e^x; infinity instead of an overflow."""
    if isinstance(x, Tensor):
        return torch.exp(x)
    return math.exp(x) if x < 709.0 else math.inf


def log(x: Scalar) -> Scalar:
    """Natural logarithm; log 0 is minus infinity."""
    if isinstance(x, Tensor):
        return torch.log(x)
    return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)


def sqrt(x: Scalar) -> Scalar:
    """Square root."""
    return torch.sqrt(x) if isinstance(x, Tensor) else math.sqrt(x)


def expm1(x: Scalar) -> Scalar:
    """e^x - 1 without cancellation near 0."""
    if isinstance(x, Tensor):
        return torch.expm1(x)
    return math.expm1(x) if x < 709.0 else math.inf


def sigmoid(x: Scalar) -> Scalar:
    """1 / (1 + e^-x), exact at both ends."""
    if isinstance(x, Tensor):
        return torch.sigmoid(x)
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def log1mexp(x: Scalar) -> Scalar:
    """log(1 - e^-x) for x > 0 (Maechler 2012): expm1 below log 2, log1p above."""
    if isinstance(x, Tensor):
        small = x < math.log(2.0)
        return torch.where(
            small,
            torch.log(-torch.expm1(-torch.where(small, x, 1.0))),
            torch.log1p(-torch.exp(-torch.where(small, 1.0, x))),
        )
    if x == 0:
        return -math.inf
    return math.log(-math.expm1(-x)) if x < math.log(2.0) else math.log1p(-math.exp(-x))


def inverse_softplus(y: float) -> float:
    """x with log(1 + e^x) = y > 0: y + log(1 - e^-y), which cannot overflow."""
    return y + math.log(-math.expm1(-y))


def soft_floor(x: Tensor, floor: float) -> Tensor:
    """floor + softplus(x - floor): x well above the floor, never below it, smooth."""
    return floor + torch.nn.functional.softplus(x - floor)


def inverse_cdf(p: Tensor, u: Tensor, dim: int = -1) -> Tensor:
    """The first k with p_0 + ... + p_k > u, int64; p sums to one along `dim`, an axis that u has not.

    Rounding may leave the last sum just below 1; a u beyond it belongs to the last k of any probability.
    """
    total = p.cumsum(dim)
    found = (total <= u.unsqueeze(dim)).sum(dim)
    return found.minimum((total < total.narrow(dim, -1, 1)).sum(dim))
