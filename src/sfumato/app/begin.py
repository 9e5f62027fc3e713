"""The first write into a run folder, or the check that it holds this very run.

A run is its recipe and its data; those differing is refused by RunDir.begin, leaf by leaf. The words
besides are compared here: other held-out images or other options of the data are refused by name,
another budget is said, with which one holds. The same words and data with another recipe: its code has
changed since. A folder where other files have a run's names is refused before anything
in it is touched.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..core.errors import UsageError
from ..data.dataset import Split
from ..data.facts import Facts
from ..data.listing import PREVIEW_NAME
from ..data.options import options
from ..data.sources import BUILTIN
from ..report import grid
from ..training.rundir import RunDir, differences
from ..training.state import EARLIER
from ..training.storage import from_json, to_json
from .console import Console
from .doctor import preview_of
from .left_out import write_left_out
from .weights import WORDS


def begin(
    folder: RunDir,
    recipe: Any,
    facts: Facts,
    about: Mapping[str, Any],
    parts: Split,
    fresh: bool,
    console: Console,
) -> None:
    """Describe a new run, or check that the folder holds this very one; UsageError for a folder of others."""
    folder.refuse_foreign(WORDS)
    if fresh:
        start_again(folder, console)
    software = {
        "command": " ".join(["sfumato", *sys.argv[1:]]),
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "format": 1,
    }
    with folder.lock():
        before = folder.read("run.json") if folder.names() else {}
        if before:
            check_words(before, about, folder.path)
            check_form(folder, recipe, facts, about, before)
        new = folder.begin(recipe, facts.to_json(), {**about, **software})
    if new:
        preview = folder.path / PREVIEW_NAME
        folder.disk.replace(preview, grid.png(preview_of(parts.train, about["seed"])))
        console.say(f"The exact tensors the model will see: {preview}")
        console.say(*filter(None, [write_left_out(folder, parts)]))
        return
    finished = len(before.get("stages_done", ())) == len(recipe.get("stages", ()))
    going = "it is finished, and only its last pictures are made again" if finished else "going on with it"
    console.say(f"This run exists with the same recipe and data: {going}.")
    console.say(*about_budget(before["budget"], about["budget"], finished))


def start_again(folder: RunDir, console: Console) -> None:
    """Move the run aside; nothing is deleted. BusyError while another process trains in it.

    Where nothing else lies in the folder it is renamed whole. What others have there (a log, hidden folders)
    stays, untouched: then the run's own move one by one, the description first and the checkpoints last, so
    that checkpoints without it are refused and not taken for those of the new run if that is cut short.
    """
    path = folder.path
    if not path.exists():
        return
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}-old{n}").exists())
    aside, doing = path.with_name(f"{path.name}-old{number}"), "moving the old run aside"
    with folder.lock():
        own = folder.own()
        if not folder.shared():
            folder.disk.guard(lambda: folder.disk.call(path.rename, aside), path, doing)
        elif own:
            folder.disk.make(aside)
            for entry in own:
                folder.disk.guard(partial(folder.disk.call, entry.rename, aside / entry.name), entry, doing)
        else:
            return
    console.say(f"The old run is kept in {aside}.")


def lasting(data: str | None) -> str | None:
    """Data as a later verb finds them from any folder: paths absolute, names as they are."""
    if data is None or data in BUILTIN or data.startswith("hub:"):
        return data
    return str(Path(data).expanduser().absolute())


def check_words(before: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """UsageError naming --test, the held-out part or an option of the data that differs."""
    old, new = before.get("options", {}), now.get("options", {})
    pairs = [("--test", lasting(before.get("test")), lasting(now.get("test")))]
    pairs.append(("the held-out part", before.get("held_out"), now.get("held_out")))
    was, wanted = options(**_lasting_labels(old)).to_json(), options(**_lasting_labels(new)).to_json()
    pairs += [(f"--{key}", was[key], wanted[key]) for key in was]
    differing = [f"{name}: {a!s:.40} -> {b!s:.40}" for name, a, b in pairs if a != b]
    if differing:
        raise UsageError(
            "this run was made with other words: " + "; ".join(differing),
            where=where,
            remedy="Use the same words to go on with it, or another folder with --out.",
        )


def check_form(
    folder: RunDir, recipe: Any, facts: Facts, now: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """UsageError where the same words and data give another recipe than the one that the run was made by."""
    said = plain({key: value for key, value in now.items() if key not in ("budget", "seed")})
    if any(before.get(key) != value for key, value in said.items()):
        return
    if not (folder.path / "recipe.json").exists() or plain(facts.to_json()) != folder.read("data.json"):
        return
    if changed := differences(folder.read("recipe.json"), plain(recipe)):
        raise UsageError(
            f"this run was made by an earlier form of the recipe {now['recipe']}: {'; '.join(changed[:3])}",
            where=folder.path,
            remedy=EARLIER,
        )


def plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return from_json(to_json(value), "words")


def _lasting_labels(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {**chosen, "labels": lasting(chosen.get("labels"))}


def about_budget(before: Mapping[str, Any], now: Mapping[str, Any], finished: bool) -> list[str]:
    """Which of two budgets holds, in words; nothing where they are the same."""
    if dict(before) == dict(now):
        return []
    old, new = (" ".join(f"--{k} {v:g}" for k, v in budget.items()) for budget in (before, now))
    if finished:
        text = f"This run is finished ({old}); {new} does not lengthen it."
        return [f"{text} To train longer, start another run: --out NEW_FOLDER {new}"]
    kept = "the stage under way keeps the length it got then; later ones follow"
    return [f"This run began with {old}: {kept} {new}."]
