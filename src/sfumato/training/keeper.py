"""Saving and finding the state of a training: what goes into a checkpoint, and what if that fails.

A checkpoint is written only if every number in it is finite, so there is always a good one to go
back to. A full disk is no reason to lose a training: the partial save is dropped, the old ones stay,
training goes on and the next save tries again; only the first and the last save must succeed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor

from .events import Note, Reporter, Saved
from .rundir import Checkpoint, RunDir
from .state import DONE, Progress, finite, pack
from .storage import Full

STATE = "state.json"
MODEL = "model.safetensors"


class NotFinite(Exception):
    """A tensor of the state holds a NaN or an infinity; nothing was written."""


class Keeper:
    """Writes checkpoints of a run and finds the newest one."""

    def __init__(self, run: RunDir, reporter: Reporter) -> None:
        self.run, self.reporter = run, reporter
        self.last = ""

    def save(
        self, progress: Progress, files: Mapping[str, Mapping[str, Tensor]], *, must: bool, best: bool = False
    ) -> bool:
        """Write a checkpoint; False if the disk is full (StorageError if it `must` succeed).

        best: it has the least held-out loss so far and is kept until a better one comes.
        """
        start = time.monotonic()
        for file, tensors in files.items():
            if name := finite(tensors):
                raise NotFinite(f"{name} in {file}")
        place = progress.total if progress.stage_name == DONE else progress.seen
        name, former = self.run.next_name(progress.stage_name, place), progress.best
        try:
            progress.metrics = self.run.logged()
            progress.best = name if best else former
            data = {file: pack(tensors) for file, tensors in files.items()}
            self.run.save(name, data | {STATE: progress.to_bytes()})
            self.run.prune([progress.best])
        except Full as error:
            progress.best = former
            if must:
                raise
            kept = f"; {self.last} is kept" if self.last else ""
            text = f"The save at {progress.seen:,} examples failed: {error.what}{kept}. Training goes on."
            self.reporter.report(Note(text, warning=True))
            return False
        self.last = name
        size, seconds = sum(map(len, data.values())), time.monotonic() - start
        self.reporter.report(Saved(name, progress.stage_name, progress.seen, size, seconds))
        return True

    def newest(self, *, tidy: bool) -> tuple[Progress, Checkpoint] | None:
        """The newest valid state, told what was passed over; tidy: this process may clean the folder up."""
        if tidy and (removed := self.run.clean()):
            self.reporter.report(Note(f"Removed {removed} unfinished save{'s' if removed > 1 else ''}."))
        found = self.run.newest()
        if found is None:
            return None
        for name, why in found.passed_over.items():
            text = f"Checkpoint {name} is damaged ({why}); using {found.name}."
            self.reporter.report(Note(text, warning=True))
            if tidy and not name.startswith("damaged-"):
                self.run.set_aside(name)
        self.last = found.name
        return Progress.from_bytes(found.file(STATE), found.name), found
