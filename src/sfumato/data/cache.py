"""Decoded data kept on disk: written aside, synced, renamed, and verified before use.

    <cache>/data/<key>/   stored.bin  columns.json  names.json  MANIFEST.json
    key = hash of the format version, the options, and name, size and time of every source file

The manifest is written last and names size and SHA-256 of every file (of blocks of 16 MiB, hashed in
parallel). An entry that does not verify is thrown away and built again; it is never repaired.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import StorageError

VERSION = 1
MANIFEST = "MANIFEST.json"
_BLOCK = 16 << 20
_REMEDY = "Make room, or set SFUMATO_CACHE to a folder on another disk."


def cache_folder() -> Path:
    """$SFUMATO_CACHE, or the user's cache folder as the system has it."""
    if chosen := os.environ.get("SFUMATO_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "sfumato" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sfumato"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato"


def key_of(*parts: Any) -> str:
    """The name of an entry, from JSON values."""
    text = json.dumps([VERSION, *parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def entry(key: str) -> Path:
    """Where the entry of a key lives."""
    return cache_folder() / "data" / key


def valid(key: str) -> Path | None:
    """The folder of a whole and undamaged entry; None, after removing what is there, if it is not."""
    folder = entry(key)
    if not folder.exists():
        return None
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all(_describe(folder / name) == said for name, said in listed.items())
    except (OSError, ValueError, AttributeError):
        whole = False
    if whole:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    return None


@contextmanager
def building(key: str, expected_bytes: int) -> Iterator[Path]:
    """A folder to write into; on leaving without an error it becomes the entry, at once and durably."""
    final = entry(key)
    aside = final.with_name(f"{key}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        _sweep(final.parent)
        aside.mkdir(parents=True)
        free = shutil.disk_usage(aside).free
        if free < expected_bytes * 1.05 + (64 << 20):
            raise StorageError(
                f"the decoded data need {expected_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
                where=cache_folder(),
                remedy=_REMEDY,
            )
        yield aside
        _seal(aside)
        try:
            aside.replace(final)
        except OSError:  # another process built the same entry meanwhile
            if valid(key) is None:
                raise
        _sync(final.parent)
    except OSError as error:
        raise StorageError(
            f"cannot keep the decoded data: {error.strerror or error}", where=cache_folder(), remedy=_REMEDY
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _seal(folder: Path) -> None:
    listed = {p.name: _describe(p) for p in sorted(folder.iterdir())}
    for name in listed:
        _sync(folder / name)
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(listed, file)
        file.flush()
        os.fsync(file.fileno())
    _sync(folder)


def _sync(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # Windows has no handle on a folder to sync
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _describe(path: Path) -> dict[str, Any]:
    """Size and SHA-256 (over the SHA-256 of blocks) of a file."""
    size = path.stat().st_size

    def block(start: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(_BLOCK)).digest()

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        digests = threads.map(block, range(0, size, _BLOCK))
        return {"size": size, "sha256": hashlib.sha256(b"".join(digests)).hexdigest()}


def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left behind."""
    if not folder.exists():
        return
    for left in folder.glob("*.tmp"):
        pid = left.name.rsplit(".", 2)[-2].split("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # no harmless probe there; the entry stays until its owner or the user removes it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
