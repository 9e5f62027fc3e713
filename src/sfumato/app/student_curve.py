"""How good a student is, by network calls, beside its teacher: one table, one plot, pictures.

    Frechet distance to held-out images, in the most telling features at hand
        student            its own solver at 1, 2 and 4 calls; after rounds of halving, each round's student
        teacher, ddim      at 1, 2, 4, 8, 10 and 50
        teacher, best      the best of UniPC, DPM-Solver++ and Heun at no more calls

The teacher is asked for what the student was taught: with the guidance that the student has built in, and
from the same start. A call is one evaluation of the network for an image. Where guidance is on a step takes
two of them, so a guided teacher makes half as many steps at the same calls, and has no row at 1.

All samples have the same seeds and classes, and all distances the same count and features, so they can be
compared; which of them can be told apart is another matter (step_table.py), and said. The table is steps.json
in the run's folder; pictures show teacher and student for the same seeds. Where the teacher is gone its rows
are those measured before, if by the same protocol.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.lazy import load
from ..core.stable import Scalar
from ..data.dataset import Dataset
from ..diffusion.schedule import Until
from ..evaluation.features import Features, extract
from ..evaluation.frechet import frechet
from ..guidance.strength import Strength
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.given import Given, seeds_of
from ..objectives.denoising import diffusion_of
from ..objectives.progressive import Progressive
from ..recipes.taught import taught
from ..report import grid
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.grids import Angle, Grid, Karras, LogSnr
from ..samplers.heun import Heun
from ..samplers.leap import Leap
from ..samplers.multistep import DpmPlusPlus2M
from ..samplers.solver import Solver
from ..samplers.unipc import UniPC
from ..training.stage import Stage
from ..training.storage import to_json
from .catalog import CATALOG
from .console import Console
from .evaluate import labels_like
from .judges import find_judge, judges
from .names import plan_line
from .progress import Pace
from .run import Run
from .step_table import STEPS, Row, StepTable, doubts, lines, read_steps
from .student import built_in, finest
from .weights import fill_ended

CALLS = (1, 2, 4, 8, 10, 50)
FEWEST, MOST = 200, 2000  # samples
LEAST = 10  # held-out images
PART = 0.1  # of the training's time
SHOWN = 8  # images a row of the picture
PICTURE = "teacher-student"


@dataclass(frozen=True)
class Way:
    """A way to sample: a generator with a plan, under a name."""

    who: str
    sampler: str
    calls: int
    generator: Generator
    plan: Plan


def compare_steps(
    run: Run,
    teacher: Run | None,
    *,
    judge: Path | None = None,
    count: int | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> StepTable:
    """Measure a student and its teacher (None: it is gone); writes steps.json and a picture.

    count: samples of each row; None: as many as are affordable, or as the rows of a teacher that is gone.
    """
    console = console or Console()
    ways = [*students(run), *(teachers(teacher, run) if teacher is not None else ())]
    held_out, train = run.data.held_out, run.training
    if len(held_out) < LEAST:
        console.say(f"No table of steps: {len(held_out)} images are held out, and it takes {LEAST}.")
        return StepTable()
    before = read_steps(run.path) if teacher is None else StepTable()
    critic = find_judge(run, judge, held_out, console)
    found, _ = judges(run, critic, train)
    features, number = found[0], count or before.protocol.get("samples") or affordable(run, ways)
    if count is not None and count > len(train):
        console.say(f"{count:,} samples are more than there are training images: {len(train):,} are drawn.")
    number = min(number, len(train))
    given = Given()
    if "label" in run.generator.slots:
        given = Given(label=labels_like(train, number, seed))
    who = "Measuring the student" if teacher is None else "Comparing with the teacher"
    console.say(f"{who}: {number:,} samples in each of {len(ways)} ways ...")
    real = real_features(features, held_out)
    rows, pace = [], Pace(console, sum(way.calls for way in ways), "network calls an image made")
    for way in ways:
        rows.append(measured(way, run, features, real, given, number, seed))
        pace.drew(way.calls)
    protocol = {"features": features.label, "samples": number, "reference": len(held_out), "seed": seed}
    table = StepTable(protocol, (*least(rows), *kept(before, protocol, console)))
    run.folder.disk.replace(run.path / STEPS, to_json(table.to_json()))
    same = set(map(_quality, rows)) <= set(map(_quality, before.rows))
    shown = run.path / "samples" / f"{PICTURE}.png"
    if not (teacher is None and same and shown.exists()):  # else it holds, and shows the teacher too
        run.folder.disk.replace(shown, picture(run, teacher, seed))
    console.say(*lines(table), *doubts(table, len(train)))
    return table


def least(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with the best of the teacher's solvers of second order alone, at each number of calls."""
    best = [row for row in rows if row.sampler not in ("ddim", "student")]
    others = [row for row in rows if row not in best]
    for calls in CALLS:
        if same := [row for row in best if row.calls == calls]:
            others.append(min(same, key=lambda r: r.frechet))
    return tuple(others)


