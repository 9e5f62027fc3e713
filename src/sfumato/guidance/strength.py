"""How strongly a denoiser is guided, and where.

    scale gamma   0 the model that is led away from, 1 the model itself, above 1 guided

One meaning for every kind of guidance (papers that write w mean gamma = 1 + w). Guidance outside a middle
interval of levels costs quality and time, so it may be limited to one (Kynkaanniemi et al. 2024): outside
of it the model is asked alone. That is scale 1 where the scale extrapolates between two models, and 0 where
a classifier is all that knows of the class.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from ..core.stable import Scalar
from ..diffusion.level import Level

Interval: TypeAlias = tuple[float, float]


def within(interval: Interval, log_snr: float) -> bool:
    """Whether a log-SNR lies in an interval, its ends included."""
    return interval[0] <= log_snr <= interval[1]


class Strength:
    """A finite scale >= 0, and the interval (low, high) in log-SNR outside which it is `outside`."""

    def __init__(self, scale: float, interval: Interval | None = None, outside: float = 1.0) -> None:
        if not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"the guidance scale is a number and not negative: {scale}")
        if interval is not None and not interval[0] < interval[1]:
            raise ValueError(f"an interval of log-SNR is (low, high), not {interval}")
        self.scale, self.interval, self.outside = scale, interval, outside

    def at(self, level: Level) -> Scalar:
        """The scale at a level: a float, or (B,) where levels are per sample and an interval is set."""
        if self.interval is None:
            return self.scale
        low, high = self.interval
        log_snr = level.log_snr
        if isinstance(log_snr, Tensor):
            inside = (low <= log_snr) & (log_snr <= high)
            return torch.where(inside, self.scale, self.outside)
        return self.scale if within(self.interval, log_snr) else self.outside
