"""`compare`: several evaluated runs in one table; numbers measured differently are shown and never ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import UsageError
from ..report.compare import Ranking, compare_page, rankings
from ..training.storage import Disk
from .report import summarise
from .run import open_run


@dataclass(frozen=True)
class Comparison:
    """The rankings and the page that shows them."""

    rankings: tuple[Ranking, ...]
    page: Path

    def lines(self) -> list[str]:
        """The rankings as text."""
        return [line for ranking in self.rankings for line in (*ranking.lines(), "")] + [f"Page: {self.page}"]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "page": str(self.page),
            "rankings": [
                {
                    "title": r.title,
                    "decided": r.decided,
                    "entries": [{"run": name} | m.to_json() for name, m in r.entries],
                    "unlike": [{"run": name, "reason": why} | m.to_json() for name, m, why in r.unlike],
                }
                for r in self.rankings
            ],
        }


def compare(runs: Sequence[Path | str], *, out: Path | str | None = None) -> Comparison:
    """Compare evaluated runs; writes compare.html."""
    if len(runs) < 2:
        raise UsageError("comparing takes two runs or more", remedy="sfumato compare RUN RUN ...")
    opened = [open_run(path) for path in runs]
    summaries = [summarise(run) for run in opened]
    for run, summary in zip(opened, summaries, strict=True):
        if not summary.metrics:
            raise UsageError(f"{run.path} was never evaluated", remedy=f"sfumato evaluate {run.path}")
    page = Path(out) if out else opened[0].path.parent / "compare.html"
    page = page / "compare.html" if page.suffix != ".html" else page
    disk = Disk()
    disk.make(page.parent)
    disk.replace(page, compare_page(summaries).encode())
    return Comparison(rankings([(s.name, s.metrics) for s in summaries]), page)