def kept(before: StepTable, protocol: Mapping[str, Any], console: Console) -> tuple[Row, ...]:
    """The teacher's rows of a table measured by the same protocol; whether they are kept is said."""
    rows = tuple(row for row in before.rows if row.who == "teacher")
    if rows and before.protocol != protocol:
        was = f"{before.protocol['samples']:,} samples by {before.protocol['features']}"
        console.say(
            f"The teacher is gone, and its rows ({was}) cannot stand beside these: they are left out."
        )
        return ()
    if rows:
        console.say("The teacher is gone: its rows are those that were measured before.")
    return rows


def _quality(row: Row) -> tuple[str, int, float]:
    """What a row says of its sampler, whatever the clock said."""
    return row.who, row.calls, row.frechet


# ----------------------------------------------------------------------------------- ways to sample


def students(run: Run) -> Iterator[Way]:
    """The student at 1, 2 and 4 calls if it can; of rounds, each one's whose weights are still kept."""
    generator, plan = run.generator, run.generator.plan
    if isinstance(plan.solver, (Consistency, Leap)):
        for calls in (n for n in (1, 2, 4) if n <= (finest(run.recipe) or n)):
            yield Way("student", "student", calls, generator, replace(plan, steps=calls))
        return
    for stage in reversed(run.recipe.stages):
        if isinstance(stage, Stage) and isinstance(stage.objective, Progressive):
            steps = stage.objective.steps
            former = generator if steps == plan.steps else _after(run, stage)
            if former is not None:
                yield Way("student", "student", steps, former, replace(plan, steps=steps))


def _after(run: Run, stage: Stage) -> Generator | None:
    """The generator with the weights a stage ended with and the next learned from; None if they are gone."""
    generator = deepcopy(run.generator)
    return generator if fill_ended(generator, run.folder, stage) else None


def teachers(run: Run, student: Run | None = None) -> Iterator[Way]:
    """The teacher by DDIM and by solvers of second order, each with the most steps that the calls allow.

    As a student of it was taught; None: guided and started as its own plan says.
    """
    generator, plan = run.generator, _asked(run, student)
    _, density = diffusion_of(generator)
    angle = Angle(_deviation(run))
    ways: list[tuple[str, Solver[Any], Grid]] = [
        ("ddim", Ddim(), angle),
        ("unipc", UniPC(), LogSnr()),
        ("dpm++2m", DpmPlusPlus2M(), angle),
        ("heun", Heun(), Karras()),
    ]
    for name, solver, steps in ways:
        for calls in CALLS:
            if name == "heun" and calls < 8:
                continue
            for n in range(calls, 0, -1):
                way = replace(plan, steps=n, solver=solver, grid=steps)
                if evaluations(density, way) <= calls:
                    yield Way("teacher", name, calls, generator, way)
                    break


