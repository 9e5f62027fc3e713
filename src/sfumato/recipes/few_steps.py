"""Few-step students of a trained diffusion model: from a teacher's recipe to the student's.

    easy          consistency tuning (Geng et al. 2024): from diffusion training to consistency, step by step
    consistency   consistency distillation, or training from the data alone (Song et al. 2023; iCT)
    continuous    continuous-time consistency (Lu & Song 2024, sCM)
    shortcut      steps of every length at once (Frans et al. 2024)
    progressive   rounds that halve the steps of DDIM (Salimans & Ho 2022)

A student is its teacher's generator with other weights: the same network, codec and conditioner, another
plan. Noise and score cannot be read off at pure noise, where a few-step student must answer: there the
network learns to predict v first, in a stage `matching` that is also where guidance is built in for rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import UsageError
from ..core.lazy import Lazy, build, lazy
from ..data.facts import Facts
from ..diffusion.scaling import (
    ConsistencyScaling,
    EdmScaling,
    FlowScaling,
    Scaled,
    VScaling,
    X0Scaling,
)
from ..diffusion.times import LogNormalSigma, Times
from ..diffusion.weighting import Edm, Snr
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.reconstruction import Reconstruction, Shifted
from ..objectives.consistency import Doubling, Easing, Mixed, Pairing, SelfConsistency, Stepped
from ..objectives.continuous import Continuous
from ..objectives.distiller import Teaching
from ..objectives.objective import Objective
from ..objectives.progressive import Matching, Progressive
from ..objectives.shortcut import Shortcut
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.grids import Angle
from ..samplers.heun import Heun
from ..samplers.leap import FEATURES, Leap
from ..samplers.solver import Solver
from ..training.rates import Cosine
from ..training.stage import Recipe, Stage
from .sizes import spread

ANCHORED = (VScaling, FlowScaling, EdmScaling, ConsistencyScaling)  # rows on which a student can answer
FLOOR = 0.002  # sigma/alpha at which a consistency model's trajectories end


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
            remedy="Distil a run of diffusion, ddpm or diffusevae.",
        )
    stage = next(s for s in reversed(teacher.arguments["stages"]) if s.make is Stage)
    plan = model.arguments.get("plan")
    return Taught(
        model,
        Plan() if plan is None else build(plan),
        float(found.arguments.get("data", spread(facts))),
        int(stage.arguments.get("batch", 128)),
    )


def easy(
    teacher: Taught,
    *,
    steps: int = 2,
    guidance: float | None = None,
    stages: int = 8,
    peak: float = 1e-3,
    batch: int = 0,
    dropout: float = 0.0,
    start: float | None = None,
) -> Recipe:
    """Easy consistency tuning: the default; from diffusion training to consistency, without a jump.

    Training pairs are an image under more and under less of the same noise. The gap begins at the whole
    noise, which is diffusion training, and is halved again and again. A guided teacher makes the pairs
    itself, by DDIM steps.

    steps      network calls of the student's plan (any number works; 1 to 4 make sense)
    guidance   strength that is built in; as the teacher's plan unless said
    stages     halvings of the gap between the two noise levels, and one
    peak       largest learning rate
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    scale = _scale(teacher, guidance)
    pairing = lazy(Mixed)() if scale == 1.0 else lazy(Stepped)(lazy(Ddim)())
    return _tuned(
        teacher,
        _row(teacher),
        lazy(Easing)(teacher.data, stages),
        pairing,
        0.0,
        steps,
        scale,
        peak,
        batch,
        dropout,
        start,
    )


