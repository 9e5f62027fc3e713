"""From a source of pictures to a Dataset: survey, plan, decode once, keep.

    headers of all files -> plan -> pixels of all files -> cache -> memory (or memory map)

Files that cannot be used are listed by name and left out; more than 5 % of them stop the work, because
then something is wrong that a training run should not paper over.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from . import cache
from .dataset import Dataset, partly_known
from .decode import Header
from .facts import Facts
from .measure import fingerprint_of, measured
from .options import Options, Plan
from .pool import Decoders, Item, Result
from .survey import CONSTANT, Survey, count_headers, make_plan, pipeline, remark_conversions

MOST_BAD = 0.05
IN_MEMORY = 1 << 30  # above this many bytes the stored values stay on disk, memory-mapped
Progress = Callable[[str, int, int], None]


class Source(ABC):
    """Pictures that can be listed as often as needed, always in the same order."""

    name: str
    classes: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    frames: int = 0  # of a clip, stored as one picture: the frames side by side

    @abstractmethod
    def __len__(self) -> int:
        """How many items there are."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """The items, in order."""

    @abstractmethod
    def key(self) -> list[Any]:
        """What the content depends on, as JSON values: names, sizes and times of the files."""


def ingest(source: Source, options: Options, progress: Progress | None = None) -> Dataset:
    """The decoded pictures of a source, from the cache or decoded now. DataError if too many are bad."""
    key = cache.key_of(source.key(), options.to_json())
    folder = cache.valid(key)
    if folder is None:
        _build(key, source, options, progress or _silent)
        folder = cache.entry(key)
    data = _load(folder)
    if data.survey is not None:
        # what the source says of files beside the pictures is of today, not of the day of decoding
        data.survey.notes = list(dict.fromkeys([*source.notes, *data.survey.notes]))
        if not options.quarantine:
            _stop_if_many_are_bad(data.survey)
    return data


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def _build(key: str, source: Source, options: Options, progress: Progress) -> None:
    survey = Survey(source=source.name, found=len(source))
    with Decoders() as decoders:
        work = _Work(source, survey, decoders, progress)
        headers = count_headers(survey, work.headers())
        if not headers:
            _stop_if_many_are_bad(survey)
        plan = make_plan(headers, options, source.frames)
        with cache.building(key, plan.bytes * len(headers)) as folder:
            kept = _Columns()
            with (folder / "stored.bin").open("wb") as file:
                for result in work.decoded(plan):
                    file.write(result.body)
                    kept.add(result)
            if not kept.names:
                _stop_if_many_are_bad(survey)
            shape = (len(kept.names), plan.channels, *plan.size)
            stored = np.memmap(folder / "stored.bin", plan.kind, "r", shape=shape)
            _describe(folder, stored, plan, source, survey, kept)
            del stored


class _Work:
    """The two passes over the items of a source; what is bad or odd goes into the survey."""

    def __init__(self, source: Source, survey: Survey, decoders: Decoders, progress: Progress) -> None:
        self.source, self.survey, self.decoders, self.progress = source, survey, decoders, progress
        self.unreadable: set[int] = set()

    def headers(self) -> Iterator[tuple[str, Header]]:
        """Name and header of every item that has one."""
        total = len(self.source)
        for i, result in enumerate(self.decoders.results(self.source.items(), None)):
            if result.error is not None:
                self.survey.bad.append((result.item.name, result.error))
                self.unreadable.add(i)
            else:
                yield result.item.name, Header(**result.said["header"])
            if (i + 1) % 256 == 0 or i + 1 == total:
                self.progress("reading headers", i + 1, total)

    def decoded(self, plan: Plan) -> Iterator[Result]:
        """The good results in order."""
        good = (item for i, item in enumerate(self.source.items()) if i not in self.unreadable)
        total = len(self.source) - len(self.unreadable)
        for i, result in enumerate(self.decoders.results(good, plan), start=1):
            if result.error is not None:
                self.survey.bad.append((result.item.name, result.error))
            else:
                self._remark(result, plan)
                yield result
            if i % 64 == 0 or i == total:
                self.progress("decoding", i, total)

    def _remark(self, result: Result, plan: Plan) -> None:
        name, header = result.item.name, Header(**result.said["header"])
        remark_conversions(self.survey, name, header, plan)
        if result.said["low"] == result.said["high"]:
            self.survey.remark(CONSTANT, name)
        if result.said["gray"] and header.colours == 3:
            self.survey.remark("gray stored as RGB", name)


def _stop_if_many_are_bad(survey: Survey) -> None:
    bad, found = len(survey.bad), survey.found
    if bad <= MOST_BAD * found and bad < found:
        return
    shown = "\n".join(f"    {name}: {why}" for name, why in survey.bad[:10])
    told = ": `sfumato doctor DATA --json` names all" if bad < found else ""
    more = f"\n    ... and {bad - 10:,} more{told}" if bad > 10 else ""
    raise DataError(
        f"{bad:,} of {found:,} files cannot be used (at most {MOST_BAD:.0%} may fail)",
        where=survey.source,
        remedy=f"Mend or remove them, or go on without them: --quarantine\n{shown}{more}",
    )


class _Columns:
    """What is kept of every good item beside its pixels."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.labels: list[str | None] = []
        self.captions: list[str] = []
        self.factors: list[Sequence[float]] = []
        self.hashes: list[int] = []

    def add(self, result: Result) -> None:
        """Keep one more."""
        self.names.append(result.item.name)
        self.labels.append(result.item.label)
        self.captions.append(result.item.caption)
        self.factors.append(result.item.factors)
        self.hashes.append(int.from_bytes(bytes.fromhex(result.said["hash"]), "little"))