def evaluations(density: Diffusion, plan: Plan) -> int:
    """How often a plan evaluates the network for an image: twice where it is guided, n and n - 1 by Heun."""
    again = isinstance(plan.solver, Heun)
    strength = Strength(plan.scale, plan.interval)
    if plan.interval is None:
        return (2 * plan.steps - 1 if again else plan.steps) * _models(plan.scale)
    schedule = density.schedule if plan.start is None else Until(density.schedule, plan.start)
    levels = plan.grid.levels(schedule, plan.steps)[:-1]
    return sum(_models(strength.at(level)) for level in [*levels, *(levels[1:] if again else ())])


def _models(scale: Scalar) -> int:
    """How many answers guidance takes: one where that of a single model is the whole of it."""
    return 1 if scale in (0.0, 1.0) else 2


def _asked(teacher: Run, student: Run | None) -> Plan:
    """The teacher's plan with the guidance and the start of a student."""
    plan = teacher.generator.plan
    if student is None:
        return plan
    built = built_in(student.recipe)
    start = student.generator.plan.start
    return replace(plan, scale=built.scale, interval=built.interval, start=start)


def _deviation(run: Run) -> float:
    """The standard deviation of what a teacher makes, as its students have it."""
    return taught(load(run.folder.read("recipe.json"), CATALOG), run.facts).data


# ----------------------------------------------------------------------------------- measuring


def affordable(run: Run, ways: list[Way]) -> int:
    """How many samples a tenth of the training's time buys, 200 to 2,000."""
    probe = next(way for way in ways if way.who == "student")
    start = time.perf_counter()
    probe.generator.sample(64, probe.plan, _first_class(run, 64), seeds=seeds_of(0, 64))
    each = (time.perf_counter() - start) / 64 / probe.calls
    total = sum(way.calls for way in ways)
    return int(min(MOST, max(FEWEST, PART * 3600 * run.weights.hours / (each * total))))


def _first_class(run: Run, count: int) -> Given:
    return Given(label=torch.zeros(count, dtype=torch.int64)) if "label" in run.generator.slots else Given()


def real_features(features: Features, part: Dataset) -> Any:
    """The features of all images of a part."""
    size = 256
    spans = (range(i, min(i + size, len(part))) for i in range(0, len(part), size))
    return extract(features, (part.batch(span).x for span in spans))


def measured(way: Way, run: Run, features: Features, real: Any, given: Given, count: int, seed: int) -> Row:
    """Draw samples in one way, time them, and measure their distance to features of real images."""
    start = time.perf_counter()
    x = way.generator.sample(count, way.plan, given, seeds=seeds_of(seed, count))
    seconds = (time.perf_counter() - start) / count
    mine = extract(features, run.rounded(x).cpu().split(256))
    distance = frechet(mine, real)
    line = plan_line(way.generator, way.plan)
    return Row(way.who, way.sampler, way.calls, distance.value, distance.spread, seconds, line)


# ----------------------------------------------------------------------------------- pictures


def picture(run: Run, teacher: Run | None, seed: int) -> bytes:
    """Teacher and student for the same seeds and classes, a row for each number of calls."""
    generator, seeds = run.generator, seeds_of(seed, SHOWN)
    given = generator.draw(seeds)  # labels, z and x_T that both start from
    known = Given(label=given.label, z=given.z)

    def row(who: Generator, plan: Plan) -> Tensor:
        return who.sample(SHOWN, plan, known, seeds=seeds).cpu()

    rows: list[tuple[str, Tensor]] = []
    if teacher is not None:
        whole = _asked(teacher, run)
        rows.append((f"teacher: {plan_line(teacher.generator, whole)}", row(teacher.generator, whole)))
        rows += [
            (f"{way.who}: {plan_line(way.generator, way.plan)}", row(way.generator, way.plan))
            for way in teachers(teacher, run)
            if way.sampler == "ddim" and way.calls in (1, 2, 4)
        ]
    rows += [(f"{w.who}: {plan_line(w.generator, w.plan)}", row(w.generator, w.plan)) for w in students(run)]
    sheets = [grid.side_by_side([grid.grid(x, run.facts, columns=SHOWN)], [name]) for name, x in rows]
    return grid.png(grid.stack(sheets, gaps=[10] * len(sheets)))
