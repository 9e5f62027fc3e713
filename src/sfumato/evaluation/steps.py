"""How quality depends on the steps of sampling, and how few are enough.

    point        solver x grid x steps: network calls and seconds for an image, and the Frechet distance
    recommended  the fewest network calls whose distance is within the spread of the best one,
                 d <= d_best + spread_best; of equally many calls the least distance

One standard error is the usual rule for choosing the simplest of several models that cannot be told apart
(Breiman et al. 1984, sec. 3.4.3). All points judge the same seeds, so that what they share cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..core.errors import RefusedError, UsageError
from .protocol import AGAIN, Metric, comparable

KINDS: dict[str, tuple[type, ...]] = {
    "solver": (str,),
    "grid": (str,),
    "steps": (int,),
    "calls": (int, float),
    "seconds": (int, float),
}


@dataclass(frozen=True)
class Point:
    """One way of sampling, measured; calls are of the network for one image, guidance counted."""

    solver: str
    grid: str
    steps: int
    calls: float
    seconds: float
    metric: Metric

    @property
    def way(self) -> str:
        """Solver and grid in words."""
        return f"{self.solver} on {self.grid}"

    def line(self) -> str:
        """One line of a table."""
        steps, calls = many(self.steps, "step"), f"{self.calls:>6.1f} calls"
        return (
            f"{self.way:<24} {steps:>10} {calls} {1000 * self.seconds:>8.1f} ms  "
            f"{self.metric.shown_value} ± {self.metric.shown_spread}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"metric": self.metric.to_json()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Point:
        """The point of to_json; RefusedError for anything else."""
        if not isinstance(value, Mapping) or set(value) != set(Point.__dataclass_fields__):
            raise RefusedError("no point of a curve", remedy=AGAIN)
        for name, kind in KINDS.items():
            if not isinstance(value[name], kind) or isinstance(value[name], bool):
                raise RefusedError(f"field '{name}' of a point holds {value[name]!r:.60}", remedy=AGAIN)
        return Point(**{**value, "metric": Metric.from_json(value["metric"])})


def many(count: float, thing: str) -> str:
    """A count with its noun: 1 step, 2 steps, 2.5 steps."""
    return f"{count:g} {thing}" if count == 1 else f"{count:g} {thing}s"


def usable(points: Sequence[Point]) -> list[Point]:
    """The points with a finite distance; UsageError if none has, or if two were measured unlike."""
    found = [p for p in points if math.isfinite(p.metric.value) and math.isfinite(p.metric.spread)]
    if not found:
        raise UsageError(
            "no way of sampling gave finite images", remedy="Try more steps, or train for longer."
        )
    for other in found[1:]:
        if reason := comparable(found[0].metric, other.metric):
            raise UsageError(f"the points cannot be compared: {reason}", remedy="Measure them together.")
    return found


def recommended(points: Sequence[Point]) -> Point:
    """The point of fewest network calls within the spread of the best; UsageError where there is none."""
    found = usable(points)
    best = min(found, key=lambda p: p.metric.value)
    enough = [p for p in found if p.metric.value <= best.metric.value + best.metric.spread]
    return min(enough, key=lambda p: (p.calls, p.metric.value, p.steps))


def reason(points: Sequence[Point]) -> str:
    """Why the recommended point is, in words."""
    found = usable(points)
    best, chosen = min(found, key=lambda p: p.metric.value), recommended(points)
    reach = "reaches" if chosen.calls == 1 else "reach"
    told = f"{many(chosen.calls, 'network call')} {reach} {chosen.metric.headline()}"
    if len(found) == 1:
        return f"{told}; no other way was measured"
    return (
        f"{told}; the best of {len(found)} ways, {many(best.steps, 'step')} of {best.way}, "
        f"{best.metric.shown_value} ± {best.metric.shown_spread}"
    )