def consistency(
    teacher: Taught,
    *,
    steps: int = 2,
    guidance: float | None = None,
    pairs: bool = True,
    last: int = 160,
    average: float = 0.0,
    peak: float = 1e-3,
    batch: int = 0,
    dropout: float = 0.0,
    start: float | None = None,
) -> Recipe:
    """Consistency distillation on a grid that is refined over training; or training from the data alone.

    steps      network calls of the student's plan
    guidance   strength that is built in; as the teacher's plan unless said
    pairs      whether the teacher makes the pairs, by Heun steps (distillation); false: training from data
    last       intervals of the finest grid; the first has 10
    average    decay per step of the target's weights, for instance 0.95; 0: the student's own
    peak       largest learning rate
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    scale = _scale(teacher, guidance)
    if scale != 1.0 and not pairs:
        raise UsageError("guidance is built in by the teacher's pairs", remedy="Leave out pairs=false.")
    pairing = lazy(Stepped)(lazy(Heun)()) if pairs else lazy(Mixed)()
    row: Any = lazy(ConsistencyScaling)(teacher.data, FLOOR)
    return _tuned(
        teacher, row, lazy(Doubling)(10, last), pairing, average, steps, scale, peak, batch, dropout, start
    )


def continuous(
    teacher: Taught,
    *,
    steps: int = 2,
    guidance: float | None = None,
    warm: float = 0.25,
    peak: float = 5e-4,
    batch: int = 0,
    dropout: float = 0.0,
    start: float | None = None,
) -> Recipe:
    """Continuous-time consistency distillation (sCM): the limit of a gap of zero, by finite differences.

    steps      network calls of the student's plan
    guidance   strength that is built in; as the teacher's plan unless said
    warm       part of the training over which the tangent is faded in
    peak       largest learning rate
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    scale = _scale(teacher, guidance)
    before, scaling = _prepared(teacher, lazy(EdmScaling)(teacher.data), 1.0, batch, dropout, start)
    objective = lazy(Continuous)(
        _times(teacher), warm, _teaching(teacher, scale, None if before else scaling), dropout, start
    )
    stage = _stage(teacher, "continuous", objective, peak, batch, 1.0)
    return _student(teacher, scaling, steps, lazy(Consistency)(), start, (*before, stage))


def progressive(
    teacher: Taught,
    *,
    steps: int = 1,
    first: int = 64,
    guidance: float | None = None,
    peak: float = 5e-4,
    batch: int = 0,
    dropout: float = 0.0,
    start: float | None = None,
) -> Recipe:
    """Progressive distillation: rounds of half the steps, each student the next round's teacher.

    steps      steps of the last student, a power of two; it makes exactly so many
    first      steps of DDIM at which the teacher is taken over, a power of two
    guidance   strength that is built in, before the rounds; as the teacher's plan unless said
    peak       largest learning rate
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    _powers_of_two(steps=steps, first=first)
    if first <= steps:
        raise UsageError(
            f"{first} steps cannot be halved to {steps}", remedy=f"For example: --set first={4 * steps}"
        )
    scale = _scale(teacher, guidance)
    row = teacher.scaling if teacher.scaling.make in (*ANCHORED, X0Scaling) else lazy(VScaling)()
    before, scaling = _prepared(teacher, row, scale, batch, dropout, start)
    rounds, n = [], first // 2
    while n >= steps:
        objective = lazy(Progressive)(
            n,
            lazy(Angle)(teacher.data),
            lazy(Snr)(1.0),
            _teaching(teacher, 1.0, None),
            dropout,
            start,
        )
        rounds.append(_stage(teacher, f"round-{n}", objective, peak, batch, 1.0))
        n //= 2
    return _student(teacher, scaling, steps, lazy(Ddim)(), start, (*before, *rounds))


def shortcut(
    teacher: Taught,
    *,
    steps: int = 2,
    first: int = 64,
    halved: float = 0.4,
    guidance: float | None = None,
    peak: float = 1e-3,
    batch: int = 0,
    start: float | None = None,
) -> Recipe:
    """Shortcut models: one network for steps of every length, told where a step ends.

    steps      steps of the student's plan, a power of two up to `first`
    first      steps of the finest grid, a power of two
    halved     part of the examples that learn that one step is two half as long; the rest denoise
    guidance   strength that is built in; as the teacher's plan unless said
    peak       largest learning rate
    batch      images in a training step; 0: as the teacher's
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    _powers_of_two(steps=steps, first=first)
    before, scaling = _prepared(teacher, _row(teacher), 1.0, batch, 0.0, start)
    solver, grid = lazy(Leap)(teacher.data), lazy(Angle)(teacher.data)
    objective = lazy(Shortcut)(
        _times(teacher),
        lazy(Edm)(teacher.data),
        grid,
        solver,
        first,
        halved,
        _teaching(teacher, _scale(teacher, guidance), None if before else scaling),
        start,
    )
    stage = _stage(teacher, "shortcut", objective, peak, batch, 1.0)
    grown = replace(teacher, model=_told_the_end(teacher.model))
    return _student(grown, scaling, steps, solver, start, (*before, stage))


METHODS: Mapping[str, Callable[..., Recipe]] = {
    method.__name__: method for method in (easy, consistency, continuous, shortcut, progressive)
}
DEFAULT = easy.__name__


