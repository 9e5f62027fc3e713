"""Averages of the weights, of any length, the length chosen after training.

The power-function average (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
Diffusion Models", sec. 3) weighs the weights theta_k after step k, k = 1..t, by a power of time:

    ema_t = beta_t ema_{t-1} + (1 - beta_t) theta_t        beta_t = (1 - 1/t)^(gamma + 1)
          = sum_k w_k theta_k                              w_k = (k/t)^(gamma+1) - ((k-1)/t)^(gamma+1)

It is scale free: its length is a fraction of the time trained so far. beta_1 = 0, so nothing of the
initial weights remains from the first step on, without a separate warm-up; a fraction
x^(gamma+1) of it comes from the first fraction x of training. Length is stated as the relative
standard deviation of the profile,

    sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3))            (their eq. for sigma_rel)

Any other length is a linear combination of stored averages (their sec. 3.2): with profiles
p_i(tau) = (gamma_i + 1) tau^gamma_i / t_i^(gamma_i + 1) on [0, t_i], the combination sum_i x_i p_i
nearest to the wanted profile p in the least-squares sense solves A x = b with A_ij = <p_i, p_j>,
b_i = <p_i, p>, and

    <p_i, p_j> = (gamma_i + 1)(gamma_j + 1) m^(gamma_i + gamma_j + 1)
                 / ((gamma_i + gamma_j + 1) t_i^(gamma_i + 1) t_j^(gamma_j + 1)),     m = min(t_i, t_j).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from .flat import Flat


def gamma_of(length: float) -> float:
    """The exponent gamma of a relative length sigma_rel, 0 < sigma_rel < 1/sqrt(12) (gamma = 0)."""
    limit = 1 / math.sqrt(12)
    if not 0 < length < limit:
        raise ValueError(f"the length of an average is between 0 and {limit:.3f}, not {length}")
    low, high = 0.0, 4 / length  # sigma_rel falls with gamma and is below 1/gamma
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if length_of(middle) > length else (low, middle)
    return (low + high) / 2


def length_of(gamma: float) -> float:
    """The relative length sigma_rel of an exponent gamma."""
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


def beta(gamma: float, t: float, steps: float = 1.0) -> float:
    """The decay when time goes from t - steps to t: (1 - steps/t)^(gamma + 1)."""
    return max(0.0, 1.0 - steps / t) ** (gamma + 1)


def early_share(gamma: float, fraction: float) -> float:
    """How much of the average stems from the first fraction of training."""
    return fraction ** (gamma + 1)


class Ema:
    """Power-function averages of a flat vector of parameters, one for each relative length.

    `vectors[k]` has length `lengths[k]`. Time is the number of examples seen, so the decay depends
    on the position alone.
    """

    def __init__(self, flat: Flat, lengths: Sequence[float]) -> None:
        self.flat, self.lengths = flat, tuple(lengths)
        self.gammas = tuple(gamma_of(length) for length in lengths)
        self.vectors = [flat.values.clone() for _ in lengths]

    @torch.no_grad()
    def update(self, seen: int, batch: int) -> None:
        """Take in the weights after the step that ended at `seen` examples."""
        for gamma, vector in zip(self.gammas, self.vectors, strict=True):
            vector.lerp_(self.flat.values, 1.0 - beta(gamma, seen, batch))

    def lag(self, index: int = 0) -> Tensor:
        """|EMA - raw| / |raw|, a 0-dimensional tensor (no synchronisation)."""
        raw = self.flat.values
        return torch.linalg.vector_norm(self.vectors[index] - raw) / torch.linalg.vector_norm(raw)

    @contextmanager
    def applied(self, vector: Tensor | None = None) -> Iterator[None]:
        """The module computes with an average (by default the first) instead of its weights.

        The weights come back, to the bit, whatever happens inside.
        """
        raw = self.flat.values.clone()
        with torch.no_grad():
            self.flat.values.copy_(self.vectors[0] if vector is None else vector)
        try:
            yield
        finally:
            with torch.no_grad():
                self.flat.values.copy_(raw)


def profile_product(gamma_a: float, t_a: float, gamma_b: float, t_b: float) -> float:
    """The inner product of two power-function profiles, by logarithms (exponents may be large)."""
    total = gamma_a + gamma_b + 1
    logarithm = (
        math.log(gamma_a + 1)
        + math.log(gamma_b + 1)
        - math.log(total)
        + total * math.log(min(t_a, t_b))
        - (gamma_a + 1) * math.log(t_a)
        - (gamma_b + 1) * math.log(t_b)
    )
    return math.exp(logarithm)


def combination(stored: Sequence[tuple[float, float]], gamma: float, t: float) -> list[float]:
    """Coefficients x_i such that sum_i x_i ema_i is nearest to the average with exponent gamma at t.

    stored: (gamma_i, t_i) of the averages at hand. The coefficients are normalised to sum to one,
    so that constant weights are reproduced exactly.
    """
    if not stored:
        raise ValueError("there is no stored average to combine")
    gram = np.array([[profile_product(*a, *b) for b in stored] for a in stored])
    target = np.array([profile_product(*a, gamma, t) for a in stored])
    # scaled to a unit diagonal: profiles of very different age differ in norm by orders of magnitude
    scale = 1 / np.sqrt(np.diag(gram))
    solution = scale * np.linalg.lstsq(gram * np.outer(scale, scale), target * scale, rcond=1e-12)[0]
    return [float(x) for x in solution / solution.sum()]
