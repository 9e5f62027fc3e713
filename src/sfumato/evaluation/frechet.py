"""The Frechet distance between two sets of features, each summed up by a Gaussian.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^{1/2}

is the squared 2-Wasserstein distance between N(m1, S1) and N(m2, S2) (Dowson & Landau 1982); on
Inception features it is known as FID (Heusel et al. 2017, eq. 6). The last trace is computed
without ever forming S1 S2: with any factors S = A^T A,

    tr (S1 S2)^{1/2} = || A1 A2^T ||_*                  the sum of the singular values

and the triangular factor of the centred features (QR) is such an A. Nothing is squared and no root
of a small, noisy eigenvalue is taken, so singular covariances (fewer images than features) lose no
digits. All in double precision.

A finite sample makes the distance too large, by a term that falls as 1/n and grows with the number
of features: never compare two distances of unlike n. `frechet` also gives the value with that term
removed (see spread.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError
from .spread import Estimate, Rows, jackknife


@dataclass(frozen=True, slots=True)
class Fit:
    """A Gaussian by its mean (d,), a factor A (r, d) of its covariance A^T A, and the rows it is from."""

    mean: Rows
    factor: Rows
    count: int

    @property
    def cov(self) -> Rows:
        """The covariance (d, d)."""
        return self.factor.T @ self.factor


def checked(features: npt.ArrayLike) -> Rows:
    """Features as a float64 matrix (n, d) with at least two rows, all finite."""
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"features are a matrix of two rows or more, not an array of shape {rows.shape}")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows).all(axis=1)).sum())
        raise DataError(
            f"{bad} of {len(rows)} images have features that are not finite numbers",
            remedy="The model drew NaN or infinite pixels: sample an earlier checkpoint, or in fp32.",
        )
    return rows


def fit(features: npt.ArrayLike) -> Fit:
    """The Gaussian of features (n, d): mean and unbiased covariance, as its triangular factor."""
    rows = checked(features)
    mean = rows.mean(axis=0)
    factor: Rows = np.linalg.qr((rows - mean) / np.sqrt(len(rows) - 1), mode="r")  # type: ignore[assignment]
    return Fit(mean, factor, len(rows))


def fit_moments(mean: npt.ArrayLike, cov: npt.ArrayLike, count: int = 0) -> Fit:
    """The Gaussian of a given mean (d,) and covariance (d, d), which may be singular."""
    values, vectors = np.linalg.eigh(np.asarray(cov, dtype=np.float64))
    factor = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return Fit(np.asarray(mean, dtype=np.float64), factor, count)


def between(a: Fit, b: Fit) -> float:
    """The squared Frechet distance d^2 between two fitted Gaussians; 0 for equal ones, never negative."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {a.mean.size} and {b.mean.size} dimensions cannot be compared")
    overlap = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
    shift = ((a.mean - b.mean) ** 2).sum()
    return max(0.0, float(shift + (a.factor**2).sum() + (b.factor**2).sum() - 2.0 * overlap))


def frechet(x: npt.ArrayLike, y: npt.ArrayLike, groups: int | None = None) -> Estimate:
    """d^2 between the Gaussians of features x (n, d) and y (m, d), its spread, and its bias removed.

    groups of the jackknife: by default ten, five above 512 features, where each costs seconds.
    """
    a, b = checked(x), checked(y)
    groups = groups or (10 if a.shape[1] <= 512 else 5)
    return jackknife(lambda u, v: between(fit(u), fit(v)), a, b, groups)
