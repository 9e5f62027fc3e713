"""Does the model draw, or copy? Samples are held to the standard of images it never saw.

For an image u with neighbours in the training set at distances d_1 <= d_2 <= ... <= d_k,

    s(u) = d_1 / mean(d_2 ... d_k)

is small only if one training image is much nearer than the others around it; a plain distance would
call every simple image a copy (the ratio of Yoon et al. 2023 and Carlini et al. 2023, sec. 5).
Held-out images calibrate it: the threshold is the alpha-quantile of their s, so of images that are
certainly no copies a share alpha falls below. The rate is the share of samples that do:

    rate = mean 1[s(sample) <= threshold]               near alpha: no copying;  1: all copies

How likely so high a rate is without copying follows exactly, whatever the images: if samples and held-out
images are draws of one distribution, every order of their s is equally likely, so of the r smallest of all
n + h values the number H that belong to held-out images is hypergeometric, and

    P(j or more samples at or below the k-th held-out image) = P(H < k of r = j + k - 1)   at strict order.

Beside it the C_T score (Meehan et al. 2020, eq. 3): the z-value of the rank-sum test between the
distances d_1 of samples and of held-out images. Below -3: samples lie closer to the training data
than new images do. It looks at all samples alike, so it sees slight copying by many; the rate sees
gross copying by few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .frechet import checked
from .neighbours import Indices, nearest
from .spread import Estimate, Rows, share

AROUND = 10  # training images in a neighbourhood


@dataclass(frozen=True, slots=True)
class Memorisation:
    """The copy rate of samples, that of held-out images, and each sample's nearest training images."""

    rate: Estimate
    baseline: Estimate
    score: float  # C_T, a z-value: negative means closer than held-out images are
    threshold: float
    ratios: Rows  # (n,) s of each sample
    distances: Rows  # (n, k)
    neighbours: Indices  # (n, k) rows of the training set
    chance: float  # probability of so high a rate without copying

    @property
    def copying(self) -> bool:
        """Whether chance would give so high a rate to fewer than one innocent model in a thousand."""
        return self.chance < 1e-3

    def pairs(self, count: int) -> list[tuple[int, int]]:
        """(sample, nearest training image) of the `count` likeliest copies, likeliest first."""
        order = np.argsort(self.ratios, kind="stable")[:count]
        return [(int(i), int(self.neighbours[i, 0])) for i in order]

    def words(self) -> str:
        """The finding in one sentence."""
        rate, base = 100 * self.rate.value, 100 * self.baseline.value
        fact = f"{rate:.1f}% of samples are as close to one training image as {base:.1f}% of held-out images"
        if self.copying:
            return fact + ": memorising."
        return fact + ": no sign of copying."


def ratios(distances: Rows) -> Rows:
    """s = d_1 / mean(d_2 ... d_k) of sorted distances (n, k); 0 where the nearest is an exact copy."""
    rest = distances[:, 1:].mean(axis=1)
    return np.divide(distances[:, 0], rest, out=np.zeros(len(distances)), where=rest > 0)


def memorisation(
    samples: npt.ArrayLike,
    train: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    around: int = AROUND,
    alpha: float = 0.05,
    nearest_held: Rows | None = None,
) -> Memorisation:
    """The copy rate of samples (n, d) of a model trained on train (m, d), against held-out images (h, d).

    around: training images in a neighbourhood. nearest_held (h, k): the distances of held-out images to
    their nearest training images where they are known; no sample enters them. The spread of the baseline
    counts the chance in which held-out images set the threshold: sqrt(alpha (1 - alpha) / h).
    """
    x, y, h = checked(samples), checked(train), checked(held_out)
    k = min(around, len(y))
    far, near = nearest(x, y, k), nearest(h, y, k)[0] if nearest_held is None else nearest_held
    mine, theirs = ratios(far[0]), ratios(near)
    threshold = float(np.quantile(theirs, alpha, method="lower"))
    hits, calm = mine <= threshold, theirs <= threshold
    return Memorisation(
        rate=share(hits),
        baseline=share(calm),
        score=rank_sum(far[0][:, 0], near[:, 0]),
        threshold=threshold,
        ratios=mine,
        distances=far[0],
        neighbours=far[1],
        chance=chance_of(int(hits.sum()), int(calm.sum()), len(x), len(h)),
    )


def chance_of(j: int, k: int, n: int, h: int) -> float:
    """P(at least j of n new values lie at or below the k-th smallest of h exchangeable ones), k >= 1."""
    if j == 0:
        return 1.0
    drawn = j + k - 1
    terms = [
        _log_binomial(h, i) + _log_binomial(n, drawn - i) for i in range(max(0, drawn - n), min(k, h + 1))
    ]
    total = _log_binomial(n + h, drawn)
    return min(1.0, math.fsum(math.exp(t - total) for t in terms))


def _log_binomial(n: int, k: int) -> float:
    """log of n choose k."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def rank_sum(x: Rows, y: Rows) -> float:
    """z-value of Mann and Whitney's U of x (n,) against y (m,), ties shared; negative where x is smaller."""
    n, m = len(x), len(y)
    pool = np.concatenate([x, y])
    _, place, tied = np.unique(pool, return_inverse=True, return_counts=True)
    last = np.cumsum(tied)
    ranks = (last - (tied - 1) / 2)[place]
    u = ranks[:n].sum() - n * (n + 1) / 2
    ties = (tied**3 - tied).sum() / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - ties)
    return float((u - n * m / 2) / math.sqrt(variance)) if variance > 0 else 0.0
