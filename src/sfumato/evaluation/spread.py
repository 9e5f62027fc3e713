"""How far a number would move if the images were drawn again.

A mean over n images has the standard error std / n^1/2. For anything else there is the delete-a-group
jackknife: a statistic theta(X, Y) of two sets of rows is computed once on everything and K times with one of
K random groups left out of both sets. With theta_k the value without group k and m their mean:

    spread^2  = (K - 1)/K sum_k (theta_k - m)^2         standard error of theta
    debiased  = K theta - (K - 1) m                     theta without its O(1/n) bias

The Frechet distance of finite samples is biased upwards by about c/n; `debiased` removes that first
term from as little data as there is, where an extrapolation to n = infinity (Chong & Forsyth 2020)
fits a line through several n. References: Quenouille 1956; Busing et al. 1999 (delete-m jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its standard error, and the value with its first-order bias removed (where known)."""

    value: float
    spread: float
    debiased: float | None = None


def mean_of(values: Tensor) -> Estimate:
    """The mean of values (n,), one an image, and its standard error; NaN for a single one."""
    spread = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), spread)


def groups_of(count: int, groups: int, seed: int = 0) -> list[npt.NDArray[np.intp]]:
    """The row numbers 0..count-1 dealt at random into `groups` groups of (almost) equal size."""
    if groups < 2 or count < 2 * groups:
        raise ValueError(f"{count} rows cannot be dealt into {groups} groups of two or more")
    order = np.random.default_rng(seed).permutation(count)
    return [np.sort(order[k::groups]) for k in range(groups)]


def fitting_groups(groups: int, *counts: int) -> int:
    """The wished number of groups, or as many as leave each at least two rows."""
    return max(2, min(groups, *(n // 2 for n in counts)))


def combine(value: float, without: Sequence[float]) -> Estimate:
    """The jackknife's answer from the value on everything and the K values without one group."""
    k, left = len(without), np.asarray(without, dtype=np.float64)
    mean = float(left.mean())
    spread = math.sqrt((k - 1) / k * float(((left - mean) ** 2).sum()))
    return Estimate(value, spread, k * value - (k - 1) * mean)


def jackknife(statistic: Callable[[Rows, Rows], float], x: Rows, y: Rows, groups: int = 10) -> Estimate:
    """statistic(x, y) with its spread and its first-order bias removed; x (n, d), y (m, d)."""
    k = fitting_groups(groups, len(x), len(y))
    parts = zip(groups_of(len(x), k), groups_of(len(y), k), strict=True)
    without = [statistic(np.delete(x, a, axis=0), np.delete(y, b, axis=0)) for a, b in parts]
    return combine(statistic(x, y), without)


def share(hits: npt.NDArray[np.bool_]) -> Estimate:
    """The share of True with its binomial standard error sqrt(p (1 - p) / n).

    In the error p is (hits + 1/2) / (n + 1), Jeffreys' estimate, so that none of n is not taken for never.
    """
    n = len(hits)
    p = (float(hits.sum()) + 0.5) / (n + 1)
    return Estimate(float(hits.mean()), math.sqrt(p * (1 - p) / n))
