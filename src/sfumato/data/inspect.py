"""The data doctor: what a model would be trained on, in plain words, before anything is trained.

examine(data) -> Report      counts, sizes, depth, range, duplicates, bad files, classes, oddities, advice
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import Dataset
from .ingest import Progress
from .sources import open_data
from .survey import CONSTANT, EXAMPLES, MOST_NAMED, Survey

FEW = 8  # lines of a list that are shown; the rest is counted


@dataclass(frozen=True)
class Report:
    """What the doctor found. `lines` says it in words with the first names, `to_json` in values with all."""

    source: str
    count: int
    held_out: int
    shape: tuple[int, ...]
    kind: str
    low: float
    high: float
    levels: int | None
    pipeline: str
    fingerprint: str
    sizes: dict[str, int]
    modes: dict[str, int]
    classes: dict[str, int]
    bad: list[tuple[str, str]]
    duplicates: int  # examples that repeat an earlier one
    duplicate_names: list[list[str]]
    constant: int
    odd: dict[str, list[str]]
    odd_counts: dict[str, int]
    notes: list[str]
    stored_bytes: int
    batch_bytes: int  # 64 examples as the model sees them
    advice: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report in plain words, one thought a line."""
        what = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}[self.kind]
        used = f"{self.count:,} examples of {' x '.join(map(str, self.shape))}, {what}"
        levels = "" if self.levels is None else f", {self.levels:,} levels"
        out = [f"{self.source}: {used} (range {self.low:g} ... {self.high:g}{levels})"]
        if self.modes:
            out.append("Files: " + _tally({_MODES.get(m, m): n for m, n in self.modes.items()}))
        if len(self.sizes) > 1:
            out.append("Sizes (height x width): " + _tally(self.sizes))
        out.append(f"Pipeline: {self.pipeline}")
        for what, n in sorted(self.odd_counts.items(), key=lambda pair: -pair[1]):
            out.append(f"{n:,} {what}: {', '.join(self.odd[what][:3])}{' ...' if n > 3 else ''}")
        if self.bad:
            out.append(f"{len(self.bad):,} files cannot be used and are left out:")
            out += [f"    {name}: {why}" for name, why in self.bad[:FEW]]
            rest = f"    ... and {len(self.bad) - FEW:,} more: `sfumato doctor DATA --json` names all"
            out += [rest] if len(self.bad) > FEW else []
        if self.duplicates:
            shown = "; ".join(" = ".join(group) for group in self.duplicate_names[:3])
            out.append(f"Exact copies of other examples: {self.duplicates:,}, e.g. {shown}")
        if self.classes:
            least, most = min(self.classes.values()), max(self.classes.values())
            each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            names = ", ".join(list(self.classes)[:20]) + (" ..." if len(self.classes) > 20 else "")
            out.append(f"{len(self.classes)} classes of {each} examples: {names}")
        out += self.notes
        sizes = (
            f"{self.stored_bytes / 1e6:,.1f} MB decoded, {self.batch_bytes / 1e6:,.1f} MB for a batch of 64"
        )
        out.append(f"Memory: {sizes}. {self.held_out:,} examples are held out for judging.")
        return out + [f"Advice: {advice}" for advice in self.advice]


_MODES = {
    "1": "black-and-white",
    "L": "gray",
    "LA": "gray with transparency",
    "P": "palette",
    "RGBA": "RGB with transparency",
    "I;16": "gray 16-bit",
    "I;16B": "gray 16-bit",
    "I": "gray 32-bit",
    "F": "gray float",
}


def _tally(counts: dict[str, int]) -> str:
    shown = [f"{n:,} {what}" for what, n in list(counts.items())[:FEW]]
    rest = len(counts) - FEW
    return ", ".join(shown) + (f" and {rest} more kinds" if rest > 0 else "")


