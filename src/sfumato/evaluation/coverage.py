"""Does every sample look real, and is every kind of real image among the samples?

The support of a set is taken as the union of balls around its points, each reaching to the point's
k-th nearest neighbour in the set (Kynkaanniemi et al. 2019, eq. 1-2):

    precision  share of samples inside the support of the real images         (fidelity)
    recall     share of real images inside the support of the samples         (variety)

One outlier makes a huge ball, so density and coverage count instead (Naeem et al. 2020, eq. 4-5):

    density    mean over samples of (number of real balls that hold it) / k   (may exceed 1)
    coverage   share of real balls that hold at least one sample

Fresh draws of the same distribution do not reach 1 (precision and recall fall with the dimension):
read each beside the same number for held-out images. All four need equal counts to be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .frechet import checked
from .neighbours import counts_within, nearest
from .spread import Estimate, share


@dataclass(frozen=True, slots=True)
class Coverage:
    """Fidelity and variety of samples against real images, each with its binomial spread."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def coverage(
    samples: npt.ArrayLike, real: npt.ArrayLike, *, reach: int = 3, density_reach: int = 5
) -> Coverage:
    """Precision and recall (k = reach), density and coverage (k = density_reach) of features (n, d), (m, d).

    The spread holds the balls fixed and counts only the chance in which images fell into them.
    """
    x, y = checked(samples), checked(real)
    if min(len(x), len(y)) <= max(reach, density_reach):
        raise ValueError(f"support needs more than {max(reach, density_reach)} images on each side")
    real_radii, _ = nearest(y, y, max(reach, density_reach), itself=True)
    sample_radii, _ = nearest(x, x, reach, itself=True)
    holding = counts_within(x, y, real_radii[:, density_reach - 1]) / density_reach
    closest, _ = nearest(y, x, 1)
    return Coverage(
        precision=share(counts_within(x, y, real_radii[:, reach - 1]) > 0),
        recall=share(counts_within(y, x, sample_radii[:, reach - 1]) > 0),
        density=Estimate(float(holding.mean()), float(holding.std(ddof=1) / np.sqrt(len(x)))),
        coverage=share(closest[:, 0] <= real_radii[:, density_reach - 1]),
    )
