"""`distill`: from a trained diffusion run to one that needs one to four network calls.

    open the teacher, see that it can teach -> the student's recipe from its own -> begin (or find) the
    student's folder -> every stage by the ordinary trainer -> table and pictures beside the teacher

The student starts from the teacher's weights, which its first checkpoint holds from then on; what a stage
needs of the teacher is stored with its checkpoints (objectives/distiller.py). So a student that was stopped
goes on, and samples, without the teacher's folder. run.json names that folder and a hash of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..core.errors import RefusedError, UsageError, did_you_mean
from ..core.lazy import dump, load
from ..data.dataset import Split
from ..data.facts import Facts
from ..evaluation.features import fingerprint_of_module
from ..models.generator import Generator
from ..recipes.few_steps import DEFAULT, METHODS
from ..recipes.taught import TEACHERS, Taught, taught
from ..samplers.leap import Leap
from ..training.rundir import RunDir
from ..training.settings import Settings
from ..training.stage import Recipe
from .begin import begin, lasting
from .catalog import CATALOG, NAMES
from .compose import build_recipe, turned
from .console import Console
from .fitting import check_weights, finished, micro_batches
from .guiding import check_dropped
from .judges import find_judge
from .report import write_report
from .run import CHANGED, Run, open_run
from .student import built_in
from .student_curve import compare_steps
from .teacher import check_teacher
from .train import Budget, agreed, carry_out, check_seed, execution_of, read_data, world_of

SHARE = 0.3  # of the teacher's hours, where no budget is given
TOLD = ("embedding.vector.weight", "embedding.vector.bias", "embedding.null_vector")
KEPT = ("data", "test", "held_out", "options", "fingerprint")  # what a student's run says as its teacher's


@dataclass(frozen=True)
class Source:
    """What a student is made from, wherever it was read: the teacher's folder, or the student's own.

    tree       the student's postponed recipe;  facts  of the data;  about  entries of its run.json
    run        the teacher, None where its folder is gone
    """

    tree: Any
    facts: Facts
    about: dict[str, Any]
    run: Run | None


def distill(
    teacher: Path | str,
    method: str = DEFAULT,
    *,
    out: Path | str | None = None,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    fresh: bool = False,
    judge: Path | None = None,
    judged: int | None = None,
    console: Console | None = None,
    looks: int = 10,
) -> Run:
    """Distil a run into a few-step run, or go on with it; the finished run, read back from disk.

    judged: samples in the table of quality by network calls; 0: no table, None: as many as take a tenth
    of the training's time. UsageError for a run that is no diffusion model or has nothing to teach, and
    for settings no student can have.
    """
    path = _named(Path(teacher))
    _check_asked(method, judge, judged)
    check_seed(seed)
    world = world_of(device)
    console = (console or Console()) if world.main else Console(silent=True)
    folder = RunDir(Path(out) if out else path.parent / f"{path.name}-{method}")
    if folder.path.resolve() == path.resolve():
        raise UsageError(
            "the student would take its teacher's place", remedy="Give another folder with --out."
        )
    console.say(f"Run folder: {folder.path}")
    source = _source(path, method, folder, settings or {}, fresh, str(world.device), console)
    budget = _budget(budget, source)
    plan, asked = budget.build(), Settings(looks=looks, execution=execution_of(precision))
    about = source.about | {"budget": budget.to_json(), "seed": seed}
    words = (about["data"], about["test"], about["held_out"], about["options"])
    whole, parts = read_data(*words, console, begun=True)
    if whole.fingerprint != about["fingerprint"]:
        raise RefusedError(
            CHANGED.replace("this run", "the teacher"),
            where=about["data"],
            remedy="Put the data back as they were, or train the teacher anew.",
        )
    torch.manual_seed(seed)
    name, done = f"distill {method}", finished(folder, fresh)
    check_weights(name, source.tree, source.facts, {}, world, done)
    built = build_recipe(name, source.tree)
    if source.run is not None:
        _check_taught(source.run, built, parts)
        _start_from(source.run, built.model)
        if judge is not None:
            find_judge(source.run, judge, parts.held_out, console)  # refused now, not after the training
    if world.main:
        begin(folder, dump(source.tree, NAMES), source.facts, about, parts, fresh, console)
        if folder.read("run.json").get("teacher") != about["teacher"]:  # it was moved
            folder.tell(teacher=about["teacher"])
    fits = micro_batches(parts.train, name, source.tree, world, asked.execution, done)
    world.wait()
    asked = replace(asked, fits=agreed(folder, fits, built, world, console))
    run = carry_out(
        built,
        source.facts,
        parts,
        folder,
        budget=plan,
        seed=seed,
        world=world,
        settings=asked,
        console=console,
    )
    if world.main and judged != 0:
        compare_steps(run, source.run, judge=judge, count=judged, seed=seed, console=console)
        console.say(f"Report: {write_report(run)}")
    world.wait()
    return run


def _named(teacher: Path) -> Path:
    """A path to the same folder that ends in its name, which `.` and `..` do not."""
    return teacher.resolve() if teacher.name in ("", "..") else teacher


def _check_asked(method: str, judge: Path | None, judged: int | None) -> None:
    """UsageError for a method that there is not, and for a judge of nothing."""
    if method not in METHODS:
        raise UsageError(f"no method '{method}'", remedy=did_you_mean(method, METHODS))
    if judge is not None and judged == 0:
        raise UsageError(
            "--judge changes nothing here: with --judged 0 there is no table to be judged",
            remedy="Leave out one of them.",
        )


def _check_taught(teacher: Run, student: Recipe, parts: Split) -> None:
    """UsageError or DivergedError where a teacher has not learned what the student takes from it."""
    if built_in(student).scale != 1.0:
        check_dropped(
            teacher,
            "Distil it without: --set guidance=1. Or train a teacher that drops some of its conditions.",
        )
    deviation = taught(load(teacher.folder.read("recipe.json"), CATALOG), teacher.facts).data
    check_teacher(teacher, parts.train, deviation)


def _source(
    path: Path,
    method: str,
    folder: RunDir,
    settings: Mapping[str, Any],
    fresh: bool,
    device: str,
    console: Console,
) -> Source:
    """From the teacher's folder; where that is gone, from a student's folder that has begun.

    A teacher may have moved: what was begun goes on with the weights it began with, wherever they are.
    """
    begun = not fresh and (folder.path / "recipe.json").exists()
    before = folder.read("run.json") if begun else {}
    if before:
        _same_words(before, path, method, settings, folder.path)
    if not (path / "run.json").exists() and before and folder.names():
        console.say(f"The teacher {path} is gone; the student goes on by what it has stored.")
        tree = load(folder.read("recipe.json"), CATALOG)
        return Source(tree, Facts.from_json(folder.read("data.json")), before, None)
    run = open_run(path, device=device)
    if not isinstance(run.model, Generator):
        raise UsageError(
            f"{path} holds a {run.about['recipe']}, which makes no images",
            where=path,
            remedy=f"Distil a run of {TEACHERS}.",
        )
    source: Taught = taught(load(run.folder.read("recipe.json"), CATALOG), run.facts)
    tree = turned(METHODS[method], f"method '{method}'", source, settings)
    weights = fingerprint_of_module(run.model)
    told = {"run": lasting(str(path)), "weights": weights, "examples": run.weights.seen}
    about = {"recipe": run.about["recipe"], "method": method, "settings": dict(settings), "teacher": told}
    about |= {key: run.about.get(key) for key in KEPT} | {"options": run.about.get("options", {})}
    if before and before["teacher"]["weights"] != weights:
        _same_teacher(before, path, folder.path)
        if not folder.names():
            raise RefusedError(
                "the teacher has changed since this student began, and nothing was saved before",
                where=folder.path,
                remedy="Start again: --fresh.",
            )
        console.say("The teacher has changed since: this student goes on from what it has stored.")
        about["teacher"] = before["teacher"]
    return Source(tree, replace(run.facts), about, run)


def _same_words(
    before: Mapping[str, Any], path: Path, method: str, settings: Mapping[str, Any], where: Path
) -> None:
    """UsageError where a folder holds another run, or another distillation."""
    if "teacher" not in before:
        raise UsageError(
            f"{where} holds a run that was trained, not distilled", where=where, remedy="Use another --out."
        )
    if not (path / "run.json").exists():  # else its weights are compared, wherever they are
        _same_teacher(before, path, where)
    old = (before.get("method"), before.get("settings", {}))
    for name, was, now in zip(("--method", "--set"), old, (method, dict(settings)), strict=True):
        if was != now:
            raise _other_words(name, was, now, where)


def _same_teacher(before: Mapping[str, Any], path: Path, where: Path) -> None:
    """UsageError where a student was begun with a teacher of another path."""
    was, now = before["teacher"]["run"], lasting(str(path))
    if was != now:
        raise _other_words("teacher", was, now, where)


def _other_words(name: str, was: object, now: object, where: Path) -> UsageError:
    return UsageError(
        f"this run was made with other words: {name}: {was!s:.60} -> {now!s:.60}",
        where=where,
        remedy="Use the same words to go on with it, or another folder with --out.",
    )


def _budget(asked: Budget, source: Source) -> Budget:
    """What was asked for; else a part of the teacher's hours, or what the student began with."""
    if asked.hours is not None or asked.examples is not None:
        return asked
    if source.run is None:
        return Budget(**source.about["budget"])
    return Budget(hours=max(SHARE * source.run.weights.hours, 1e-4))


def _leaps(student: torch.nn.Module) -> bool:
    return isinstance(student, Generator) and isinstance(student.plan.solver, Leap)


def _start_from(teacher: Run, student: torch.nn.Module) -> None:
    """The teacher's weights in a student's model; what a leap's end needs beside them starts at zero."""
    mine, theirs = student.state_dict(), teacher.model.state_dict()
    new = {name for name in mine.keys() - theirs.keys() if name.endswith(TOLD)} if _leaps(student) else set()
    theirs |= {name: torch.zeros_like(mine[name]) for name in new}
    other = sorted(mine.keys() ^ theirs.keys())
    other += [name for name in mine.keys() & theirs.keys() if mine[name].shape != theirs[name].shape]
    if other:
        raise UsageError(
            f"a student has its teacher's architecture, and this one differs in {len(other)} tensors, "
            f"first '{other[0]}'",
            where=teacher.path,
            remedy="Leave out what --set changes of the network; for a smaller one, train a smaller teacher.",
        )
    student.load_state_dict(theirs)
