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

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..diffusion.scaling import (
    ConsistencyScaling,
    EdmScaling,
    VScaling,
    X0Scaling,
)
from ..diffusion.weighting import Edm, Snr
from ..objectives.consistency import MOST_STAGES, Doubling, Easing, Mixed, Pairing, SelfConsistency, Stepped
from ..objectives.continuous import Continuous
from ..objectives.progressive import Progressive
from ..objectives.shortcut import Shortcut
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.grids import Angle
from ..samplers.heun import Heun
from ..samplers.leap import Leap
from ..training.stage import Recipe
from .taught import (
    ANCHORED,
    FLOOR,
    MOST_STEPS,
    Taught,
    bounded,
    powers_of_two,
    prepared,
    row_of,
    stage_of,
    strength_of,
    student_of,
    teaching_of,
    times_of,
    told_the_end,
)

COARSEST, FINEST = 10, 1_000_000  # intervals of the first and the finest grid that consistency may have


def easy(
    teacher: Taught,
    *,
    steps: int = 2,
    guidance: float | None = None,
    stages: int = 8,
    peak: float = 3e-4,
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
    stages     halvings of the gap between the two noise levels, and one; at most 30
    peak       largest learning rate, of the stages after `matching` (there 0.001)
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    bounded(1, MOST_STAGES, stages=stages)
    scale = strength_of(teacher, guidance)
    pairing = lazy(Mixed)() if scale == 1.0 else lazy(Stepped)(lazy(Ddim)())
    return _tuned(
        teacher,
        row_of(teacher),
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
    peak: float = 3e-4,
    batch: int = 0,
    dropout: float = 0.0,
    start: float | None = None,
) -> Recipe:
    """Consistency distillation on a grid that is refined over training; or training from the data alone.

    steps      network calls of the student's plan
    guidance   strength that is built in; as the teacher's plan unless said
    pairs      whether the teacher makes the pairs, by Heun steps (distillation); false: training from data
    last       intervals of the finest grid, 10 to 1,000,000; the first has 10
    average    decay per step of the target's weights, for instance 0.95; 0: the student's own
    peak       largest learning rate, of the stages after `matching` (there 0.001)
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    bounded(COARSEST, FINEST, last=last)
    scale = strength_of(teacher, guidance)
    if scale != 1.0 and not pairs:
        raise UsageError("guidance is built in by the teacher's pairs", remedy="Leave out pairs=false.")
    pairing = lazy(Stepped)(lazy(Heun)()) if pairs else lazy(Mixed)()
    row: Any = lazy(ConsistencyScaling)(teacher.data, FLOOR)
    finer = lazy(Doubling)(COARSEST, last)
    return _tuned(teacher, row, finer, pairing, average, steps, scale, peak, batch, dropout, start)


def continuous(
    teacher: Taught,
    *,
    steps: int = 2,
    guidance: float | None = None,
    warm: float = 0.25,
    peak: float = 1e-4,
    batch: int = 0,
    dropout: float = 0.0,
    start: float | None = None,
) -> Recipe:
    """Continuous-time consistency distillation (sCM): the limit of a gap of zero, by finite differences.

    steps      network calls of the student's plan
    guidance   strength that is built in; as the teacher's plan unless said
    warm       part of the training over which the tangent is faded in
    peak       largest learning rate, of the stages after `matching` (there 0.001)
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    scale = strength_of(teacher, guidance)
    before, scaling = prepared(teacher, lazy(EdmScaling)(teacher.data), 1.0, batch, dropout, start, scale)
    objective = lazy(Continuous)(
        times_of(teacher), warm, teaching_of(teacher, scale, None if before else scaling), dropout, start
    )
    stage = stage_of(teacher, "continuous", objective, peak, batch, 1.0)
    return student_of(teacher, scaling, steps, lazy(Consistency)(), start, (*before, stage))


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
    peak       largest learning rate, of the stages after `matching` (there 0.001)
    batch      images in a training step; 0: as the teacher's
    dropout    part of the examples whose condition is dropped
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    powers_of_two(steps=steps, first=first)
    if first <= steps:
        raise UsageError(
            f"{first} steps cannot be halved to {steps}", remedy=f"For example: --set first={4 * steps}"
        )
    scale = strength_of(teacher, guidance)
    row = teacher.scaling if teacher.scaling.make in (*ANCHORED, X0Scaling) else lazy(VScaling)()
    before, scaling = prepared(teacher, row, scale, batch, dropout, start)
    rounds, n = [], first // 2
    while n >= steps:
        objective = lazy(Progressive)(
            n,
            lazy(Angle)(teacher.data),
            lazy(Snr)(1.0),
            teaching_of(teacher, 1.0, None),
            dropout,
            start,
        )
        rounds.append(stage_of(teacher, f"round-{n}", objective, peak, batch, 1.0))
        n //= 2
    return student_of(teacher, scaling, steps, lazy(Ddim)(), start, (*before, *rounds))


def shortcut(
    teacher: Taught,
    *,
    steps: int = 2,
    first: int = 64,
    halved: float = 0.4,
    guidance: float | None = None,
    average: float = 0.0,
    peak: float = 5e-4,
    batch: int = 0,
    start: float | None = None,
) -> Recipe:
    """Shortcut models: one network for steps of every length, told where a step ends.

    steps      steps of the student's plan, a power of two up to `first`
    first      steps of the finest grid, a power of two
    halved     part of the examples, 0 to 1, that learn that one step is two half as long; the rest denoise
    guidance   strength that is built in; as the teacher's plan unless said
    average    decay per step of the weights that make the two steps, for instance 0.999; 0: the student's own
    peak       largest learning rate, of the stages after `matching` (there 0.001)
    batch      images in a training step; 0: as the teacher's
    start      refine the first guess from this ratio of noise to signal on (diffusevae)
    """
    powers_of_two(steps=steps, first=first)
    bounded(2, MOST_STEPS, first=first)
    bounded(0.0, 1.0, halved=halved)
    if steps > first:
        raise UsageError(
            f"{steps} steps are more than the {first} of the finest grid",
            remedy=f"For example: --set first={steps}",
        )
    scale = strength_of(teacher, guidance)
    before, scaling = prepared(teacher, row_of(teacher), 1.0, batch, 0.0, start, scale)
    solver, grid = lazy(Leap)(teacher.data), lazy(Angle)(teacher.data)
    objective = lazy(Shortcut)(
        times_of(teacher),
        lazy(Edm)(teacher.data),
        grid,
        solver,
        first,
        halved,
        teaching_of(teacher, scale, None if before else scaling),
        start,
        average,
    )
    stage = stage_of(teacher, "shortcut", objective, peak, batch, 1.0)
    grown = replace(teacher, model=told_the_end(teacher.model))
    return student_of(grown, scaling, steps, solver, start, (*before, stage))


METHODS: Mapping[str, Callable[..., Recipe]] = {
    method.__name__: method for method in (easy, consistency, continuous, shortcut, progressive)
}
DEFAULT = easy.__name__


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
    before, scaling = prepared(teacher, row, 1.0, batch, dropout, start, scale)
    objective = lazy(SelfConsistency)(
        times_of(teacher),
        spacing,
        pairing,
        average,
        teaching=teaching_of(teacher, scale, None if before else scaling),
        dropout=dropout,
        start=start,
    )
    stage = stage_of(teacher, "consistency", objective, peak, batch, 1.0)
    return student_of(teacher, scaling, steps, lazy(Consistency)(), start, (*before, stage))
