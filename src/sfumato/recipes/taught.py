"""The parts of every few-step student: what it takes from its teacher, its stages, its model and plan.

Taught     the teacher's postponed generator, its plan, and the scale of what it makes
prepared   the stage before the others, where the student reads its network through another row
student    the teacher's generator with the student's row and plan, and the stages that make it
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..core.errors import UsageError
from ..core.lazy import Lazy, build, lazy
from ..data.facts import Facts
from ..diffusion.scaling import ConsistencyScaling, EdmScaling, FlowScaling, Scaled, VScaling
from ..diffusion.times import LogNormalSigma, Times
from ..diffusion.weighting import Edm
from ..models.conditioner import Unconditional
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.reconstruction import Reconstruction, Shifted
from ..nets.detail import FineDetail
from ..objectives.distiller import Teaching
from ..objectives.objective import Objective
from ..objectives.progressive import Matching
from ..samplers.grids import Angle
from ..samplers.leap import FEATURES
from ..samplers.solver import Solver
from ..training.rates import Cosine
from ..training.stage import Recipe, Stage
from .sizes import spread

ANCHORED = (VScaling, FlowScaling, EdmScaling, ConsistencyScaling)  # rows on which a student can answer
FLOOR = 0.002  # sigma/alpha at which a consistency model's trajectories end
TEACHERS = "diffusion, diffusevae, ddpm, improved-ddpm, vdm, ncsn, dit or jit"  # recipes that can teach
MOST_STEPS = 4096  # of a teacher's grid; finer ones change nothing and take minutes to lay out
DROPPED = 0.1  # part of the conditions, at least, that is dropped where both answers of guidance are learned


@dataclass(frozen=True)
class Taught:
    """What a student takes from its teacher.

    model     the teacher's postponed generator;  plan  its plan, built
    data      standard deviation of what the diffusion makes;  batch  examples in its training step
    """

    model: Any
    plan: Plan
    data: float
    batch: int

    @property
    def scaling(self) -> Any:
        """The postponed row its network was trained with."""
        return self.model.arguments["density"].arguments["denoiser"].arguments["scaling"]


def taught(teacher: Any, facts: Facts) -> Taught:
    """The teacher of a postponed recipe; UsageError where it is no diffusion model."""
    model, found = teacher.arguments["model"], None
    if model.make is Generator and model.arguments["density"].make is Diffusion:
        denoiser = model.arguments["density"].arguments["denoiser"]
        found = denoiser.arguments["scaling"] if denoiser.make is Scaled else None
    if found is None:
        raise UsageError(
            "only a diffusion model can be distilled, and this run is none",
            remedy=f"Distil a run of {TEACHERS}.",
        )
    stage = next(s for s in reversed(teacher.arguments["stages"]) if s.make is Stage)
    plan = model.arguments.get("plan")
    return Taught(
        model,
        Plan() if plan is None else build(plan),
        float(found.arguments.get("data", spread(facts))),
        int(stage.arguments.get("batch", 128)),
    )


def powers_of_two(**values: int) -> None:
    """UsageError naming a dial that halving does not lead to."""
    for name, value in values.items():
        if value < 1 or value & (value - 1):
            near = 2 ** max(0, round(math.log2(max(1, value))))
            raise UsageError(
                f"{name} = {value} is no power of two, so halving does not lead there",
                remedy=f"For example: --set {name}={near}",
            )
        if value > MOST_STEPS:
            remedy = f"A teacher is taken over at {MOST_STEPS:,} steps at most."
            raise UsageError(f"{name} = {value:,} steps", remedy=remedy)


def bounded(low: float, high: float, **values: float) -> None:
    """UsageError naming a dial that does not lie in [low, high]."""
    for name, value in values.items():
        if not low <= value <= high:
            near = low if math.isnan(value) else min(max(value, low), high)
            raise UsageError(
                f"{name} = {value} does not lie between {low} and {high}",
                remedy=f"For example: --set {name}={near}",
            )


def row_of(teacher: Taught) -> Any:
    """The teacher's row where a student can answer on it, else v."""
    return teacher.scaling if teacher.scaling.make in ANCHORED else lazy(VScaling)()


