"""The points of a run's curve on disk: curve.json, written anew after each point, so that none is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core.errors import RefusedError
from ..evaluation.protocol import comparable
from ..evaluation.steps import Point
from ..training.storage import JSON_LIMIT, from_json, read_regular
from .run import Run

CURVE = "curve.json"


def read_points(run: Run) -> list[Point]:
    """All points measured with the weights as they are, oldest first; others are left out."""
    path = run.path / CURVE
    if not path.exists():
        return []
    value: Any = from_json(read_regular(path, JSON_LIMIT), path)
    if not isinstance(value, dict) or not isinstance(value.get("points"), list):
        raise RefusedError("no curve of ours", where=path, remedy="Remove the file: it is measured again.")
    return [Point.from_json(p) for p in value["points"]] if value.get("seen") == run.weights.seen else []


def write_points(run: Run, points: Sequence[Point]) -> None:
    """Keep the points."""
    value = {"seen": run.weights.seen, "points": [p.to_json() for p in points]}
    run.folder.disk.replace(run.path / CURVE, json.dumps(value, indent=1, allow_nan=False).encode())


def alike(points: Sequence[Point]) -> list[Point]:
    """Those of the points that were measured like the last one, seed included."""
    if not points:
        return []
    last = points[-1].metric
    return [
        p
        for p in points
        if comparable(last, p.metric) is None and p.metric.protocol.seed == last.protocol.seed
    ]
