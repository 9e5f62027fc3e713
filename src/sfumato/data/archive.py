"""A zip of pictures, read member by member in memory: nothing is ever extracted to disk.

Refused as a whole before any member is read: names that leave the archive (.. or absolute, drive letters,
NUL, backslashes that climb), links, encrypted members, more than a million entries, members that grow more
than 200-fold, members that overlap.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import DataError, RefusedError, did_you_mean
from . import listing
from .folder import Labelled
from .pool import Item
from .worker import MOST_BYTES

MOST_ENTRIES = 1_000_000
MOST_GROWTH = 200
SMALL = 1 << 20  # growth of tiny members (plain BMPs) is harmless


class Archive(Labelled):
    """The pictures in a zip file."""

    def __init__(self, path: Path, labels: str | None = None) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                _check(entries, path)
                members = {e.filename for e in entries if not e.is_dir()}
                files = sorted(listing.outside_runs(members), key=listing.natural)
                names = listing.pictures(files)
                if not names:
                    raise listing.nothing_found(str(path), files)
                found = listing.tables(files) if labels is None else []
                text = _table(archive, files, found, labels)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
            raise RefusedError(
                f"a damaged zip file: {error}", where=path, remedy="Fetch or make the archive anew."
            ) from None
        place = f"{path}:{labels or 'labels'}"
        rows = (
            listing.rows_from_table(text, names, place)
            if text
            else listing.classes_from_folders(names, str(path))
        )
        known = found if labels is None else [labels]
        notes = [*listing.undecided(found), *listing.unread(files, known), *listing.in_runs(members, files)]
        super().__init__(str(path), names, rows, text, notes)

    def items(self) -> Iterator[Item]:
        with zipfile.ZipFile(self.path) as archive:
            for name in self.names:
                try:
                    yield self.item(name, data=_read(archive, name))
                except ValueError as error:
                    yield self.item(name, fault=str(error))

    def key(self) -> list[Any]:
        status = self.path.stat()
        place = str(self.path.resolve())
        return ["zip", place, status.st_size, status.st_mtime_ns, *self.table_key()]


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member; ValueError says why there are none."""
    try:
        with archive.open(name) as member:
            data = member.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"damaged in the zip: {error}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    return data


def _table(archive: zipfile.ZipFile, files: list[str], found: list[str], chosen: str | None) -> str | None:
    if chosen is not None and Path(chosen).exists():
        from .folder import read_table

        return read_table(Path(chosen))
    name = chosen if chosen is not None else (found[0] if len(found) == 1 else None)
    if name is None:
        return None
    if name not in files:
        raise DataError(
            f"the zip holds no table '{name}'",
            where=archive.filename,
            remedy=did_you_mean(name, listing.tables(files))
            if listing.tables(files)
            else "Give --labels a file outside of it.",
        )
    return _read(archive, name).decode("utf-8-sig", errors="replace")


def _check(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """RefusedError for an archive that was made to harm."""
    if len(entries) > MOST_ENTRIES:
        raise RefusedError(
            f"a zip with {len(entries):,} entries", where=path, remedy="Split it, or unpack it to a folder."
        )
    for entry in entries:
        why = _harm(entry)
        if why:
            raise RefusedError(
                f"the zip member {entry.filename[:80]!r} {why}", where=path, remedy="Make the archive anew."
            )
    spans = sorted((e.header_offset, e.header_offset + e.compress_size) for e in entries)
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise RefusedError("members of the zip overlap", where=path, remedy="Make the archive anew.")


def _harm(entry: zipfile.ZipInfo) -> str:
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if (
        ".." in parts
        or name.startswith("/")
        or (len(name) > 1 and name[1] == ":")
        or "\0" in entry.orig_filename
    ):
        return "points outside of the archive"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.file_size > max(SMALL, MOST_GROWTH * entry.compress_size):
        return f"grows from {entry.compress_size:,} to {entry.file_size:,} bytes"
    return ""
