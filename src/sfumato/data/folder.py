"""A folder of pictures: flat, nested, with classes as sub-folders, or with a table of labels."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .ingest import Source
from .listing import (
    Rows,
    classes_from_folders,
    in_runs,
    natural,
    nothing_found,
    outside_runs,
    pictures,
    rows_from_table,
    tables,
    undecided,
    unread,
)
from .pool import Item

LARGEST_TABLE = 256 << 20
_OTHER_DATA = (".npy", ".npz", ".zip", ".parquet")


class Labelled(Source):
    """Pictures with names, and what folders or a table say about them.

    Pictures without a label are left out where others have one. Known factors that the table gives for others
    only are NaN: no number could stand in for them (dataset.py refuses to give out such a table).
    """

    def __init__(
        self, name: str, names: list[str], rows: Rows, table: str | None, notes: Iterable[str] = ()
    ) -> None:
        left_out = []
        if rows.labels:
            left_out = [n for n in names if n not in rows.labels]
            names = [n for n in names if n in rows.labels]
        self.name, self.names, self.rows, self._table = name, names, rows, table
        self.classes, self.factor_names = rows.classes, rows.factor_names if rows.factors else ()
        self.notes = (*rows.notes, *_left_out_note(left_out), *notes)

    def __len__(self) -> int:
        return len(self.names)

    def item(self, name: str, **where: Any) -> Item:
        """The item of one picture, given where its bytes are."""
        rows = self.rows
        factors = rows.factors.get(name, (math.nan,) * len(self.factor_names)) if self.factor_names else ()
        return Item(
            name, label=rows.labels.get(name), caption=rows.captions.get(name, ""), factors=factors, **where
        )

    def table_key(self) -> list[Any]:
        """The part of the key that labels come from, and whether factors are known of a part only."""
        partly = bool(self.factor_names) and not self.rows.factors.keys() >= set(self.names)
        return [self._table, *(["factors of a part"] if partly else [])]


def _left_out_note(left_out: list[str]) -> tuple[str, ...]:
    if not left_out:
        return ()
    return (f"{len(left_out):,} pictures have no label and were left out, e.g. {left_out[0]}",)


class Folder(Labelled):
    """The pictures below a folder, in natural order of their paths."""

    def __init__(self, root: Path, labels: str | None = None, only: str | None = None) -> None:
        self.root = root
        if only is not None:
            super().__init__(str(root / only), [only], Rows(), None)
            return
        walked = list(_walk(root))
        files = sorted(outside_runs(walked), key=natural)
        names = pictures(files)
        if not names:
            raise nothing_found(str(root), files, _hint(root, files))
        found = [f for f in tables(files) if "/" not in f] if labels is None else []
        table = _table(root, found, labels)
        rows = rows_from_table(table[1], names, table[0]) if table else classes_from_folders(names, str(root))
        known = {*found, _below(root, table[0])} if table else set(found)
        notes = [*undecided(found), *unread(files, known), *in_runs(walked, files)]
        super().__init__(str(root), names, rows, table and table[1], notes)

    def items(self) -> Iterator[Item]:
        for name in self.names:
            yield self.item(name, path=str(self.root / name))

    def key(self) -> list[Any]:
        files = [[name, *_state(self.root / name)] for name in self.names]
        return ["folder", str(self.root.resolve()), files, *self.table_key()]


def _state(path: Path) -> tuple[int, int]:
    """Size and time of a file; (-1, -1) where it cannot be looked at, which the decoder then says of it."""
    try:
        found = path.stat()
    except OSError:  # a link that leads nowhere, or in a circle
        return -1, -1
    return found.st_size, found.st_mtime_ns


def files_below(root: Path) -> list[str]:
    """The files of a folder and its sub-folders, but for hidden ones and those of run folders."""
    return outside_runs(_walk(root))


def _walk(root: Path) -> Iterator[str]:
    """Every file below a folder, with forward slashes; links to folders are followed, once each."""
    seen = set()
    for here, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        relative = Path(here).relative_to(root)
        for file in files:
            if not file.startswith("."):
                yield (relative / file).as_posix()


def _below(root: Path, path: str) -> str:
    """The name of a file as the folder lists it; its whole path where it lies elsewhere."""
    whole, top = Path(path).resolve(), root.resolve()
    return whole.relative_to(top).as_posix() if whole.is_relative_to(top) else str(whole)


def _table(root: Path, found: list[str], chosen: str | None) -> tuple[str, str] | None:
    """(place, text) of the table of labels: the one chosen, or the only one found at the top."""
    if chosen is not None:
        path = Path(chosen) if Path(chosen).exists() else root / chosen
    else:
        if len(found) != 1:
            return None
        path = root / found[0]
    return str(path), read_table(path)


def read_table(path: Path) -> str:
    """The text of a CSV file; DataError if it is missing, huge or no text."""
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise DataError(
                "the table of labels is larger than 256 MiB",
                where=path,
                remedy="Keep the columns file, label and caption only, or name another table with --labels.",
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            "the table of labels is not UTF-8 text",
            where=path,
            remedy="Save it anew as CSV in UTF-8, or name another table with --labels.",
        ) from None
    except OSError as error:
        raise DataError(
            f"the table of labels cannot be read: {error.strerror}",
            where=path,
            remedy="Give --labels a file that may be read, by its path or its name in the folder.",
        ) from None


def _hint(root: Path, files: list[str]) -> str:
    other = [f for f in files if f.lower().endswith(_OTHER_DATA)]
    if other:
        return f"Did you mean the file {root / other[0]}?"
    parent = pictures([f.name for f in root.parent.iterdir() if f.is_file()])
    if parent and not files:
        return f"One level up: {root.parent} has {len(parent):,} images. Did you mean that?"
    return ""
