"""What a few-step student cannot be asked: its answers fit its own sampler and nothing else.

Guidance is built in; the solver belongs to what was learned. Asking otherwise would give images, only bad
ones, so it is refused by name.

    halved steps     their number, from the start they were learned from
    leaps            powers of two up to the finest grid, from the start they were learned from
    consistency      any number, from any start within the noise it was trained on: it knows every level

Nor has a student a likelihood. The bounds and the flow take the denoiser's answer for the mean of all x_0
that may be under the noise, and a student's is where one trajectory ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import UsageError
from ..models.density import Plan
from ..objectives.distiller import Distiller, Teaching
from ..objectives.shortcut import Shortcut
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.leap import Leap
from ..training.stage import Recipe, Stage


def built_in(recipe: Recipe) -> Teaching:
    """The guidance a student has built in, which one of its stages learns; scale 1 for none."""
    for stage in recipe.stages:
        objective = stage.objective if isinstance(stage, Stage) else None
        if isinstance(objective, Distiller) and objective.teaching.scale != 1.0:
            return objective.teaching
    return Teaching()


def finest(recipe: Recipe) -> int | None:
    """The most steps that a student of leaps has learned; None for other students."""
    objectives = (stage.objective for stage in recipe.stages if isinstance(stage, Stage))
    return next((o.first for o in objectives if isinstance(o, Shortcut)), None)


def check_likelihood(about: Mapping[str, Any], where: Path) -> None:
    """UsageError for the likelihood by the denoiser of a student (see the module)."""
    if "teacher" in about:
        raise UsageError(
            "a few-step student has no likelihood: its answers are ends of trajectories, not means",
            where=where,
            remedy=f"Ask its teacher: sfumato likelihood {about['teacher']['run']}",
        )


def check_curve(about: Mapping[str, Any], where: Path) -> None:
    """UsageError for the curve of a student, which has one solver, one grid, and a table by calls."""
    if "teacher" in about:
        raise UsageError(
            "a few-step student has no curve: its solver and its grid are its own, and its quality by "
            "network calls is in its report",
            where=where / "report.html",
            remedy=f"Measure its teacher: sfumato curve {about['teacher']['run']}",
        )


def check_student(
    about: Mapping[str, Any], plan: Plan, where: Path, asked: Mapping[str, Any], first: int | None = None
) -> None:
    """UsageError where a student (a run whose run.json names a teacher) is asked what it never learned.

    plan: the student's own;  first: see `finest`.
    """
    if "teacher" not in about:
        return
    teacher, given = about["teacher"]["run"], {key for key, value in asked.items() if value is not None}
    if given & {"guidance", "guide", "classifier", "interval"}:
        raise UsageError(
            "the strength of guidance is built into a few-step student",
            where=where,
            remedy=f"Distil its teacher again: sfumato distill {teacher} --set guidance=2",
        )
    if given & {"solver", "grid", "eta"}:
        raise UsageError(
            "a few-step student has a solver and a grid of its own, and no other fits what it learned",
            where=where,
            remedy=f"Leave them out, or sample its teacher: sfumato sample {teacher}",
        )
    _check_steps(plan, where, asked.get("steps"), teacher, first)
    _check_start(plan, where, asked.get("start"), teacher)


def _check_steps(plan: Plan, where: Path, steps: int | None, teacher: str, first: int | None) -> None:
    """UsageError for a number of steps that the student has not learned; see the module."""
    if isinstance(plan.solver, Ddim) and steps not in (None, plan.steps):
        raise UsageError(
            f"this student learned to make {plan.steps} steps, not {steps}",
            where=where,
            remedy=f"Distil to another number: sfumato distill {teacher} --method progressive --set steps=4",
        )
    if not isinstance(plan.solver, Leap) or steps is None or first is None:
        return
    if steps > first or steps < 1 or steps & (steps - 1):
        raise UsageError(
            f"this student learned to make 1, 2, 4, ... {first} steps, not {steps}",
            where=where,
            remedy=f"Ask for a power of two up to {first}: for example --steps {min(first, 4)}.",
        )


def _check_start(plan: Plan, where: Path, start: float | None, teacher: str) -> None:
    """UsageError for a start that the student was not trained from; see the module."""
    anywhere = isinstance(plan.solver, Consistency)
    if start is None or start == plan.start or (anywhere and (plan.start is None or start < plan.start)):
        return
    own = "from pure noise" if plan.start is None else f"from {plan.start:g} times as much noise as signal"
    raise UsageError(
        f"this student learned to start {own}, not from {start:g}",
        where=where,
        remedy=f"Leave --start out, or distil to this one: sfumato distill {teacher} --set start={start:g}",
    )
