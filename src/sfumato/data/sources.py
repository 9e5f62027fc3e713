"""From what the user typed to a Dataset."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import DataError, did_you_mean
from .builtin import digits, swiss_roll
from .dataset import Dataset

BUILTIN: dict[str, Callable[[], Dataset]] = {"digits": digits, "swiss-roll": swiss_roll}


def open_data(data: str) -> Dataset:
    """The data set behind a name."""
    if data in BUILTIN:
        return BUILTIN[data]()
    raise DataError(f"no data called '{data}'", remedy=did_you_mean(data, BUILTIN))
