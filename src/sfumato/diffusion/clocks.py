"""Continuous clocks lambda(t) = log-SNR at time t.

LinearBeta    b(t) = beta_0 t + (beta_1 - beta_0) t^2 / 2 = -log alpha^2      (Song et al. 2021, eq. 32)
CosineTime    lambda = shift - 2 log tan(a + (b - a) t)                       (Nichol & Dhariwal 2021)
LogSnrLine    lambda = high + (low - high) t                                  (Kingma et al. 2021)
FlowTime      t / (1 - t) = sigma / alpha up to a shift                       (Liu et al. 2023)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .paths import Linear, Path, ShrinkingPath, VarianceExploding, VariancePreserving
from .schedule import Schedule


class LinearBeta(Schedule):
    """beta(t) = low + (high - low) t, the continuous limit of DDPM's linear table.

    With path VariancePreserving it is Song's VP SDE, with SubVariancePreserving his sub-VP SDE.
    """

    def __init__(
        self, low: float = 0.1, high: float = 20.0, path: ShrinkingPath | None = None, earliest: float = 1e-3
    ) -> None:
        path = path or VariancePreserving()
        super().__init__(path, earliest)
        if not 0 < low <= high:
            raise ValueError(f"beta must be positive and not fall: {low}, {high}")
        self.fading, self.low, self.high = path, low, high

    def clock(self, t: Tensor) -> Tensor:
        """The path's log-SNR where -log alpha^2 = b(t)."""
        return self.fading.log_snr(self.low * t + 0.5 * (self.high - self.low) * t * t)

    def inverse(self, log_snr: Tensor) -> Tensor:
        """The positive root of b(t) = decay, in the form without cancellation."""
        b = self.fading.decay(log_snr)
        return 2.0 * b / (self.low + torch.sqrt(self.low**2 + 2.0 * (self.high - self.low) * b))


class CosineTime(Schedule):
    """alpha = cos, sigma = sin of an angle linear in t, cut to log-SNR in [low, high] before the shift.

    shift moves every level: 2 log(base / side) keeps the noise per feature of a base resolution when
    images grow (Hoogeboom et al. 2023, eq. 6), so larger images take a negative shift.
    """

    def __init__(
        self, low: float = -15.0, high: float = 15.0, shift: float = 0.0, path: Path | None = None
    ) -> None:
        super().__init__(path or VariancePreserving())
        if not low < high:
            raise ValueError(f"log-SNR must fall from high to low: {high}, {low}")
        self.start, self.end, self.shift = (
            math.atan(math.exp(-high / 2)),
            math.atan(math.exp(-low / 2)),
            shift,
        )

    def clock(self, t: Tensor) -> Tensor:
        """shift - 2 log tan(angle)."""
        return self.shift - 2.0 * torch.log(torch.tan(self.start + (self.end - self.start) * t))

    def inverse(self, log_snr: Tensor) -> Tensor:
        """The angle as a part of its range."""
        angle = torch.atan(torch.exp(0.5 * (self.shift - log_snr)))
        return (angle - self.start) / (self.end - self.start)


class LogSnrLine(Schedule):
    """Log-SNR linear in time from high (t = 0) to low (t = 1); on the VE path a geometric sigma."""

    def __init__(self, low: float = -10.0, high: float = 10.0, path: Path | None = None) -> None:
        super().__init__(path or VariancePreserving())
        if not low < high:
            raise ValueError(f"log-SNR must fall from high to low: {high}, {low}")
        self.low, self.high = low, high

    def clock(self, t: Tensor) -> Tensor:
        """high + (low - high) t."""
        return self.high + (self.low - self.high) * t

    def inverse(self, log_snr: Tensor) -> Tensor:
        """(high - lambda) / (high - low)."""
        return (self.high - log_snr) / (self.high - self.low)


def geometric(low: float = 0.002, high: float = 80.0, path: Path | None = None) -> LogSnrLine:
    """sigma / alpha from low to high in equal ratios: the VE SDE, with the range of Karras et al. (2022)."""
    return LogSnrLine(-2.0 * math.log(high), -2.0 * math.log(low), path or VarianceExploding())


class FlowTime(Schedule):
    """sigma = t on the linear path (rectified flow); shift s > 1 spends more time at high noise.

    sigma / alpha = s t / (1 - t): the time shift of Esser et al. (2024, eq. 23).
    """

    def __init__(self, shift: float = 1.0, path: Path | None = None, earliest: float = 1e-3) -> None:
        super().__init__(path or Linear(), earliest)
        if not shift > 0:
            raise ValueError(f"the shift of a flow must be positive, not {shift}")
        self.offset = -2.0 * math.log(shift)

    def clock(self, t: Tensor) -> Tensor:
        """2 log (1 - t)/t - 2 log s; +inf at 0 and -inf at 1."""
        return 2.0 * (torch.log1p(-t) - torch.log(t)) + self.offset

    def inverse(self, log_snr: Tensor) -> Tensor:
        """sigmoid of half the negative log-SNR."""
        return torch.sigmoid(0.5 * (self.offset - log_snr))
