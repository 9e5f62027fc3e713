"""An adaptive Runge-Kutta method in which every row of a batch takes steps of its own.

    dy/ds = f(s, y),     y (B, n), s (B,)
    y_{i+1} = y_i + h sum_j b_j k_j,     k_j = f(s_i + c_j h, y_i + h sum_m a_jm k_m)

Dormand and Prince's pair 5(4) (1980) costs six evaluations a step: the last slope of an accepted step is
the first of the next. The difference of its two answers, error = norm(h sum_j e_j k_j) in units of the
tolerance, accepts a step where it is at most 1 and sets the next one (Hairer, Norsett & Wanner 1993, II.4):

    h <- h min(5, max(1/5, 0.9 error^(-1/5)))

With a step and an error of its own a row does not depend on the others in its batch. Library solvers
take one step for everything they are given (a sample's value would depend on its neighbours) and hold
the state in host memory; here the state stays on its device and two flags a step are read back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..core.errors import DivergedError

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
TABLEAU: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
SMALLEST = 1e-9  # of the whole interval: a smaller step means that there is no smooth solution

Field: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # f(s (B,), y (B, n)) -> (B, n)
Norm: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # (error (B, n), y (B, n)) -> (B,), 1: at tolerance


@dataclass(frozen=True, slots=True)
class Solution:
    """The end y (B, n), evaluations of f over the whole batch, and accepted steps of each row (B,)."""

    y: Tensor
    calls: int
    steps: Tensor


def solve(f: Field, y: Tensor, start: float, end: float, *, norm: Norm, first: float = 0.1) -> Solution:
    """Carry y (B, n) float64 from s = start to s = end; `first` is the length of the first step tried.

    DivergedError where a row's steps become too small to go on.
    """
    span = end - start
    rows = y.new_ones(len(y))
    s, h = start * rows, min(first, abs(span)) * (1.0 if span > 0 else -1.0) * rows
    slope, calls, steps = f(s, y), 1, torch.zeros(len(y), dtype=torch.int64, device=y.device)
    while bool((s != end).any()):
        left = end - s
        last = h.abs() >= left.abs()  # also rows that are there already, whose step is 0
        h = torch.where(last, left, h)
        _refuse_standstill(h, last, span)
        y_new, slopes = _stages(f, s, y, h, slope)
        calls += len(slopes) - 1
        error = norm(h[:, None] * _sum(ERROR, slopes), y)
        ok = error <= 1.0  # false for NaN: such a step is tried again, shorter
        y, slope = torch.where(ok[:, None], y_new, y), torch.where(ok[:, None], slopes[-1], slope)
        steps += ok & (s != end)
        s = torch.where(ok, torch.where(last, end, s + h), s)
        factor = (SAFETY * error.clamp(min=1e-10) ** -0.2).clamp(SHRINK, GROW).nan_to_num(SHRINK)
        h = h * factor
    return Solution(y, calls, steps)


def _stages(f: Field, s: Tensor, y: Tensor, h: Tensor, slope: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The answer of order 5 and all seven slopes, the last one taken at the answer."""
    slopes, at = [slope], y
    for node, row in zip(NODES[1:], TABLEAU[1:], strict=True):
        at = y + h[:, None] * _sum(row, slopes)
        slopes.append(f(s + node * h, at))
    return at, slopes


def _sum(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = total.add_(slope, alpha=weight)
    return total


def _refuse_standstill(h: Tensor, last: Tensor, span: float) -> None:
    if bool(((h.abs() < SMALLEST * abs(span)) & ~last).any()):
        raise DivergedError(
            "the flow has no smooth solution here: its steps became too small",
            remedy="Give a larger tolerance, and look at the samples of this model: it may have diverged.",
        )
