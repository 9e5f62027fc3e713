"""The one place that writes what must not be lost, and the one that believes what it reads.

A file system promises little: a write may stop half-way, the disk may be full, and after a power
cut a renamed file may be empty if its bytes were not forced out first. Hence one order, always:

    write aside -> fsync file -> (all files of a folder, MANIFEST.json last) -> fsync folder
    -> rename to the final name -> fsync the parent

A rename within a folder is atomic, so under its final name a thing exists whole or not at all.
`MANIFEST.json` gives size and SHA-256 of every file beside it. A sealed folder is valid when that
list verifies now, never because somebody remembers having written it; bytes are parsed only after
they verified. Names that begin with "." are unfinished work; the next start removes them.

Every call that changes the disk goes through `Disk.call`, so tests can die or fail at each one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import RefusedError, StorageError

T = TypeVar("T")

MANIFEST = "MANIFEST.json"
FORMAT = 1
JSON_LIMIT = 64 * 2**20
CHUNK = 2**20
DAMAGED = "It was changed or damaged: restore it from a copy, or train anew."
PLAIN = "Put a plain file there that you may read, no link and no device."

# a full or failing disk may recover until the next save; anything else will not
PASSING = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG})


class Full(StorageError):
    """The disk is full or had an error: the partial file is gone, and a later attempt may work."""


class Disk:
    """The calls that change a file system, each through one door; errors become StorageError."""

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run one system call (tests replace this method to kill or fail at the k-th call)."""
        return function(*arguments)

    def guard(self, action: Callable[[], T], path: Path, doing: str) -> T:
        """Run an action on a path; an OSError becomes Full or StorageError."""
        try:
            return action()
        except OSError as error:
            kind = Full if error.errno in PASSING else StorageError
            remedy = (
                "Free some space, or choose another folder with --out."
                if kind is Full
                else ("Check that the folder exists and can be written to.")
            )
            raise kind(f"{doing} failed: {error.strerror or error}", where=path, remedy=remedy) from None

    def make(self, path: Path) -> None:
        """Create a folder and its parents; a folder that is there already is fine."""
        if path.exists() and not path.is_dir():
            raise StorageError(
                "a file is where a folder should be", where=path, remedy="Move it, or give another place."
            )
        if not path.is_dir():
            self.make(path.parent)
            self.guard(lambda: self.call(os.mkdir, path), path, "creating a folder")

    def probe(self, folder: Path) -> None:
        """A folder that exists and takes files, or StorageError: asked before the work that fills it."""
        self.make(folder)
        aside = folder / f".probe-{os.getpid()}.partial"
        try:
            self.write(aside, b"")
        finally:
            self.drop(aside)

    def write(self, path: Path, data: bytes) -> None:
        """Create a new file with these bytes, forced to the disk; on failure the file is removed."""

        def action() -> None:
            descriptor = self.call(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                self.put(descriptor, data)
                self.call(os.fsync, descriptor)
            finally:
                os.close(descriptor)

        self.guard(action, path, f"writing {path.name}")

    def put(self, descriptor: int, data: bytes) -> None:
        """Write all the bytes (a nearly full disk takes some of them and then fails)."""
        view = memoryview(data)
        while view:
            view = view[self.call(os.write, descriptor, view[:CHUNK]) :]

    def rename(self, old: Path, new: Path) -> None:
        """Rename atomically and force both names out."""

        def action() -> None:
            self.call(os.replace, old, new)
            self.sync(new.parent)

        self.guard(action, new, "renaming")

    def sync(self, folder: Path) -> None:
        """Force a folder's list of names to the disk (Windows cannot, and need not)."""
        if os.name == "nt":
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            self.call(os.fsync, descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Put these bytes under a name, whole or not at all."""
        aside = path.with_name(f".{path.name}.partial")
        try:
            self.write(aside, data)
            self.rename(aside, path)
        except StorageError:
            self.drop(aside)
            raise

    def remove(self, path: Path) -> None:
        """Delete a file or a folder; a folder first becomes unfinished work, so no half of it counts."""
        if not path.name.startswith("."):
            hidden = path.with_name(f".{path.name}.removed")
            self.drop(hidden)
            self.rename(path, hidden)
            path = hidden

        self.guard(lambda: self.remove_hidden(path), path, "removing")

    def remove_hidden(self, path: Path) -> None:
        """Delete unfinished work: a file or folder that no longer counts."""
        if path.is_dir() and not path.is_symlink():
            for child in sorted(path.iterdir()):
                self.remove_hidden(child)
            self.call(os.rmdir, path)
        else:
            self.call(os.unlink, path)

    def drop(self, path: Path) -> None:
        """Remove unfinished work if it is there; failing to is no error (the next start tries again)."""
        try:
            if path.is_symlink() or path.exists():
                self.remove_hidden(path)
        except OSError:
            pass

    def require(self, folder: Path, size: int) -> None:
        """Full unless the disk has `size` bytes free."""
        free = self.guard(lambda: self.call(shutil.disk_usage, folder), folder, "asking for space").free
        if free < size:
            raise Full(
                f"a checkpoint needs {size / 1e6:,.0f} MB free, there are {free / 1e6:,.0f} MB",
                where=folder,
                remedy="Free some space, or choose another folder with --out.",
            )


# -------------------------------------------------------------------------------- sealed folders


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def seal(disk: Disk, folder: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Write a folder whole or not at all, with its manifest; `about` is kept in the manifest."""
    aside = folder.with_name(f".{folder.name}.partial")
    listing = {name: {"size": len(data), "sha256": sha256(data)} for name, data in files.items()}
    try:
        disk.drop(aside)
        disk.make(aside)
        for name, data in files.items():
            disk.write(aside / name, data)
        disk.write(aside / MANIFEST, to_json({"format": FORMAT, "about": dict(about), "files": listing}))
        disk.guard(lambda: disk.sync(aside), aside, "writing a folder")
        disk.rename(aside, folder)
    except StorageError:
        disk.drop(aside)
        raise


def unseal(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(about, files) of a sealed folder after every size and SHA-256 verified, else RefusedError."""
    manifest = _manifest(folder)
    listing = manifest["files"]
    present = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    for name in sorted(present ^ set(listing)):
        fault = "is not in its manifest" if name in present else "is missing"
        raise RefusedError(f"{name} {fault}", where=folder, remedy=DAMAGED)
    files = {}
    for name, entry in listing.items():
        data = read_regular(folder / name, limit=entry["size"])
        if len(data) != entry["size"]:
            raise RefusedError(
                f"{name} has {len(data)} bytes, not {entry['size']}", where=folder, remedy=DAMAGED
            )
        if sha256(data) != entry["sha256"]:
            raise RefusedError(f"{name} failed its checksum", where=folder, remedy=DAMAGED)
        files[name] = data
    return manifest["about"], files


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = from_json(read_regular(folder / MANIFEST, limit=JSON_LIMIT), folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RefusedError(f"{MANIFEST} is of another version", where=folder, remedy=DAMAGED)
    listing = manifest.get("files")
    if not isinstance(listing, dict) or not all(map(_is_entry, listing.items())):
        raise RefusedError(f"{MANIFEST} is not a list of files", where=folder, remedy=DAMAGED)
    if not isinstance(manifest.get("about"), dict):
        raise RefusedError(f"{MANIFEST} says nothing about its folder", where=folder, remedy=DAMAGED)
    return manifest


def _is_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    return (
        Path(name).name == name
        and isinstance(entry, dict)
        and set(entry) == {"size", "sha256"}
        and type(entry["size"]) is int
        and entry["size"] >= 0
    )


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file (no link, no device), at most one more than `limit` of them."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise RefusedError(f"{path.name} is not a regular file", where=path, remedy=PLAIN)
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise RefusedError(
            f"{path.name} cannot be read: {error.strerror or error}", where=path, remedy=PLAIN
        ) from None


# ---------------------------------------------------------------------------------------- JSON


def to_json(value: Any) -> bytes:
    """JSON with sorted keys and without NaN: the same value is the same bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def from_json(data: bytes, where: object) -> Any:
    """The value of JSON bytes; NaN, duplicate keys and whatever is no JSON are refused."""

    def constant(word: str) -> Any:
        raise ValueError(f"holds {word}")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            raise ValueError("holds a key twice")
        return value

    if len(data) > JSON_LIMIT:
        raise RefusedError("the file is too large", where=where, remedy=DAMAGED)
    try:
        return json.loads(data, parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"not a JSON file of ours: {error}", where=where, remedy=DAMAGED) from None
