"""A schedule is a clock on a path: time t in [0, 1] -> log-SNR lambda(t) -> level (alpha, sigma).

lambda falls from the data at t = 0 to noise at t = 1. The clock decides how densely training and a
grid visit the levels, and nothing else: with lambda as the coordinate the ideal denoiser, the
transition kernels and the weighted loss per level do not know t (Kingma et al. 2021, sec. 5.1).
Drift and diffusion of the forward SDE dx = f x dt + g dw follow from the rates:

    f = alpha'/alpha        g^2 = -sigma^2 lambda'(t)

A clock that rises anywhere is none: there g^2 would be negative, and a level would belong to several times.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.stable import Scalar
from .level import Level
from .paths import Path

LOOKS = 65  # times at which a clock is checked


class Schedule(nn.Module, ABC):
    """A decreasing clock lambda(t) on a path.

    `earliest` is the smallest time worth visiting: where the clock is infinite at t = 0, or where a
    table's first row lies. Clocks are written for tensors; floats are lifted to float64 and back.
    """

    def __init__(self, path: Path, earliest: float = 0.0) -> None:
        super().__init__()
        self.path, self.earliest = path, earliest

    @abstractmethod
    def clock(self, t: Tensor) -> Tensor:
        """lambda(t) of any shape, decreasing on [0, 1]; may be +inf at 0 and -inf at 1."""

    @abstractmethod
    def inverse(self, log_snr: Tensor) -> Tensor:
        """The t in [0, 1] with clock(t) = log_snr, any shape."""

    def log_snr(self, t: Scalar) -> Scalar:
        """lambda(t) in nats; floats give floats."""
        return _lifted(self.clock, t)

    def time(self, log_snr: Scalar) -> Scalar:
        """The time at which the clock shows log_snr; floats give floats."""
        return _lifted(self.inverse, log_snr)

    def level(self, t: Scalar) -> Level:
        """(alpha, sigma) at time t; floats give floats, (B,) gives (B,)."""
        return self.path.level(self.log_snr(t))

    def rate(self, t: Scalar) -> tuple[Level, Level]:
        """The level at t in (0, 1) and its derivative (alpha', sigma') by t.

        By autograd, in and out of inference mode; gradients reach a learned clock where they are on.
        """
        if not isinstance(t, Tensor):
            with torch.no_grad():
                value, slope = self.rate(torch.tensor(t, dtype=torch.float64))
            return _floats(value), _floats(slope)
        keep = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            at = t.detach().clone().requires_grad_()
            level = self.path.level(self.clock(at))
            slope = Level(_derivative(level.alpha, at, keep), _derivative(level.sigma, at, keep))
        return (level if keep else _detached(level)), slope


class Until(Schedule):
    """The part of a schedule up to sigma/alpha = ratio: its t = 1 is there, its clean end unchanged.

    lambda(t) = inner lambda(t * last), last the inner time of that level. Any grid or distribution of
    times then keeps to the part, for a process that starts from a first guess instead of pure noise.
    """

    def __init__(self, inner: Schedule, ratio: float) -> None:
        last = float(inner.time(-2.0 * math.log(ratio))) if 0 < ratio < math.inf else 0.0
        if not inner.earliest < last <= 1.0 + 1e-9:
            low, high = (math.exp(-0.5 * float(inner.log_snr(t))) for t in (max(inner.earliest, 1e-6), 1.0))
            raise UsageError(
                f"sampling cannot start at {ratio:g} times as much noise as signal",
                remedy=f"This model knows {low:.3g} to {high:.4g}.",
            )
        last = min(last, 1.0)
        super().__init__(inner.path, inner.earliest / last)
        self.inner, self.last = inner, last

    def clock(self, t: Tensor) -> Tensor:
        """The inner clock at t * last."""
        return self.inner.clock(t * self.last)

    def inverse(self, log_snr: Tensor) -> Tensor:
        """The inner time as a part of the last one."""
        return self.inner.inverse(log_snr) / self.last


@torch.no_grad()
def check_clock(schedule: Schedule) -> None:
    """UsageError unless the clock falls strictly over even times from the earliest to 1."""
    times = torch.linspace(schedule.earliest, 1.0, LOOKS, dtype=torch.float64).unique()
    shown = schedule.clock(times)
    if bool(torch.isnan(shown).any()):
        raise _no_clock(schedule, "is no number", times, shown, int(torch.isnan(shown).long().argmax()))
    falls = shown[1:] < shown[:-1]
    if not bool(falls.all()):
        raise _no_clock(schedule, "does not fall", times, shown, 1 + int((~falls).long().argmax()))


def _no_clock(schedule: Schedule, what: str, times: Tensor, shown: Tensor, at: int) -> UsageError:
    before = f", after {float(shown[at - 1]):.6g} at t = {float(times[at - 1]):.4g}" if at else ""
    return UsageError(
        f"the clock of {type(schedule).__name__} {what}",
        where=f"log-SNR {float(shown[at]):.6g} at t = {float(times[at]):.4g}{before}",
        remedy="log-SNR(t) falls strictly from the data at t = 0 to noise at t = 1. Mend the clock, or train "
        "on a schedule of the library.",
    )


def _derivative(y: Scalar, t: Tensor, keep: bool) -> Tensor:
    """dy/dt for y that is elementwise in t (so the gradient of its sum is its derivative)."""
    if not isinstance(y, Tensor) or not y.requires_grad:
        return torch.zeros_like(t)
    return torch.autograd.grad(y.sum(), t, create_graph=keep, retain_graph=True)[0]


def _detached(level: Level) -> Level:
    return Level(*(v.detach() if isinstance(v, Tensor) else v for v in (level.alpha, level.sigma)))


def _lifted(f: Callable[[Tensor], Tensor], x: Scalar) -> Scalar:
    if isinstance(x, Tensor):
        return f(x)
    with torch.no_grad():
        return float(f(torch.tensor(x, dtype=torch.float64)))


def _floats(level: Level) -> Level:
    return Level(float(level.alpha), float(level.sigma))