def _describe(
    folder: Path, stored: NDArray[Any], plan: Plan, source: Source, survey: Survey, kept: _Columns
) -> None:
    labels = None
    if source.classes:
        number = {name: i for i, name in enumerate(source.classes)}
        labels = np.array([number[label or ""] for label in kept.labels], dtype=np.int64)
    hashes = np.array(kept.hashes, dtype=np.uint64)
    facts = measured(
        stored,
        labels=labels,
        hashes=hashes,
        classes=source.classes,
        source=source.name,
        alpha=plan.keeps_alpha,
        factors=source.factor_names,
        fingerprint=fingerprint_of(hashes, stored, labels),
    )
    survey.low, survey.high = facts.low, facts.high
    if source.factor_names:
        survey.notes += _unknown_factors(source.factor_names, kept)
    line = pipeline(plan, survey, facts.high, facts.low)
    columns = {
        "facts": facts.to_json() | {"pipeline": line},
        "survey": survey.to_json(),
        "labels": None if labels is None else labels.tolist(),
        "factors": kept.factors if source.factor_names else None,
        "hashes": hashes.tolist(),
        "captions": kept.captions if any(kept.captions) else [],
        "names": kept.names,
    }
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")


def _unknown_factors(names: Sequence[str], kept: _Columns) -> list[str]:
    """The note that a table tells factors of a part of the pictures, so that nothing is measured by them."""
    told = partly_known(names, np.array(kept.factors, dtype=np.float32), kept.names.__getitem__)
    return [f"{told[0].upper()}{told[1:]}: these known factors are left out."] if told else []


def _load(folder: Path) -> Dataset:
    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    facts = Facts.from_json(columns["facts"])
    path, shape = folder / "stored.bin", (facts.count, *facts.shape)
    if path.stat().st_size <= IN_MEMORY:
        stored: NDArray[Any] = np.fromfile(path, facts.kind).reshape(shape)
    else:
        stored = np.memmap(path, facts.kind, "r", shape=shape)
    labels, factors = columns["labels"], columns["factors"]
    return Dataset(
        stored,
        facts,
        labels=None if labels is None else np.array(labels, dtype=np.int64),
        factors=None if factors is None else np.array(factors, dtype=np.float32),
        captions=columns["captions"],
        names=columns["names"],
        hashes=np.array(columns["hashes"], dtype=np.uint64),
        survey=Survey.from_json(columns["survey"]),
    )
