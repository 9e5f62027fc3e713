"""Examples decoded once, and the two parts a fair judgement needs.

A data set holds stored values (the numbers of the files, N examples) and turns a few rows at a time into
model values. Splitting off held-out examples is a function of their content alone:

    side(example) = rank of mix(hash(content) xor key(seed)) below the wanted count

so copies of one picture never lie on both sides, and the order of the files has no influence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import DataError
from ..core.noise import seed_of
from .facts import Facts
from .measure import channels_first, hash_rows, measured, number_labels, stored_kind
from .pixels import to_model
from .survey import Survey

HELD_OUT_MOST = 10_000
HELD_OUT_LEAST = 64
ALL_OR_NONE = "Add a line for every picture; or take out those without one, or the columns of numbers."


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples ready for a model: x (B, C, *space) in [-1, 1], label (B,) int64 or None, index (B,) int64."""

    x: Tensor
    label: Tensor | None
    index: Tensor

    def __len__(self) -> int:
        return self.x.shape[0]


class Split(NamedTuple):
    """Two parts of one data set that share no example, nor two copies of one example."""

    train: Dataset
    held_out: Dataset


class Dataset:
    """Examples decoded once: stored values (N, C, *size), labels (N,), known factors (N, F; NaN where a
    table does not tell them), captions, file names, and the survey of the files it came from.

    `stored` may be an array in memory or a memory map; `batch` turns a few rows into model values. A part
    of a data set (`take`, `split`) shares the stored values of the whole.
    """

    def __init__(
        self,
        stored: NDArray[Any],
        facts: Facts,
        *,
        labels: NDArray[np.int64] | None = None,
        factors: NDArray[np.float32] | None = None,
        captions: Sequence[str] = (),
        names: Sequence[str] = (),
        hashes: NDArray[np.uint64] | None = None,
        survey: Survey | None = None,
    ) -> None:
        self.stored, self.labels, self.factors = stored, labels, factors
        self.captions, self.names, self.survey = tuple(captions), tuple(names), survey
        self.rows: NDArray[np.int64] | None = None
        self._hashes = hashes
        for name, column in (
            ("labels", labels),
            ("factors", factors),
            ("captions", self.captions or None),
            ("names", self.names or None),
        ):
            if column is not None and len(column) != len(stored):
                raise ValueError(f"{len(column)} {name} for {len(stored)} examples")
        self.facts = replace(facts, count=len(self))
        self._tensors: dict[torch.device, Tensor] = {}

    @classmethod
    def of(
        cls,
        array: NDArray[Any],
        labels: Sequence[Any] | NDArray[Any] | None = None,
        *,
        layout: str | None = None,
        factors: NDArray[Any] | None = None,
        factor_names: Sequence[str] = (),
        source: str = "array",
        **known: Any,
    ) -> Dataset:
        """A data set of the user's own array; labels may be numbers or words.

        The layout follows the rule in `measure` or is named, e.g. layout="NCHW". `known` are further fields
        of Facts and `scale` = (low, high, spacing), for data whose range is known beforehand.
        """
        if not np.size(array):
            raise DataError(
                f"there are no examples in an array of shape {np.shape(array)}",
                where=source,
                remedy="Give an array with one row for each example.",
            )
        stored = np.ascontiguousarray(channels_first(stored_kind(np.asarray(array), source), layout))
        for what, column in (("labels", labels), ("factors", factors)):
            if column is not None and np.shape(column)[:1] != stored.shape[:1]:
                raise DataError(
                    f"{(*np.shape(column), 'no')[0]} {what} for {len(stored)} examples",
                    where=source,
                    remedy=f"Give one row of {what} for each example, in the same order.",
                )
        ids, names = (None, ()) if labels is None else number_labels(_labels(labels, source))
        values = None
        if factors is not None:
            values, factor_names = _factors(factors, factor_names, source)
        shape = " x ".join(map(str, stored.shape[2:])) or "points"
        told: dict[str, Any] = {
            "time": "T" in (layout or "").upper(),
            "classes": names,
            "pipeline": f"{shape}, {stored.shape[1]} channel(s) of {stored.dtype.name} -> [-1, 1]",
        }
        hashes = hash_rows(stored)
        facts = measured(
            stored, labels=ids, hashes=hashes, source=source, factors=tuple(factor_names), **(told | known)
        )
        return cls(stored, facts, labels=ids, factors=values, hashes=hashes)

    def __len__(self) -> int:
        return len(self.stored) if self.rows is None else len(self.rows)

    @property
    def fingerprint(self) -> str:
        """A hash of the content: equal fingerprints, equal data."""
        return self.facts.fingerprint

    def batch(self, indices: Tensor | Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The examples at these positions of this data set, as model values on the device."""
        index = torch.as_tensor(indices, dtype=torch.int64, device="cpu")
        rows = index if self.rows is None else torch.from_numpy(self.rows)[index]
        device = torch.device(device)
        if device in self._tensors:
            picked = self._tensors[device].index_select(0, rows.to(device))
            if picked.dtype == torch.int16:  # sixteen unsigned bits travel as signed ones
                picked = picked.to(torch.int32).bitwise_and_(0xFFFF)
        else:
            picked = torch.from_numpy(np.take(self.stored, rows.numpy(), axis=0)).to(device)
        label = None if self.labels is None else torch.from_numpy(self.labels)[rows].to(device)
        return Batch(to_model(picked, self.facts), label, index)

    def keep_on(self, device: torch.device | str) -> Dataset:
        """Keep the stored values on a device, so that batches are gathered there; returns itself."""
        stored = self.stored.view(np.int16) if self.stored.dtype == np.uint16 else self.stored
        self._tensors[torch.device(device)] = torch.from_numpy(np.ascontiguousarray(stored)).to(device)
        return self

    def rows_of(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """The stored values (B, C, *size) at these positions, in the depth of the source."""
        at = np.asarray(indices, dtype=np.int64)
        return np.take(self.stored, at if self.rows is None else self.rows[at], axis=0)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """(N,) one 64-bit hash of the stored values of each example; copies have equal hashes."""
        if self._hashes is None:
            self._hashes = hash_rows(self.stored)
        return self._hashes if self.rows is None else self._hashes[self.rows]

    @property
    def label_ids(self) -> NDArray[np.int64] | None:
        """(N,) the labels of this data set's own examples, in its order."""
        if self.labels is None or self.rows is None:
            return self.labels
        return self.labels[self.rows]

    @property
    def factor_values(self) -> NDArray[np.float32] | None:
        """(N, F) the known factors of this data set's own examples, in its order; None where none are known.

        DataError where they are known of a part only: what is measured against them would be of that part.
        """
        values = self.factors if self.factors is None or self.rows is None else self.factors[self.rows]
        if told := "" if values is None else partly_known(self.facts.factors, values, self.name_of):
            raise DataError(told, where=self.facts.source, remedy=ALL_OR_NONE)
        return values

    def name_of(self, index: int) -> str:
        """The file of an example, or its number where it has none."""
        row = index if self.rows is None else int(self.rows[index])
        return self.names[row] if self.names else f"#{row}"

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """The part of the data at these positions, in this order; sharing the stored values."""
        at = np.asarray(indices, dtype=np.int64)
        part = copy(self)
        part.rows = at if self.rows is None else self.rows[at]
        part.facts = replace(self.facts, count=len(at))
        return part

    def with_facts(self, **changes: Any) -> Dataset:
        """The same examples under changed facts, for instance another range, padding or class names."""
        same = copy(self)
        same.facts = replace(self.facts, **changes)
        return same

    def seen_as(self, facts: Facts) -> Dataset:
        """These examples as a model sees them that was trained on data with other facts.

        Range, padding and class numbers become those of `facts`; classes are matched by name. DataError if
        the shape or depth differ, or a class is unknown there.
        """
        mine = self.facts
        if (mine.channels, mine.size, mine.kind) != (facts.channels, facts.size, facts.kind):
            raise DataError(
                f"the run was trained on {facts.words} and these are {mine.words}",
                where=mine.source,
                remedy="Give images of the same size, channels and depth.",
            )
        same = self.with_facts(
            low=facts.low,
            high=facts.high,
            spacing=facts.spacing,
            space=facts.space,
            pad=facts.pad,
            classes=facts.classes if self.labels is not None else (),
        )
        if self.labels is None or not facts.classes:
            same.labels = None
            return same
        strange = sorted(set(mine.classes) - set(facts.classes))
        if strange:
            raise DataError(
                f"the class '{strange[0]}' is unknown to the run",
                where=mine.source,
                remedy=f"It knows {', '.join(facts.classes[:10])}; leave the others out.",
            )
        number = np.array([facts.classes.index(name) for name in mine.classes], dtype=np.int64)
        same.labels = number[self.labels]
        return same

    def split(self, held_out: float | int | None = None, seed: int = 0) -> Split:
        """A deterministic held-out part: a fraction (float), a count (int), or by default a tenth.

        The default is at least 64 examples (a quarter of tiny sets) and at most 10,000. An example's side
        follows from a hash of its content and the seed: copies of one picture stay on one side, and adding
        pictures later leaves the others where they are, apart from those near the threshold. The held-out
        part is `mixed`, the training part in the order of the files.
        """
        n = len(self)
        wanted = _held_out_count(n, held_out)
        mixed, order = self._mixed(seed)
        ranked = mixed[order]
        while 0 < wanted < n and ranked[wanted - 1] == ranked[wanted]:
            wanted -= 1  # never cut through a group of copies
        return Split(self.take(np.sort(order[wanted:])), self.take(order[:wanted]))

    def mixed(self, seed: int = 0) -> Dataset:
        """All examples in the order of a hash of their contents and the seed.

        Its first n are a fair choice of all, also where the files come class by class; so judging by some of
        the held-out images is judging by a sample of them.
        """
        return self.take(self._mixed(seed)[1])

    def _mixed(self, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hash of every example, and their order by it."""
        mixed = _mix(self.hashes ^ np.uint64(seed_of("split", seed)))
        return mixed, np.argsort(mixed, kind="stable")


def _labels(given: Sequence[Any] | NDArray[Any], source: str) -> NDArray[Any]:
    """One label for each example; DataError for rows of several, one-hot ones among them, and for NaN."""
    column = np.asarray(given)
    if column.size != len(column):
        raise DataError(
            f"labels of shape {column.shape}: each example has one label",
            where=source,
            remedy="Number the classes: of one-hot rows labels.argmax(axis=1), else one column alone.",
        )
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        raise DataError("the labels hold NaN or infinity", where=source, remedy="Leave those examples out.")
    return column


def _factors(
    given: NDArray[Any], names: Sequence[str], source: str
) -> tuple[NDArray[np.float32], Sequence[str]]:
    """Known factors as (N, F) finite numbers, and a name for each; DataError where they are none."""
    if given.dtype.kind not in "buif":
        raise DataError(
            f"factors are numbers, not {given.dtype}",
            where=source,
            remedy="Number their values, e.g. 0, 1, 2.",
        )
    if given.ndim > 2:
        raise DataError(
            f"factors of shape {given.shape}: each example has one row of numbers",
            where=source,
            remedy="Give (examples, factors), one column for each: factors.reshape(len(factors), -1).",
        )
    values = np.asarray(given, dtype=np.float32).reshape(len(given), -1)
    if not np.isfinite(values).all():
        raise DataError("the factors hold NaN or infinity", where=source, remedy="Leave those examples out.")
    if names and len(names) != values.shape[1]:
        raise DataError(
            f"{len(names)} names for {values.shape[1]} factors",
            where=source,
            remedy="Give each factor one name.",
        )
    return values, names or [f"factor {i}" for i in range(values.shape[1])]


def partly_known(names: Sequence[str], values: NDArray[np.float32], name_of: Callable[[int], str]) -> str:
    """Of how many pictures a table of factors (N, F) tells nothing, by name the first; "" where it tells all.

    name_of: the file of a row.
    """
    missing = np.flatnonzero(np.isnan(values).any(1))
    if not len(missing):
        return ""
    known = f"{len(values) - len(missing):,} of {len(values):,} pictures"
    more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    first = name_of(int(missing[0]))
    return f"the table gives {', '.join(names)} for {known} and has no line for {first}{more}"


def _held_out_count(n: int, held_out: float | int | None) -> int:
    if held_out is None:
        return min(HELD_OUT_MOST, max(round(0.1 * n), min(HELD_OUT_LEAST, n // 4)))
    count = round(held_out * n) if isinstance(held_out, float) else held_out
    if not 0 <= count < max(n, 1):
        raise DataError(f"cannot hold out {count} of {n} examples", remedy="Leave at least one to train on.")
    return count


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): a bijection that spreads every bit."""
    z = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