def told_the_end(model: Any) -> Any:
    """The generator whose network takes the end of a leap in its vector slot."""

    def grown(net: Any) -> Any:
        if net.make in (Shifted, FineDetail):
            return altered(net, net=grown(net.arguments["net"]))
        if net.arguments.get("vector_dim"):
            raise UsageError(
                "the network takes z where a shortcut model is told the end of its steps",
                remedy="Distil this run by another method, for instance --method easy.",
            )
        return altered(net, vector_dim=FEATURES)

    density = model.arguments["density"]
    denoiser = density.arguments["denoiser"]
    denoiser = altered(denoiser, net=grown(denoiser.arguments["net"]))
    return altered(model, density=altered(density, denoiser=denoiser))


def strength_of(teacher: Taught, guidance: float | None) -> float:
    """The guidance that is built in: what was asked for, else the teacher's."""
    if guidance is None:
        return teacher.plan.scale
    if not (math.isfinite(guidance) and guidance >= 0):
        raise UsageError(
            f"guidance is a finite number of 0 or more, not {guidance:g}",
            remedy="For example: --set guidance=2",
        )
    conditioner = teacher.model.arguments.get("conditioner")
    if guidance != 1.0 and (conditioner is None or conditioner.make is Unconditional):
        raise UsageError(
            "this teacher has no condition to be guided by",
            remedy="Leave out guidance, or distil a run trained with --set conditional=true.",
        )
    return guidance


def times_of(teacher: Taught) -> Times:
    """Geng et al.'s log-normal (-1.1, 2) for data of deviation 1/2, moved with the data's."""
    return lazy(LogNormalSigma)(round(-1.1 + math.log(teacher.data / 0.5), 3), 2.0)


def teaching_of(teacher: Taught, scale: float, row: Any) -> Teaching:
    """The teacher as it is when the stage opens; read through its own row if the student has another."""
    own = teacher.scaling if row is not None and row != teacher.scaling else None
    interval = teacher.plan.interval if scale != 1.0 else None
    return lazy(Teaching)(own, scale, interval, teacher.plan.clip)


def prepared(
    teacher: Taught,
    row: Any,
    scale: float,
    batch: int,
    dropout: float,
    start: float | None,
    later: float = 1.0,
) -> tuple[tuple[Stage, ...], Any]:
    """The stage before the others, where one is needed, and the student's row.

    Rows that all are EDM's up to their floor read the same network nearly alike; any other change of row,
    and guidance, is learned first. later: the guidance of the stage that follows. Its teacher is the network
    that this one leaves, whose answer without the condition then counts as much as the one with it: both
    are matched, by dropping some conditions here.
    """
    near = (EdmScaling, ConsistencyScaling)
    alike = row == teacher.scaling or (row.make in near and teacher.scaling.make in near)
    if alike and scale == 1.0:
        return (), row
    dropout = dropout if later == 1.0 else max(dropout, DROPPED)
    objective = lazy(Matching)(
        times_of(teacher), lazy(Edm)(teacher.data), teaching_of(teacher, scale, row), dropout, start
    )
    return (stage_of(teacher, "matching", objective, 1e-3, batch, 0.3),), row


def stage_of(
    teacher: Taught, name: str, objective: Objective, peak: float, batch: int, share: float
) -> Stage:
    """A gradient stage on the density; batch 0: the teacher's."""
    return lazy(Stage)(
        name=name,
        objective=objective,
        train="density",
        rate=lazy(Cosine)(peak=peak),
        batch=batch or teacher.batch,
        share=share,
    )


def student_of(
    teacher: Taught,
    scaling: Any,
    steps: int,
    solver: Solver[Any],
    start: float | None,
    stages: tuple[Stage, ...],
) -> Recipe:
    """The teacher's generator with the student's row and plan."""
    if steps < 1:
        raise UsageError(f"{steps} sampling steps", remedy="Ask for at least one step.")
    model, density = teacher.model, teacher.model.arguments["density"]
    conditioner = model.arguments.get("conditioner")
    if start is not None and (conditioner is None or conditioner.make is not Reconstruction):
        raise UsageError(
            "a start below pure noise needs a first guess, which this model does not make",
            remedy="Leave out start, or distil a diffusevae run.",
        )
    denoiser = altered(density.arguments["denoiser"], scaling=scaling)
    plan = lazy(Plan)(
        steps=steps, solver=solver, grid=lazy(Angle)(teacher.data), clip=teacher.plan.clip, start=start
    )
    return lazy(Recipe)(altered(model, density=altered(density, denoiser=denoiser), plan=plan), stages)


def altered(part: Any, **changes: Any) -> Any:
    """A postponed call with some of its arguments replaced."""
    return Lazy(part.make, {**part.arguments, **changes})
