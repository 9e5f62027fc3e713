"""Files a verb leaves behind: images in the depth of the data, a grid, and JSON that tells how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..core.errors import StorageError
from ..data.facts import Facts
from ..data.listing import SHEET, SHEET_OF
from ..data.pixels import to_model
from ..data.write import write_image
from ..report import grid
from ..training.storage import Disk, to_json
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


def write_samples(
    run: Run, images: Images, out: Path | None, told: Mapping[str, Any], origin: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """One file an image, grid.png and samples.json (seeds, labels and plan); where they are."""
    chosen = re.sub(r"[^A-Za-z0-9+.]+", "-", " ".join(f"{v}" for v in told.values() if v is not None))
    folder = prepared(out or run.path / SAMPLES / f"n{len(images)}-seed{chosen}")
    digits = max(4, len(str(len(images))))
    x = as_model(images, run.facts)
    files = [write_image(one, folder / f"{i:0{digits}}", run.facts).name for i, one in enumerate(images)]
    sheet = folder / SHEET
    shown = grid.grid(x[:256], run.facts)
    DISK.replace(sheet, grid.png(shown))
    DISK.replace(
        folder / SHEET_OF,
        to_json({"run": str(run.path), "count": len(images), **told, **origin, "files": files}),
    )
    return {"folder": str(folder), "grid": str(sheet), "count": len(images), **told}


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
