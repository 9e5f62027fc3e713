"""The kernel distance: squared maximum mean discrepancy with a cubic kernel, unbiased.

    k(u, v) = (u . v / d + 1)^3
    MMD^2   = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i,j} k(x_i, y_j)

(Gretton et al. 2012, eq. 3; as KID, Binkowski et al. 2018.) Its expectation does not depend on the
number of images, so it is the distance to read first on small data, where the Frechet distance is
mostly bias; it can fall below 0 by chance. Where KID averages over random subsets, here every pair
counts once; the spread comes from leaving out one of K groups at a time, which sums of the kernel
over pairs of groups give without another pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .frechet import checked
from .spread import Estimate, Rows, combine, fitting_groups, groups_of


def cubic(x: Rows, y: Rows) -> Rows:
    """The kernel matrix (n, m) of features x (n, d) and y (m, d)."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _sums(x: list[Rows], y: list[Rows]) -> Rows:
    """Sums of the kernel over every pair of groups (K, K)."""
    return np.array([[cubic(a, b).sum() for b in y] for a in x])


def _within(x: list[Rows]) -> Rows:
    """As _sums on one set, without each row's pair with itself; each pair of groups computed once."""
    k = len(x)
    out = np.zeros((k, k))
    for i in range(k):
        for j in range(i + 1):
            kernel = cubic(x[i], x[j])
            out[i, j] = out[j, i] = kernel.sum() - (np.trace(kernel) if i == j else 0.0)
    return out


def _mmd(xx: Rows, yy: Rows, xy: Rows, n: int, m: int) -> float:
    """MMD^2 of n and m rows from the sums of their kernels."""
    return float(xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2.0 * xy.sum() / (n * m))


def kernel_distance(x: npt.ArrayLike, y: npt.ArrayLike, groups: int = 10) -> Estimate:
    """Unbiased MMD^2 between features x (n, d) and y (m, d) with its standard error."""
    a, b = checked(x), checked(y)
    k = fitting_groups(groups, len(a), len(b))
    xs = [a[i] for i in groups_of(len(a), k)]
    ys = [b[i] for i in groups_of(len(b), k)]
    xx, yy, xy = _within(xs), _within(ys), _sums(xs, ys)
    without = []
    for g in range(k):
        rest = np.delete(np.arange(k), g)
        square = np.ix_(rest, rest)
        n, m = len(a) - len(xs[g]), len(b) - len(ys[g])
        without.append(_mmd(xx[square], yy[square], xy[square], n, m))
    estimate = combine(_mmd(xx, yy, xy, len(a), len(b)), without)
    return Estimate(estimate.value, estimate.spread, estimate.value)  # unbiased as it stands
