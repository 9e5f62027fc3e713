"""Data by the words of the command line, with progress said while they are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.dataset import Dataset
from ..data.ingest import Progress
from ..data.sources import open_data


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def open_source(data: str, options: Mapping[str, Any], progress: Progress | None = None) -> Dataset:
    """The data set behind a word and its options."""
    return open_data(data, progress=progress, **given_options(options))
