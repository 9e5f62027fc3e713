"""A run for whoever does not train: its description, and the weights of the newest valid checkpoint, averaged
where they can be.

A finished stage's weights *are* the chosen average. A stage that is still under way has raw weights and
averages side by side; to look at it, the average it shows (the first length) is put in place. What a stage
ended with, on which the next one built, is filled in again from what its end kept (training/choice.py).

A run made by an earlier form of the code may hold a recipe, or weights, that fit nothing which is built
today: it is refused with what differs first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import nn

from ..core.errors import RefusedError
from ..core.lazy import build, load
from ..training.choice import CHOSEN, RAW
from ..training.keeper import MODEL, STATE
from ..training.rundir import RunDir
from ..training.stage import Recipe, Stage
from ..training.state import EARLIER, Progress, unpack
from .catalog import CATALOG

AVERAGES = "averages.safetensors"
COPY = "The file was changed or damaged: put back the one that `sfumato train` wrote."
WORDS = ("recipe", "data", "fingerprint")  # the entries of run.json without which no run can be used


@dataclass(frozen=True)
class Weights:
    """Where the weights come from: stages that are done, the one under way, examples seen in all."""

    stages: tuple[str, ...]
    under_way: str
    seen: int
    hours: float
    passed_over: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether every stage is done."""
        return not self.under_way


def described(folder: RunDir) -> dict[str, Any]:
    """run.json; RefusedError where it does not say what was trained on what."""
    about = folder.read("run.json")
    missing = [word for word in WORDS if not isinstance(about, dict) or not isinstance(about.get(word), str)]
    if missing:
        raise RefusedError(f"run.json has no entry '{missing[0]}'", where=folder.path, remedy=COPY)
    return dict(about)


def recipe_of(folder: RunDir) -> Recipe:
    """The recipe of recipe.json, built; RefusedError where it holds none, or one of another form."""
    value = folder.read("recipe.json")
    try:
        recipe = build(load(value, CATALOG))
    except (RefusedError, ValueError, TypeError) as error:
        told = f"{error.where}: {error.what}" if isinstance(error, RefusedError) else str(error)
        raise RefusedError(
            f"recipe.json, most likely written by an earlier form of the recipe, cannot be built: {told}",
            where=folder.path,
            remedy=EARLIER,
        ) from error
    if not isinstance(recipe, Recipe):
        raise RefusedError("recipe.json holds no recipe", where=folder.path, remedy=COPY)
    return recipe


def read_weights(folder: RunDir, recipe: Recipe) -> Weights:
    """Load the newest valid checkpoint into the recipe's model, strictly."""
    found = folder.newest()
    if found is None:
        raise RefusedError(
            "nothing has been trained here yet",
            where=folder.path,
            remedy="Run the `sfumato train` command that made this folder to its first checkpoint.",
        )
    progress = Progress.from_bytes(found.file(STATE), found.name)
    fill(recipe.model, found.file(MODEL), found.files.get(AVERAGES), folder.path)
    names = [stage.name for stage in recipe.stages]
    return Weights(
        stages=tuple(names[: progress.stage]),
        under_way=names[progress.stage] if progress.stage < len(names) else "",
        seen=progress.total,
        hours=progress.elapsed / 3600,
        passed_over=tuple(f"{name}: {why}" for name, why in dict(found.passed_over).items()),
    )


@torch.no_grad()
def fill(model: nn.Module, raw: bytes, averages: bytes | None, where: object = None) -> None:
    """Put the raw weights in place, and over them the first average of those that have one.

    RefusedError, with the run's folder as its place, where they do not fit the model.
    """
    state = model.state_dict()
    for name, value in unpack(raw, state, MODEL, where).items():
        state[name].copy_(value)
    if averages is not None:
        fill_average(model, averages, 0)


@torch.no_grad()
def fill_average(model: nn.Module, averages: bytes, length: int) -> None:
    """Put the averages of one length (by its place among the stage's) over the weights that have one."""
    state = model.state_dict()
    try:
        found = parse(averages)
    except SafetensorError as error:
        raise RefusedError(f"{AVERAGES} is not a safetensors file: {error}", remedy=COPY) from None
    for name, value in found.items():
        place, _, target = name.partition("/")
        if place == str(length) and target in state:
            state[target].copy_(value)


def fill_ended(model: nn.Module, folder: RunDir, stage: Stage) -> bool:
    """Put in place the weights that a stage ended with; False, and nothing done, where they are gone.

    Those are the raw weights (0), an average at its end (by its length), or what was chosen beside them.
    """
    newest, kept = folder.newest(), folder.load_averages(stage.name)
    if newest is None or not kept:
        return False
    chosen = Progress.from_bytes(newest.file(STATE), newest.name).chosen.get(stage.name)
    files = kept[max(kept)]
    if CHOSEN in files:
        _fill_named(model, files[CHOSEN], CHOSEN)
    elif chosen == 0.0 and RAW in files:
        _fill_named(model, files[RAW], RAW)
    elif chosen in stage.lengths and AVERAGES in files:
        fill_average(model, files[AVERAGES], stage.lengths.index(chosen))
    else:
        return False
    return True


@torch.no_grad()
def _fill_named(model: nn.Module, stored: bytes, what: str) -> None:
    """Put tensors over the model's of the same names; an objective's own have none there."""
    state = model.state_dict()
    for name, value in unpack(stored, None, what).items():
        if name in state:
            state[name].copy_(value)