# ----------------------------------------------------------------------------------- shared parts


def _tuned(
    teacher: Taught,
    row: Any,
    spacing: Any,
    pairing: Pairing,
    average: float,
    steps: int,
    scale: float,
    peak: float,
    batch: int,
    dropout: float,
    start: float | None,
) -> Recipe:
    """A student of the consistency loss."""
    before, scaling = _prepared(teacher, row, 1.0, batch, dropout, start)
    objective = lazy(SelfConsistency)(
        _times(teacher),
        spacing,
        pairing,
        average,
        teaching=_teaching(teacher, scale, None if before else scaling),
        dropout=dropout,
        start=start,
    )
    stage = _stage(teacher, "consistency", objective, peak, batch, 1.0)
    return _student(teacher, scaling, steps, lazy(Consistency)(), start, (*before, stage))


def _powers_of_two(**values: int) -> None:
    for name, value in values.items():
        if value < 1 or value & (value - 1):
            near = 2 ** max(0, round(math.log2(max(1, value))))
            raise UsageError(
                f"{name} = {value} is no power of two, so halving does not lead there",
                remedy=f"For example: --set {name}={near}",
            )


def _row(teacher: Taught) -> Any:
    """The teacher's row where a student can answer on it, else v."""
    return teacher.scaling if teacher.scaling.make in ANCHORED else lazy(VScaling)()


def _told_the_end(model: Any) -> Any:
    """The generator whose network takes the end of a leap in its vector slot."""

    def grown(net: Any) -> Any:
        if net.make is Shifted:
            return _with(net, net=grown(net.arguments["net"]))
        if net.arguments.get("vector_dim"):
            raise UsageError(
                "the network takes z where a shortcut model is told the end of its steps",
                remedy="Distil this run by another method, for instance --method easy.",
            )
        return _with(net, vector_dim=FEATURES)

    density = model.arguments["density"]
    denoiser = density.arguments["denoiser"]
    denoiser = _with(denoiser, net=grown(denoiser.arguments["net"]))
    return _with(model, density=_with(density, denoiser=denoiser))


def _scale(teacher: Taught, guidance: float | None) -> float:
    return teacher.plan.scale if guidance is None else guidance


def _times(teacher: Taught) -> Times:
    """Geng et al.'s log-normal (-1.1, 2) for data of deviation 1/2, moved with the data's."""
    return lazy(LogNormalSigma)(round(-1.1 + math.log(teacher.data / 0.5), 3), 2.0)


def _teaching(teacher: Taught, scale: float, row: Any) -> Teaching:
    """The teacher as it is when the stage opens; read through its own row if the student has another."""
    own = teacher.scaling if row is not None and row != teacher.scaling else None
    interval = teacher.plan.interval if scale != 1.0 else None
    return lazy(Teaching)(own, scale, interval, teacher.plan.clip)


def _prepared(
    teacher: Taught, row: Any, scale: float, batch: int, dropout: float, start: float | None
) -> tuple[tuple[Stage, ...], Any]:
    """The stage before the others, where one is needed, and the student's row.

    Rows that all are EDM's up to their floor read the same network nearly alike; any other change of row,
    and guidance, is learned first.
    """
    near = (EdmScaling, ConsistencyScaling)
    alike = row == teacher.scaling or (row.make in near and teacher.scaling.make in near)
    if alike and scale == 1.0:
        return (), row
    objective = lazy(Matching)(
        _times(teacher), lazy(Edm)(teacher.data), _teaching(teacher, scale, row), dropout, start
    )
    return (_stage(teacher, "matching", objective, 1e-3, batch, 0.3),), row


def _stage(teacher: Taught, name: str, objective: Objective, peak: float, batch: int, share: float) -> Stage:
    return lazy(Stage)(
        name=name,
        objective=objective,
        train="density",
        rate=lazy(Cosine)(peak=peak),
        batch=batch or teacher.batch,
        share=share,
    )


def _student(
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
    denoiser = _with(density.arguments["denoiser"], scaling=scaling)
    plan = lazy(Plan)(
        steps=steps, solver=solver, grid=lazy(Angle)(teacher.data), clip=teacher.plan.clip, start=start
    )
    return lazy(Recipe)(_with(model, density=_with(density, denoiser=denoiser), plan=plan), stages)


def _with(part: Any, **changes: Any) -> Any:
    """A postponed call with some of its arguments replaced."""
    return Lazy(part.make, {**part.arguments, **changes})
