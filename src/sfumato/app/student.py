"""What a few-step student cannot be asked: its answers fit its own sampler and nothing else.

Guidance is built in; the solver belongs to what was learned; a student of halved steps knows its own number
of them. Asking otherwise would give images, only bad ones, so it is refused by name.

Nor has a student a likelihood. The bounds and the flow take the denoiser's answer for the mean of all x_0
that may be under the noise, and a student's is where one trajectory ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import UsageError
from ..models.density import Plan
from ..samplers.ddim import Ddim


def check_likelihood(about: Mapping[str, Any], where: Path) -> None:
    """UsageError for the likelihood by the denoiser of a student (see the module)."""
    if "teacher" in about:
        raise UsageError(
            "a few-step student has no likelihood: its answers are ends of trajectories, not means",
            where=where,
            remedy=f"Ask its teacher: sfumato likelihood {about['teacher']['run']}",
        )


def check_student(about: Mapping[str, Any], plan: Plan, where: Path, asked: Mapping[str, Any]) -> None:
    """UsageError where a student (a run whose run.json names a teacher) is asked what it never learned."""
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
    steps = asked.get("steps")
    if isinstance(plan.solver, Ddim) and steps not in (None, plan.steps):
        raise UsageError(
            f"this student learned to make {plan.steps} steps, not {steps}",
            where=where,
            remedy=f"Distil to another number: sfumato distill {teacher} --method progressive --set steps=4",
        )
