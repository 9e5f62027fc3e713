"""The table of quality by network calls, as it is kept in a student's folder and shown in its report.

Two distances of one table differ where |a - b| > 2 (s_a^2 + s_b^2)^1/2, s being their standard errors
(as in evaluation/protocol.py). The table is read for whether two calls of the student are better than two of
the teacher's DDIM, and as good as eight of its best solver: where it cannot tell, that is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import RefusedError
from ..report.summary import Curves, Rows, Series
from ..training.storage import JSON_LIMIT, from_json, read_regular

STEPS = "steps.json"
BEST = "teacher, best solver"
NAMES = {"student": "student", "ddim": "teacher, DDIM"}
RIVALS = (("teacher, DDIM", 2, "DDIM of as many"), (BEST, 8, "best solver at 8"))  # of the student's 2 calls
MORE = 10  # times the samples: about a third of the error


@dataclass(frozen=True)
class Row:
    """One point of the table.

    who, sampler      "student" or "teacher", and by what;  calls  of the network for an image, at most
    frechet, spread   distance to held-out images and its standard error
    seconds           for an image, on the machine that measured;  plan  the sampler in words
    """

    who: str
    sampler: str
    calls: int
    frechet: float
    spread: float
    seconds: float
    plan: str


@dataclass(frozen=True)
class StepTable:
    """The rows and what they were measured by: features, samples, reference, seed."""

    protocol: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"protocol": dict(self.protocol), "rows": [vars(row) for row in self.rows]}

    def by_sampler(self) -> dict[str, tuple[Row, ...]]:
        """The rows of the student, of the teacher's DDIM, and of its best solver, by calls."""
        found: dict[str, list[Row]] = {}
        for row in sorted(self.rows, key=lambda r: r.calls):
            found.setdefault(NAMES.get(row.sampler, BEST), []).append(row)
        return {name: tuple(rows) for name, rows in found.items()}


def read_steps(folder: Path) -> StepTable:
    """The table of a run's folder; an empty one before it was measured."""
    path = folder / STEPS
    if not path.exists():
        return StepTable()
    value = from_json(read_regular(path, JSON_LIMIT), path)
    try:
        return StepTable(dict(value["protocol"]), tuple(Row(**row) for row in value["rows"]))
    except (TypeError, KeyError, ValueError):
        raise RefusedError("no table of ours", where=path, remedy="Run `sfumato distill` again.") from None


def lines(table: StepTable) -> list[str]:
    """The table as text."""
    return [
        f"{row.who:8} {row.calls:3d} calls  Frechet {row.frechet:8.3f} ± {row.spread:.3f}  "
        f"{1e3 * row.seconds:8.2f} ms an image  ({row.plan})"
        for row in table.rows
    ]


def doubts(table: StepTable, most: int) -> list[str]:
    """A sentence where the table cannot tell the student's 2 calls from the teacher's; see the module.

    most: samples that can be drawn.
    """
    by = {(name, row.calls): row for name, rows in table.by_sampler().items() for row in rows}
    mine, number = by.get(("student", 2)), int(table.protocol.get("samples", 0))
    if mine is None:
        return []
    alike = [
        words
        for name, calls, words in RIVALS
        if (other := by.get((name, calls))) is not None and not apart(mine, other)
    ]
    if not alike:
        return []
    more = min(MORE * number, most)
    remedy = f"; more may: --judged {more}" if more > number else ""
    told = " or from its ".join(alike)
    return [f"{number:,} samples cannot tell the student's 2 calls from the teacher's {told}{remedy}."]


def apart(a: Row, b: Row, errors: float = 2.0) -> bool:
    """Whether two rows differ by more than `errors` joint standard errors."""
    return abs(a.frechet - b.frechet) > errors * math.hypot(a.spread, b.spread)


def step_rows(table: StepTable) -> tuple[Rows, ...]:
    """A small table for each sampler: calls, and the distance they reach."""
    return tuple(
        Rows(
            f"Fréchet distance of the {name}",
            tuple(
                (f"{r.calls} calls", f"{r.frechet:.3f} ± {r.spread:.3f}, {1e3 * r.seconds:.2f} ms an image")
                for r in rows
            ),
        )
        for name, rows in table.by_sampler().items()
    )


def step_curves(table: StepTable) -> tuple[Curves, ...]:
    """Distance over network calls; none without a table."""
    if not table.rows:
        return ()
    series = tuple(
        Series(name, [r.calls for r in rows], [r.frechet for r in rows], [r.spread for r in rows])
        for name, rows in table.by_sampler().items()
    )
    p = table.protocol
    caption = f"{p.get('samples', 0):,} samples against {p.get('reference', 0):,} held-out images"
    axes = ("Quality by network calls", "network calls", "Fréchet distance")
    return (Curves(*axes, series, log_x=True, log_y=True, caption=f"{caption}; {p.get('features', '')}."),)
