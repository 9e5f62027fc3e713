"""Numbers of an evaluation that its samples do not enter, kept in the run folder from one to the next.

    of the model and unseen images    bounds and their terms, latents, codes        kept here, whole
    of real images alone              features, neighbours of held-out images       kept as rows (store.py)
    of the samples                    distances, coverage, copies                   measured each time

Who evaluates a run at several numbers of steps, solvers or guidances pays for the first two once. The key
holds all that they follow from: weights, recipe, the unseen images in their order with labels, factors, what
was asked, the machine, whether LPIPS is at hand, the source of this package and the versions of those that
compute.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..core.errors import RefusedError
from ..data.dataset import Dataset
from ..evaluation import lpips
from ..evaluation.features import fingerprint_of, fingerprint_of_module
from ..evaluation.protocol import Metric
from ..evaluation.scene import About
from ..evaluation.store import Shelf
from .run import Run

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")
Told: TypeAlias = tuple[list[Metric], list[str]]  # metrics and findings in words


class Kept:
    """The numbers of one model and unseen images under one set of conditions: `about` without the plan."""

    def __init__(self, run: Run, unseen: Dataset, about: About, shelf: Shelf) -> None:
        self.shelf = shelf
        recipe = json.dumps(run.folder.read("recipe.json"), sort_keys=True)
        conditions = (about.data, about.seed, about.precision, about.hardware, about.resize, str(run.device))
        weights = fingerprint_of_module(run.model)
        libraries = (*map(version, LIBRARIES), str(lpips.at_hand()))
        own = (source(), weights, recipe, about.commit, *conditions)
        self.key: tuple[str | bytes, ...] = (*own, *libraries, *_content(run, unseen))

    def told(self, word: str, make: Callable[[], Told]) -> Told:
        """What is kept under a word, which holds all that was asked for, or is made now and kept."""
        name = f"{fingerprint_of(*self.key, word)}.json"
        raw = self.shelf.read(name)
        found = None if raw is None else _decoded(raw)
        if found is None:
            found = make()
            metrics, notes = found
            self.shelf.write(name, json.dumps([[m.to_json() for m in metrics], notes]).encode())
        return found


def _content(run: Run, unseen: Dataset) -> tuple[bytes, ...]:
    """Hashes of the unseen images in their order, their labels, and the factors of all data as they are."""
    parts = (unseen.hashes, unseen.label_ids, run.whole.factors)
    return tuple(b"" if part is None else np.ascontiguousarray(part).tobytes() for part in parts)


def _decoded(raw: bytes) -> Told | None:
    """The metrics and notes; None where the file holds none, so that they are made again."""
    try:
        metrics, notes = json.loads(raw)
        return [Metric.from_json(value) for value in metrics], [str(note) for note in notes]
    except (ValueError, TypeError, RefusedError):
        return None


@cache
def source() -> str:
    """The fingerprint of this package's source files."""
    root = Path(__file__).resolve().parents[1]
    return fingerprint_of(*(path.read_bytes() for path in sorted(root.rglob("*.py"))))
