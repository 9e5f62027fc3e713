"""Features of real images, computed once for each pair of data and features.

The key is the fingerprint of the data, the part of it, the count and the fingerprint of the features;
any change of these is another key, so nothing here can be stale. Where the bytes are kept is the business
of whoever owns files: a Shelf. They are safetensors, which hold numbers and nothing that runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .features import fingerprint_of
from .spread import Rows


class Shelf(ABC):
    """A place for named bytes; it may forget anything at any time, and read what was written otherwise."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The bytes of a name, or None."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Keep bytes under a name."""


@final
class Memory(Shelf):
    """A shelf that lasts as long as the process."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def write(self, name: str, data: bytes) -> None:
        self.kept[name] = data


def remembered(shelf: Shelf, key: tuple[str, ...], make: Callable[[], Rows]) -> Rows:
    """The rows kept under a key, or made now and kept; what does not read back as finite rows is remade."""
    name = f"{fingerprint_of(*key)}.safetensors"
    raw = shelf.read(name)
    if raw is not None:
        rows = _decoded(raw)
        if rows is not None:
            return rows
    rows = make()
    shelf.write(name, save({"features": np.ascontiguousarray(rows)}))
    return rows


def _decoded(raw: bytes) -> Rows | None:
    try:
        rows = load(raw)["features"]
    except (SafetensorError, KeyError, ValueError):
        return None
    return rows if rows.ndim == 2 and rows.dtype == np.float64 and np.isfinite(rows).all() else None
