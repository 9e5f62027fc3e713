"""Errors a user can act on: what happened, where, and the command or change that mends it.

Each class owns one exit code of the command line, so a script can tell the causes apart:

    0 ok   1 a bug of ours   2 usage   3 data   4 file refused   5 storage   6 diverged
    7 worker or rank   8 busy   9 memory   130 interrupted (SIGINT)   143 terminated (SIGTERM)

Any other exception that reaches the command line is a bug and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SfumatoError(Exception):
    """What went wrong, where it was seen, and the remedy; the exit code belongs to the class."""

    code = 1

    def __init__(self, what: str, *, where: object = None, remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        place = f" ({where})" if where is not None else ""
        super().__init__(f"{what}{place}" + (f"\n  {remedy}" if remedy else ""))


class UsageError(SfumatoError):
    """A wrong option, key or combination of them."""

    code = 2


class DataError(SfumatoError):
    """Images that cannot be read, or that do not fit the run."""

    code = 3


class RefusedError(SfumatoError):
    """A file of ours that is damaged, incomplete, hostile, or of another kind."""

    code = 4


class StorageError(SfumatoError):
    """The disk is full, read-only or gone."""

    code = 5


class DivergedError(SfumatoError):
    """The loss stayed non-finite after every remedy the trainer knows."""

    code = 6


class WorkerError(SfumatoError):
    """A loader worker or a rank died or hung."""

    code = 7


class BusyError(SfumatoError):
    """Another process holds the run."""

    code = 8


class OutOfMemoryError(SfumatoError):
    """The smallest possible step does not fit into memory."""

    code = 9


class Interrupted(SfumatoError):
    """SIGINT or SIGTERM arrived; the state was saved before leaving."""

    def __init__(self, what: str, *, signal: int, where: object = None, remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.code = 128 + signal


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known word, or lists all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else "Known: " + ", ".join(known) + "."
