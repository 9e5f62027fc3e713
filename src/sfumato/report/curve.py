"""Quality against steps as curves: one line for each solver on each grid."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.steps import Point
from .summary import Curves, Series


def curves_of_steps(points: Sequence[Point]) -> tuple[Curves, ...]:
    """Frechet distance over network calls and over seconds for an image; nothing without points."""
    if not points:
        return ()
    metric = points[0].metric
    caption = (
        f"{metric.protocol.line().split(' | ')[0]}, {metric.protocol.features}. Bands: one standard error."
    )
    if metric.floor is not None:
        caption += f" Real images: {metric.shown_floor}."
    calls = tuple(_series(points, way, [p.calls for p in _of(points, way)]) for way in _ways(points))
    seconds = tuple(_series(points, way, [p.seconds for p in _of(points, way)]) for way in _ways(points))
    return (
        Curves(f"{metric.name} by network calls", "network calls an image", metric.name, calls, True, True,
               caption),
        Curves(f"{metric.name} by time", "seconds for an image", metric.name, seconds, True, True, caption),
    )  # fmt: skip


def _ways(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(p.way for p in points))


def _of(points: Sequence[Point], way: str) -> list[Point]:
    return sorted((p for p in points if p.way == way), key=lambda p: p.steps)


def _series(points: Sequence[Point], way: str, x: Sequence[float]) -> Series:
    own = _of(points, way)
    return Series(way, x, [p.metric.value for p in own], [p.metric.spread for p in own])
