"""Pictures a verb leaves behind: rows of images in the depth of the data, under their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..core.errors import StorageError
from ..data.facts import Facts
from ..data.pixels import to_model
from ..report import grid
from ..training.storage import Disk
from .rows import Images
from .run import Run

DISK = Disk()
SAMPLES = "samples"  # of a run folder: where verbs leave pictures unless told otherwise


def as_stored(images: Images, facts: Facts) -> Images:
    """Images (channels last, or none) as stored values (n, C, *size)."""
    bare = facts.size and images.ndim == len(facts.size) + 1
    return np.ascontiguousarray(images[:, None] if bare else np.moveaxis(images, -1, 1))


def as_model(images: Images, facts: Facts) -> Tensor:
    """Images (channels last, or none) back as model values (n, C, *space)."""
    return to_model(as_stored(images, facts), facts)


def prepared(folder: Path) -> Path:
    """A folder that exists, or StorageError."""
    DISK.make(folder)
    return folder


def ready(run: Run, out: Path | None) -> None:
    """The place of what will be drawn, tried before the work begins: StorageError now and not after it."""
    try:
        DISK.probe(out or run.path / SAMPLES)
    except StorageError as error:
        remedy = error.remedy if out else "Give a folder that can be written to: --out FOLDER"
        raise StorageError(error.what, where=error.where, remedy=remedy) from None


def rows_picture(rows: Mapping[str, Images], facts: Facts) -> Any:
    """A row of images for each name, under its name."""
    sheets = [
        grid.side_by_side([grid.grid(as_model(images, facts), facts, columns=len(images))], [name])
        for name, images in rows.items()
    ]
    return grid.stack(sheets, gaps=[10] * len(sheets))


def write_rows(run: Run, rows: Mapping[str, Images], out: Path | None, name: str) -> Path:
    """A picture of named rows; its path."""
    folder = prepared(out or run.path / SAMPLES)
    path = folder / f"{name}.png"
    DISK.replace(path, grid.png(rows_picture(rows, run.facts)))
    return path
