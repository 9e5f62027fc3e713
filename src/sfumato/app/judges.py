"""Who judges: the features to compare by, and where their values on real images are kept."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import final

import numpy as np
import torch

from ..core.errors import DataError, RefusedError, SfumatoError, StorageError, UsageError
from ..data.dataset import Dataset
from ..evaluation.features import ClassifierFeatures, Features, Standardised
from ..evaluation.inception import InceptionFeatures, find_weights
from ..evaluation.statistics import ImageStatistics
from ..evaluation.store import Shelf
from ..models.classifier import Classifier, NoisyClassifier
from ..training.storage import Disk
from .console import Console
from .run import Run, batches, open_run


@final
class FolderShelf(Shelf):
    """Features of real images in a folder, one file each; a file that does not read is computed again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.disk = folder, Disk()

    def read(self, name: str) -> bytes | None:
        """The bytes, if they are there."""
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, data: bytes) -> None:
        """Keep the bytes, whole or not at all."""
        self.disk.make(self.folder)
        self.disk.replace(self.folder / name, data)


def find_judge(run: Run, path: Path | None, held_out: Dataset, console: Console) -> Run | None:
    """The classifier run asked for, else one beside this run that was trained on the same data.

    A judge must not have been trained on a held-out image: it would find it easier than samples of the
    same quality, and its floor would be too low. One asked for is refused (UsageError), others passed over.
    """
    if path is not None:
        judge = open_run(path, device=str(run.device))
        if isinstance(judge.model, NoisyClassifier):
            raise UsageError(
                f"{path} was trained on noisy images, to guide sampling and not to judge it",
                remedy=f"Train a judge: sfumato train classifier {run.about['data']}",
            )
        if not isinstance(judge.model, Classifier):
            raise UsageError(
                f"{path} is no classifier", remedy=f"Train one: sfumato train classifier {run.about['data']}"
            )
        if judge.facts.shape != run.facts.shape:
            raise UsageError(
                f"the judge sees {judge.facts.words}, the run makes {run.facts.words}",
                where=path,
                remedy=f"Train one on the run's own data: sfumato train classifier {run.about['data']}",
            )
        if seen := overlap(judge, held_out):
            raise UsageError(
                f"the judge was trained on {seen:,} of the {len(held_out):,} held-out images",
                where=path,
                remedy="Train one that holds out the same images as the run: the same data, the same --test.",
            )
        return judge
    for folder in sorted(path.parent for path in run.path.resolve().parent.glob("*/run.json")):
        try:  # nobody asked for this one
            if not _candidate(run, folder):
                continue
            judge = open_run(folder, device=str(run.device))
            if not (seen := overlap(judge, held_out)):
                return judge
            why = f"it was trained on {seen:,} of the held-out images"
        except (DataError, RefusedError, StorageError, OSError) as error:
            why = error.what if isinstance(error, SfumatoError) else str(error)
        console.say(f"{folder} cannot judge: {why}.")
    console.say(
        "No classifier run on these data was found beside this run: judging without one.",
        f"  For sharper numbers: sfumato train classifier {run.about['data']}"
        if run.facts.classes
        else "  These data have no classes that one could learn.",
    )
    return None


def _candidate(run: Run, folder: Path) -> bool:
    """Whether a folder holds a finished classifier of a run's data; RefusedError if its words do not read."""
    about = run.folder.__class__(folder).read("run.json")
    if not isinstance(about, dict) or not isinstance(about.get("settings", {}), dict):
        raise RefusedError("its run.json is none of ours", where=folder, remedy="Restore it from a copy.")
    same = about.get("fingerprint") == run.about["fingerprint"]
    guides = about.get("settings", {}).get("noisy")
    return about.get("recipe") == "classifier" and same and bool(about.get("stages_done")) and not guides


def overlap(judge: Run, held_out: Dataset) -> int:
    """How many of the held-out images are among those a judge was trained on."""
    return len(np.intersect1d(judge.training.hashes, held_out.hashes))


def judges(run: Run, judge: Run | None, train: Dataset) -> tuple[list[Features], list[str]]:
    """The features to compare by, most telling first, and why Inception's are missing if weights are here."""
    found: list[Features] = []
    notes: list[str] = []
    if judge is not None:
        probe = train.batch([0], run.device).x
        found.append(ClassifierFeatures(judge.model, probe))
    if len(run.facts.space) == 2 and run.facts.channels in (1, 3) and find_weights() is not None:
        try:
            found.append(InceptionFeatures())
        except SfumatoError as error:  # nobody asked for them: what else there is must not be lost
            notes.append(f"Inception features are left out: {error.what}. {error.remedy}".strip())
    statistics = ImageStatistics(run.facts.channels, run.facts.space)
    count = min(len(train), 2048)
    found.append(Standardised.on(statistics, (b.x for b in batches(train, count, torch.device("cpu")))))
    return found, notes


def hardware(device: torch.device) -> str:
    """The machine in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    )


def commit() -> str:
    """The commit of Sfumato's own source tree, or "" outside it (installed below another repository)."""
    here = Path(__file__).resolve()
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "--short=12", "HEAD"],
            cwd=here.parent,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    top, _, name = done.stdout.strip().rpartition("\n")
    own = done.returncode == 0 and Path(top) / "src" / "sfumato" / "app" / here.name == here
    return name if own else ""
