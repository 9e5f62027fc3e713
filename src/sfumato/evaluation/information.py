"""Mutual information of code units and known factors, from counts.

    I(z_d; v_f) = sum_{a, b} p(a, b) log (p(a, b) / (p(a) p(b)))       H(v_f) = -sum_b p(b) log p(b)

with p the relative frequencies over equally filled bins; a column of few distinct values keeps them as
they are. Equal filling makes every number here invariant under monotone maps of a unit. The counts' plug-in
estimate is too high by about (A - 1)(B - 1) / (2 N) nats for A and B bins (Miller 1955), which is what
two independent columns show.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
Bins = npt.NDArray[np.int64]

BINS = 20  # as in Chen et al. 2018
FEW = 20  # distinct values up to which a column is taken as it is


def binned(values: Rows, bins: int = BINS) -> Bins:
    """(N, D) numbers -> (N, D) bin numbers, each bin holding as many rows as ties allow."""
    return np.stack([_column(v, bins) for v in values.T], 1) if values.shape[1] else values.astype(np.int64)


def varying(factors: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Which columns of factors (N, F) have more than one value, (F,): nothing can be known of the others."""
    if not len(factors):
        return np.zeros(factors.shape[1], dtype=bool)
    return np.asarray((factors != factors[:1]).any(0))


def _column(v: Rows, bins: int) -> Bins:
    distinct, at = np.unique(v, return_inverse=True)
    if len(distinct) <= FEW:
        return at.astype(np.int64)
    edges = np.unique(np.quantile(v, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    return np.searchsorted(edges, v, side="right").astype(np.int64)


def mutual_information(codes: Bins, factors: Bins) -> Rows:
    """I(z_d; v_f) of every pair of columns in nats, (D, F)."""
    return np.array([[_information(a, b) for b in factors.T] for a in codes.T]).reshape(
        codes.shape[1], factors.shape[1]
    )


def entropies(columns: Bins) -> Rows:
    """H of every column in nats, (D,)."""
    return np.array([_entropy(np.bincount(c)) for c in columns.T])


def chance(codes: Bins, factors: Bins) -> Rows:
    """What the plug-in estimate shows for independent columns, (A - 1)(B - 1) / (2 N), (D, F)."""
    a, b = codes.max(0, initial=0), factors.max(0, initial=0)  # bins minus one
    return np.outer(a, b) / (2.0 * len(codes))


def _information(a: Bins, b: Bins) -> float:
    width = int(b.max()) + 1
    joint = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width)
    return _entropy(np.bincount(a)) + _entropy(np.bincount(b)) - _entropy(joint)


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