def examine(
    data: Dataset | str | Path,
    *,
    held_out: int | None = None,
    progress: Progress | None = None,
    **choices: Any,
) -> Report:
    """The report on a data set, or on a path or name with the choices of `open_data`.

    held_out: how many examples are kept for judging, if it is not the default part.
    Bad files do not stop the doctor: it goes on without them and names them.
    """
    if not isinstance(data, Dataset):
        data = open_data(data, progress=progress, **{"quarantine": True, **choices})
    facts, survey = data.facts, data.survey or Survey()
    classes = _class_counts(data)
    copies, groups = _duplicates(data)
    odd, odd_counts, constant = dict(survey.odd), dict(survey.odd_counts), _constant(data)
    if constant and CONSTANT not in odd_counts:
        odd_counts[CONSTANT], odd[CONSTANT] = len(constant), [data.name_of(i) for i in constant[:MOST_NAMED]]
    report = Report(
        source=facts.source,
        count=len(data),
        held_out=len(data.split().held_out) if held_out is None else held_out,
        shape=facts.shape,
        kind=facts.kind,
        low=facts.low,
        high=facts.high,
        levels=facts.levels,
        pipeline=facts.pipeline,
        fingerprint=facts.fingerprint,
        sizes=survey.sizes,
        modes=survey.modes,
        classes=classes,
        bad=list(survey.bad),
        duplicates=copies,
        duplicate_names=groups,
        constant=len(constant),
        odd=odd,
        odd_counts=odd_counts,
        notes=list(survey.notes),
        stored_bytes=len(data) * facts.channels * int(np.prod(facts.size)) * data.stored.dtype.itemsize,
        batch_bytes=4 * 64 * int(np.prod(facts.shape)),
    )
    return replace(report, advice=_advice(report))


def _class_counts(data: Dataset) -> dict[str, int]:
    labels = data.label_ids
    if labels is None:
        return {}
    counts = np.bincount(labels, minlength=len(data.facts.classes))
    return {name: int(n) for name, n in zip(data.facts.classes, counts, strict=True)}


def _duplicates(data: Dataset) -> tuple[int, list[list[str]]]:
    """How many examples repeat an earlier one, and the names of a few groups of copies."""
    values, first, counts = np.unique(data.hashes, return_index=True, return_counts=True)
    order = np.flatnonzero(counts > 1)
    order = order[np.argsort(first[order], kind="stable")]
    groups = []
    for at in order[:EXAMPLES]:
        same = np.flatnonzero(data.hashes == values[at])
        groups.append([data.name_of(int(i)) for i in same[:EXAMPLES]])
    return int((counts - 1).sum()), groups


def _constant(data: Dataset) -> list[int]:
    """The positions of examples whose values are all equal; points are never meant."""
    if not data.facts.space:
        return []
    found = []
    for start in range(0, len(data), 1024):
        rows = data.rows_of(range(start, min(start + 1024, len(data)))).reshape(-1, data.stored[0].size)
        found += (start + np.flatnonzero(rows.min(1) == rows.max(1))).tolist()
    return found


_BY_COUNT = (
    (
        100,
        "{n:,} examples: a diffusion model will learn them by heart; for new pictures it needs hundreds.",
    ),
    (
        1_000,
        "{n:,} examples: expect near-copies; watch the memorisation rate in the evaluation and stop early.",
    ),
    (
        5_000,
        "{n:,} examples: enough for simple, aligned pictures; varied ones need more. Watch memorisation.",
    ),
)


def _advice(report: Report) -> list[str]:
    out = [text.format(n=report.count) for limit, text in _BY_COUNT if report.count < limit][:1]
    if report.count == 1:
        out = ["One example: nothing can be learned from it but itself."]
    sizes = [n for n in report.classes.values() if n]
    if sizes and max(sizes) > 10 * min(sizes):
        out.append(f"The classes are unequal ({min(sizes):,} to {max(sizes):,}); rare ones will look worse.")
    empty = [name for name, n in report.classes.items() if n == 0]
    if empty:
        out.append(f"No example of {', '.join(empty[:FEW])}.")
    if report.duplicates > 0.05 * report.count:
        out.append("Many exact copies: the model will prefer those pictures. Consider removing them.")
    if report.constant:
        out.append("Constant pictures teach the model to draw empty ones. Consider removing them.")
    gray = report.odd_counts.get("gray stored as RGB", 0)
    if gray and gray == report.count:
        out.append(
            "Every picture is gray stored as RGB; --channels 1 is three times cheaper and cannot tint."
        )
    if report.odd_counts.get("tiny, enlarged more than twice", 0) > 0.1 * report.count:
        out.append("Many pictures are much smaller than the target; choose a smaller --size.")
    if "with transparency" in report.odd_counts and "on white" in report.pipeline:
        out.append("Transparency was laid on white; --alpha keep, black or drop are the other choices.")
    return out
