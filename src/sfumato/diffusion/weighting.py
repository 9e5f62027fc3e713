"""How much an error counts at each level: loss = w(level) |mean - x_0|^2, averaged over elements.

All parametrisations are one linear map away from each other, so a squared error of any of them is
an x_0 error times a function of S = SNR alone, on every path:

    x0        1                        the clean sample
    eps       S                        L_simple                  (Ho et al. 2020, eq. 14)
    v         1 + S                                              (Salimans & Ho 2022, sec. 4)
    flow      (1 + S^1/2)^2            velocity eps - x_0        (Liu et al. 2023)
    snr       max(S, floor)            truncated SNR             (Salimans & Ho 2022, sec. 4)
    min-snr   min(S, gamma)                                      (Hang et al. 2023, eq. 8)
    edm       S + 1/d^2                d the data's deviation    (Karras et al. 2022, table 1)
    sigmoid   S sigmoid(b - log S)                               (Hoogeboom et al. 2024)

Together with the density of log S in training they decide what the network spends itself on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from ..core.stable import Scalar, exp, sigmoid
from .level import Level


class Weighting(ABC):
    """A weight on the squared x_0 error of a level."""

    @abstractmethod
    def __call__(self, level: Level) -> Scalar:
        """The weight >= 0: a float, or (B,) for levels per sample."""


class Unweighted(Weighting):
    """The x_0 error itself."""

    def __call__(self, level: Level) -> Scalar:
        """1."""
        return 0.0 * level.sigma + 1.0


class Simple(Weighting):
    """The eps error: DDPM's L_simple."""

    def __call__(self, level: Level) -> Scalar:
        """S."""
        return exp(level.log_snr)


class Snr(Weighting):
    """SNR with a floor, which keeps weight on pure noise; floor = 1 is the truncated SNR of distillation."""

    def __init__(self, floor: float = 1.0) -> None:
        self.floor = floor

    def __call__(self, level: Level) -> Scalar:
        """max(S, floor)."""
        snr = exp(level.log_snr)
        return snr.clamp(min=self.floor) if isinstance(snr, Tensor) else max(snr, self.floor)


class MinSnr(Weighting):
    """The eps error capped at low noise: min-SNR-gamma."""

    def __init__(self, gamma: float = 5.0) -> None:
        self.gamma = gamma

    def __call__(self, level: Level) -> Scalar:
        """min(S, gamma)."""
        snr = exp(level.log_snr)
        return snr.clamp(max=self.gamma) if isinstance(snr, Tensor) else min(snr, self.gamma)


class Edm(Weighting):
    """The error of EDM's unit-variance output, for data of standard deviation `data`; data = 1 is V."""

    def __init__(self, data: float = 0.5) -> None:
        self.data = data

    def __call__(self, level: Level) -> Scalar:
        """S + 1/d^2 = (sigma^2 + d^2) / (sigma d)^2 with sigma relative to alpha."""
        return exp(level.log_snr) + self.data**-2


class V(Weighting):
    """The v error."""

    def __call__(self, level: Level) -> Scalar:
        """1 + S."""
        return exp(level.log_snr) + 1.0


class Flow(Weighting):
    """The error of the straight line's velocity eps - x_0."""

    def __call__(self, level: Level) -> Scalar:
        """(1 + S^1/2)^2."""
        return (exp(0.5 * level.log_snr) + 1.0) ** 2


class Sigmoid(Weighting):
    """The eps error faded out at low noise.

    For levels uniform in log-SNR the weight is monotone in the level, and the loss a bound on perturbed data
    (Kingma & Gao 2023); the density of any other distribution of levels multiplies the weight.
    """

    def __init__(self, bias: float = 1.0) -> None:
        self.bias = bias

    def __call__(self, level: Level) -> Scalar:
        """S sigmoid(b - log S) = e^b sigmoid(log S - b), finite at S = infinity."""
        return math.exp(self.bias) * sigmoid(level.log_snr - self.bias)
