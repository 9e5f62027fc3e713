"""Paths through the (alpha, sigma) plane, each indexed by log-SNR (lambda = log alpha^2/sigma^2).

    path                  constraint                alpha(lambda)               sigma(lambda)
    variance preserving   alpha^2 + sigma^2 = 1     sigmoid(lambda)^1/2         sigmoid(-lambda)^1/2
    variance exploding    alpha = 1                 1                           exp(-lambda/2)
    sub-VP                sigma = 1 - alpha^2       2 / (q + (q^2 + 4)^1/2)     2 / (1 + (1 + 4/q^2)^1/2)
    linear                alpha + sigma = 1         sigmoid(lambda/2)           sigmoid(-lambda/2)

with q = exp(-lambda/2) (Song et al. 2021, sec. 3.4; Lipman et al. 2023; Liu et al. 2023). All paths
hold the same information at the same lambda: x_t of one is x_t of another times a number.

Where the signal fades (all but the second), alpha alone fixes the level. A beta schedule prescribes
b = -log alpha^2 = integral of beta, and the path says which lambda that is:

    VP  -b - log(1 - e^-b)        sub-VP  -b - 2 log(1 - e^-b)        linear  -b - 2 log(1 - e^-b/2)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..core.stable import Scalar, exp, log1mexp, sigmoid, sqrt
from .level import Level


class Path(ABC):
    """log-SNR -> (alpha, sigma). Paths have no state: two of one class are equal."""

    @abstractmethod
    def level(self, log_snr: Scalar) -> Level:
        """The level of this path with the given log-SNR; floats give floats, (B,) gives (B,)."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ShrinkingPath(Path):
    """A path on which the signal fades from alpha = 1 to 0, so that decay = -log alpha^2 is a coordinate."""

    @abstractmethod
    def log_snr(self, decay: Tensor) -> Tensor:
        """The log-SNR at a decay >= 0, any shape."""

    @abstractmethod
    def decay(self, log_snr: Tensor) -> Tensor:
        """-log alpha^2 at a log-SNR, any shape; the inverse of log_snr."""


class VariancePreserving(ShrinkingPath):
    """alpha^2 + sigma^2 = 1 (Ho et al. 2020; Song et al. 2021, eq. 11)."""

    def level(self, log_snr: Scalar) -> Level:
        """alpha = sigmoid(lambda)^1/2, sigma = sigmoid(-lambda)^1/2."""
        return Level(sqrt(sigmoid(log_snr)), sqrt(sigmoid(-log_snr)))

    def log_snr(self, decay: Tensor) -> Tensor:
        """-b - log(1 - e^-b)."""
        return -decay - log1mexp(decay)

    def decay(self, log_snr: Tensor) -> Tensor:
        """log(1 + e^-lambda)."""
        return -logsigmoid(log_snr)


class VarianceExploding(Path):
    """alpha = 1: noise is only added (Song & Ermon 2019; Song et al. 2021, eq. 9; Karras et al. 2022)."""

    def level(self, log_snr: Scalar) -> Level:
        """alpha = 1, sigma = e^(-lambda/2)."""
        return Level(torch.ones_like(log_snr) if isinstance(log_snr, Tensor) else 1.0, exp(-0.5 * log_snr))


class SubVariancePreserving(ShrinkingPath):
    """sigma = 1 - alpha^2: less noise than VP at the same alpha (Song et al. 2021, eq. 29)."""

    def level(self, log_snr: Scalar) -> Level:
        """The positive root of alpha = e^(lambda/2) (1 - alpha^2), free of cancellation at both ends."""
        q, r = exp(-0.5 * log_snr), exp(0.5 * log_snr)
        return Level(2.0 / (q + sqrt(q * q + 4.0)), 2.0 / (1.0 + sqrt(1.0 + 4.0 * r * r)))

    def log_snr(self, decay: Tensor) -> Tensor:
        """-b - 2 log(1 - e^-b)."""
        return -decay - 2.0 * log1mexp(decay)

    def decay(self, log_snr: Tensor) -> Tensor:
        """2 arsinh(e^(-lambda/2) / 2)."""
        return 2.0 * torch.asinh(0.5 * torch.exp(-0.5 * log_snr))


class Linear(ShrinkingPath):
    """alpha = 1 - sigma: the straight line of rectified flow (Liu et al. 2023; Lipman et al. 2023)."""

    def level(self, log_snr: Scalar) -> Level:
        """alpha = sigmoid(lambda/2), sigma = sigmoid(-lambda/2)."""
        return Level(sigmoid(0.5 * log_snr), sigmoid(-0.5 * log_snr))

    def log_snr(self, decay: Tensor) -> Tensor:
        """-b - 2 log(1 - e^(-b/2))."""
        return -decay - 2.0 * log1mexp(0.5 * decay)

    def decay(self, log_snr: Tensor) -> Tensor:
        """2 log(1 + e^(-lambda/2))."""
        return -2.0 * logsigmoid(0.5 * log_snr)
