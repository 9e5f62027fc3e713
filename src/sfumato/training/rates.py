"""The learning rate as a function of the examples seen and of the examples planned.

    rate(seen, target) = peak * warm(seen) * shape(seen / target)

    warm(seen) = min(1, seen / warmup)               linear, so that Adam's moments settle first
    Constant:      shape(x) = 1
    Cosine:        shape(x) = floor + (1 - floor) (1 + cos(pi x)) / 2    (Loshchilov & Hutter 2017, eq. 5)
    Cooldown:      shape(x) = min(1, (1 - x) / share)        constant, then linearly to zero
    InverseRoot:   shape = sqrt(reference / max(seen, reference))        (Karras et al. 2024, eq. 67)

A pure function of position, so a resumed run continues on the same curve. The rate of a step is
taken at its middle, which makes neither the first step idle nor the last one waste.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


class Rate(ABC):
    """A learning rate over a stage."""

    @abstractmethod
    def at(self, seen: float, target: float) -> float:
        """The rate at a position, in examples, of a stage of `target` examples."""


def _warm(seen: float, warmup: float) -> float:
    return min(1.0, seen / warmup) if warmup else 1.0


def _check(peak: float, warmup: int) -> None:
    if not (peak > 0 and math.isfinite(peak) and warmup >= 0):
        raise ValueError(f"a learning rate is positive and its warm-up not negative: {peak}, {warmup}")


@dataclass(frozen=True)
class Constant(Rate):
    """The same rate throughout, after a warm-up of so many examples."""

    peak: float = 1e-3
    warmup: int = 0

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup)

    def at(self, seen: float, target: float) -> float:
        """peak * warm."""
        return self.peak * _warm(seen, self.warmup)


@dataclass(frozen=True)
class Cosine(Rate):
    """Half a cosine from the peak to `floor` times the peak; the warm-up never exceeds a tenth."""

    peak: float = 1e-3
    warmup: int = 2_000
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup)

    def at(self, seen: float, target: float) -> float:
        """peak * warm * (floor + (1 - floor)(1 + cos(pi x))/2)."""
        x = min(1.0, seen / target)
        shape = self.floor + (1 - self.floor) * (1 + math.cos(math.pi * x)) / 2
        return self.peak * _warm(seen, min(self.warmup, target / 10)) * shape


@dataclass(frozen=True)
class Cooldown(Rate):
    """Constant, then linearly to zero over the last `share` of the stage."""

    peak: float = 1e-3
    warmup: int = 2_000
    share: float = 0.3

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup)
        if not 0 < self.share <= 1:
            raise ValueError(f"the share that cools down is in (0, 1], not {self.share}")

    def at(self, seen: float, target: float) -> float:
        """peak * warm * min(1, (1 - x)/share)."""
        shape = max(0.0, min(1.0, (1 - seen / target) / self.share))
        return self.peak * _warm(seen, min(self.warmup, target / 10)) * shape


@dataclass(frozen=True)
class InverseRoot(Rate):
    """Falls as one over the square root of the examples seen after `reference` of them."""

    peak: float = 1e-3
    warmup: int = 2_000
    reference: int = 100_000

    def __post_init__(self) -> None:
        _check(self.peak, self.warmup)

    def at(self, seen: float, target: float) -> float:
        """peak * warm * sqrt(reference / max(seen, reference))."""
        return self.peak * _warm(seen, self.warmup) * math.sqrt(self.reference / max(seen, self.reference))
