"""Grids made for one model: the knots at which few steps err least against a fine trajectory of that model.

A fine solver carries some starts through K levels and leaves states x_k and posterior means D_k. With these
every longer step can be judged without asking the network again. From the true state x_a the step to b ends,
without error or with it, at

    order 1     keep x_a + gain D_a                                   (DDIM; samplers/ddim.exponential)
    order 2     keep x_a + gain ((1 + r) D_a - r D_p),  r = h/(2h')   (DPM-Solver++(2M), p the knot before a)

Its error is measured in units of the deviation of x_b,

    e(p, a, b) = rms |step - x_b| / std(x_b),

because the probability-flow ODE of Gaussian data, x_s = m_s + std(x_s)/std(x_t) (x_t - m_t), carries such a
relative error unchanged to the end. So the sum of e along a grid bounds the error of its last state there,
and stands for it elsewhere. The grid of n steps with the least sum is a shortest path of n edges through
the K levels; dynamic programming (as in Watson et al. 2021, for another cost) finds it for all n at once,
exactly.
All squared errors are quadratic forms of one Gram matrix of the x_k and D_k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level
from ..diffusion.schedule import Schedule
from .ddim import exponential
from .grids import Grid
from .solver import Solver, integrate
from .unipc import UniPC

FINE = 64  # levels of the fine trajectory
CHUNK = 2**16  # numbers of a state at a time
MOST = 32  # steps up to which a grid is made for each number of them


@dataclass(frozen=True)
class Trajectory:
    """States (K + 1, D) and posterior means (K, D) at K levels and at clean data, summed up.

    products: (2K + 1, 2K + 1) float64, mean inner products per element of x_0 ... x_K, D_0 ... D_{K-1}
    spread:   (K + 1,) standard deviation of the states over the starts
    """

    levels: tuple[Level, ...]
    products: Tensor
    spread: Tensor

    def __len__(self) -> int:
        return len(self.levels) - 1


def trajectory(
    denoiser: Denoiser,
    levels: Sequence[Level],
    x: Tensor,
    *,
    cond: Condition = NOTHING,
    solver: Solver[Any] | None = None,
) -> Trajectory:
    """The fine trajectory from x (B, C, *space) at levels[0] through all levels; the last one is CLEAN."""
    states: list[Tensor] = []
    means: list[Tensor] = []

    def keep(x_t: Tensor, level: Level, mean: Tensor) -> None:
        states.append(x_t.flatten().cpu())
        means.append(mean.flatten().cpu())

    end = integrate(denoiser, solver or UniPC(), levels, x, cond=cond, watch=keep)
    states.append(end.flatten().cpu())
    every = torch.stack(states + means)
    parts = (part.double() for part in every.split(CHUNK, dim=1))
    products = torch.stack([part @ part.T for part in parts]).sum(0) / every.shape[1]
    among = every[: len(states)].unflatten(1, (len(x), -1))
    spread = among.var(1, correction=min(1, len(x) - 1)).double().mean(1).sqrt()
    return Trajectory(tuple(levels), products, spread.clamp(min=1e-12))


def first_order(path: Trajectory) -> Tensor:
    """e(a, b) of order 1, (K, K + 1) float64; infinite where b is not after a."""
    form, k = _residuals(path), len(path)
    error = torch.einsum("abi,ij,abj->ab", form, path.products, form)
    return _relative(error, path).masked_fill(~_after(k), math.inf)


def second_order(path: Trajectory) -> Tensor:
    """e(p, a, b) of order 2, (K, K, K + 1) float64; infinite unless p < a < b."""
    k, form, g = len(path), _residuals(path), path.products
    half = torch.tensor([0.5 * float(level.log_snr) for level in path.levels[:-1]], dtype=torch.float64)
    gain = torch.zeros(k, k + 1, dtype=torch.float64)
    for a in range(k):
        for b in range(a + 1, k):
            gain[a, b] = float(exponential(path.levels[a], path.levels[b])[1])
    step = half[None, :] - half[:, None]  # (a, b): l_b - l_a
    ratio = torch.zeros(k, k, k + 1, dtype=torch.float64)
    ratio[:, :, :k] = 0.5 * step[None, :, :] / step[:, :, None]  # (p, a, b); the step to clean data has r = 0
    bend = torch.where(_after(k)[:, :k, None] & _after(k)[None], ratio * gain, 0.0)
    d = g[k + 1 :, k + 1 :]
    between = d.diagonal()[:, None] + d.diagonal() - 2.0 * d  # (p, a): |D_a - D_p|^2
    along = torch.einsum("abi,ic->abc", form, g[:, k + 1 :])  # <residual(a, b), D_c>
    cross = along.diagonal(dim1=0, dim2=2).T[None] - along.permute(2, 0, 1)  # (p, a, b)
    plain = torch.einsum("abi,ij,abj->ab", form, g, form)
    error = plain[None] + 2.0 * bend * cross + bend**2 * between[:, :, None]
    legal = _after(k)[:, :k, None] & _after(k)[None]
    return _relative(error, path).masked_fill(~legal, math.inf)


def _residuals(path: Trajectory) -> Tensor:
    """(K, K + 1, 2K + 1): the order-1 step from a minus the state at b, as weights of all vectors."""
    k = len(path)
    form = torch.zeros(k, k + 1, 2 * k + 1, dtype=torch.float64)
    for a in range(k):
        for b in range(a + 1, k + 1):
            keep, gain = exponential(path.levels[a], path.levels[b])
            form[a, b, a], form[a, b, k + 1 + a], form[a, b, b] = float(keep), float(gain), -1.0
    return form


def _after(k: int) -> Tensor:
    return torch.ones(k, k + 1, dtype=torch.bool).triu(1)


def _relative(squares: Tensor, path: Trajectory) -> Tensor:
    return squares.clamp(min=0.0).sqrt() / path.spread


def total(first: Tensor, second: Tensor | None, knots: Sequence[int]) -> float:
    """The objective: the sum of e along the levels knots (increasing, from 0) and on to clean data."""
    ends = [*knots, first.shape[1] - 1]
    found = float(first[ends[0], ends[1]])
    for i in range(1, len(ends) - 1):
        p, a, b = ends[i - 1 : i + 2]
        found += float(first[a, b] if second is None else second[p, a, b])
    return found


def shortest(first: Tensor, second: Tensor | None, most: int) -> list[list[int]]:
    """For n = 1 ... most (at most K) the n levels of least total, each beginning with the noisiest.

    second None: every step is of order 1; else all but the first are of order 2.
    """
    k = len(first)
    best = torch.full_like(first, math.inf)
    best[0] = first[0]  # (a, b): least total of a path whose last step goes from a to b
    costs = first[None].expand(k, -1, -1) if second is None else second
    back: list[Tensor] = []
    found = [[0]]
    for _ in range(min(most, k) - 1):
        best, chosen = (best[:, :k, None] + costs).min(0)
        back.append(chosen)
        found.append(_traced(int(best[:, k].argmin()), k, back))
    return found


def _traced(last: int, end: int, back: Sequence[Tensor]) -> list[int]:
    """The knots of a path whose last step goes from `last` to `end`."""
    knots, a, b = [last], last, end
    for chosen in reversed(back):
        a, b = int(chosen[a, b]), a
        knots.append(a)
    return knots[::-1]


def optimise(path: Trajectory, *, order: int, most: int = MOST) -> dict[int, list[float]]:
    """{n: log-SNRs of the best grid of n steps} for a solver of an order (above 2 counts as 2)."""
    first = first_order(path)
    second = second_order(path) if order > 1 else None
    return {
        len(knots): [float(path.levels[i].log_snr) for i in knots] for knots in shortest(first, second, most)
    }


class Optimised(Grid):
    """A grid from a table {n: n log-SNRs}; another n is read off the nearest row between its knots.

    Rows are strictly increasing and as long as they are numbered; ValueError otherwise.
    """

    def __init__(self, knots: Mapping[int, Sequence[float]]) -> None:
        rows = {n: torch.tensor([float(v) for v in row], dtype=torch.float64) for n, row in knots.items()}
        if not rows or any(len(row) != n or n < 1 for n, row in rows.items()):
            raise ValueError("a table of grids has n log-SNRs for n steps")
        if not all(bool(torch.isfinite(row).all() and (row.diff() > 0).all()) for row in rows.values()):
            raise ValueError("the log-SNRs of a grid increase")
        self.rows = dict(sorted(rows.items()))

    def log_snr(self, schedule: Schedule, steps: int) -> Tensor:
        """The row, or the nearest one with linear interpolation over the number of the knot."""
        if steps in self.rows:
            return self.rows[steps]
        row = self.rows[min(self.rows, key=lambda n: (abs(n - steps), -n))]
        if steps == 1 or len(row) == 1:
            return row[:1]
        at = torch.linspace(0.0, len(row) - 1.0, steps, dtype=torch.float64)
        left = at.long().clamp(max=len(row) - 2)
        return torch.lerp(row[left], row[left + 1], at - left)
