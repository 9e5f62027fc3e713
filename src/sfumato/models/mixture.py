"""Fitting a Gaussian mixture by expectation-maximisation, its size chosen by BIC.

    BIC(K) = -2 log p(data) + (K D (D + 3) / 2 + K - 1) log n        (Schwarz 1978)

The fit itself is scikit-learn's; what is here is the choice of K among powers of two and the care for
small samples: a component needs a few examples for each dimension, or its covariance is noise.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EXAMPLES_PER_DIMENSION = 4
RIDGE = 1e-4  # added to every variance; the latents of a VAE have variances near 1


def fit_mixture(codes: Array, components: int, exact: bool, seed: int) -> tuple[Array, Array, Array]:
    """Weights (K,), means (K, D), covariances (K, D, D) of a mixture of codes (N, D), K <= components."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    best, least = None, math.inf
    for k in _sizes(len(codes), codes.shape[1], components, exact):
        mixture = GaussianMixture(k, reg_covar=RIDGE, random_state=seed % 2**32, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # not converged is still a fair mixture
            mixture.fit(codes)
        bic = mixture.bic(codes)
        if bic >= least:
            break  # past the minimum
        best, least = mixture, bic
    assert best is not None
    return best.weights_, best.means_, best.covariances_


def _sizes(count: int, dim: int, components: int, exact: bool) -> list[int]:
    """The numbers of components to try, rising."""
    if exact:
        return [min(components, count)]
    most = max(1, min(components, count // (EXAMPLES_PER_DIMENSION * dim)))
    return sorted({min(2**i, most) for i in range(most.bit_length() + 1)})
