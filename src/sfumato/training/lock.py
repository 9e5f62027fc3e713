"""One process at a time in a run folder.

The lock is the operating system's (fcntl on POSIX, msvcrt on Windows) and dies with its process,
so a killed run never leaves a stale lock behind; the process id written into the file only serves
the message to whoever comes second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.errors import BusyError, StorageError

LOCK = ".lock"

if sys.platform == "win32":
    import msvcrt

    def _acquire(descriptor: int) -> None:
        # the locked byte lies beyond the text, so that the second process can read who holds it
        os.lseek(descriptor, 1024, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run folder; BusyError at once if another process does."""
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(
            f"the run folder cannot be written to: {error.strerror or error}",
            where=folder,
            remedy="Check that the folder exists and can be written to, or choose another with --out.",
        ) from None
    try:
        try:
            _acquire(descriptor)
        except OSError:
            os.lseek(descriptor, 0, os.SEEK_SET)
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "another process"
            raise BusyError(
                f"{folder.name} is in use by process {owner}",
                where=folder,
                remedy="Wait for it or stop it, or choose another folder with --out.",
            ) from None
        with suppress(OSError):  # a full disk: the lock holds without its owner's number
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)  # releases the lock
