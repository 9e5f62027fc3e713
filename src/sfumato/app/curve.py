"""`curve`: solvers, grids and steps measured on a run, and the plan that is enough written into it.

For each point the same seeds are drawn, timed and compared with the held-out images in the features that
`evaluate` takes first (those of a classifier on the data where there is one). A point is stored when it is
done: the same command goes on where it was stopped. What is recommended is chosen from all points that were
stored under the same conditions, not from those of one command alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import DataError, UsageError
from ..core.shapes import rows_at_once
from ..data.dataset import Dataset
from ..evaluation.features import Features
from ..evaluation.judge import FEWEST as FEWEST_JUDGED
from ..evaluation.protocol import comparable
from ..evaluation.scene import About, Scene
from ..evaluation.steps import Point, many, reason, recommended, usable
from ..models.density import Plan
from ..models.generator import CPU_ROWS
from ..models.given import seeds_of
from .console import Console
from .evaluate import FEWEST, conditions, drawing, labels_like
from .judges import FolderShelf, find_judge, judges
from .names import GRIDS, OPTIMISED, grid_name, grid_of, stepped
from .planning import Recommendation
from .points import read_points, write_points
from .report import write_report
from .run import Run
from .solving import solver_of
from .student import check_curve

SOLVERS = ("ddim", "dpm++2m", "unipc", "heun")
STEPS = (4, 6, 9, 14, 20, 32)


@dataclass(frozen=True)
class Curve:
    """The points that were asked for, and what all points of their protocol recommend."""

    points: tuple[Point, ...]
    advice: Recommendation
    report: Path

    def lines(self) -> list[str]:
        """A line for each point, then the recommendation."""
        told = f"Recommended: {self.advice.words()} ({self.advice.because})."
        return [*(p.line() for p in self.points), told, f"Report: {self.report}"]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "points": [p.to_json() for p in self.points],
            "recommended": self.advice.to_json(),
            "report": str(self.report),
        }


def curve(
    run: Run,
    *,
    solvers: Sequence[str] = (),
    grids: Sequence[str] = (),
    steps: Sequence[int] = (),
    count: int | None = None,
    judge: Path | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> Curve:
    """Measure every solver on every grid at every number of steps; recommend; write the report."""
    console = console or Console()
    check_curve(run.about, run.path)
    ways = _ways(run, solvers, grids, steps)
    train, held_out = run.training, run.unseen("Train again with held-out images: --test.")
    critic = find_judge(run, judge, held_out, console)
    features = judges(run, critic, train)[0][0]
    wanted = min(max(FEWEST, len(held_out)) if count is None else count, len(train))
    if wanted < FEWEST_JUDGED:
        raise UsageError(f"{wanted} samples cannot be judged", remedy=f"Draw at least {FEWEST_JUDGED}.")
    bench = Bench(run, train, held_out, features, wanted, seed, critic)
    for number, (solver, grid, n) in enumerate(ways, 1):
        point = _found(run, bench, solver, grid, n)
        if point is None:
            try:
                point = bench.measure(solver, grid, n)
            except DataError as error:  # one way that diverges says nothing about the others
                told = f"{many(n, 'step')} of {solver} on {grid}: {error.what}"
                console.say(f"{number:>3} of {len(ways)}: {told}")
                continue
            write_points(run, [*read_points(run), point])
        console.say(f"{number:>3} of {len(ways)}: {point.line()}")
    asked = [p for w in ways if (p := _found(run, bench, *w)) is not None]
    like = usable(asked)[0].metric
    known = [p for p in read_points(run) if bench.covers(p) and comparable(like, p.metric) is None]
    chosen = recommended(known)
    advice = Recommendation(chosen.solver, chosen.grid, chosen.steps, run.weights.seen, reason(known))
    run.folder.tell(recommended=advice.to_json())
    run.about["recommended"] = advice.to_json()
    return Curve(tuple(asked), advice, write_report(run))


def _ways(
    run: Run, solvers: Sequence[str], grids: Sequence[str], steps: Sequence[int]
) -> list[tuple[str, str, int]]:
    """Every combination, the quick ones first; UsageError for words that are none."""
    if not stepped(run.generator):
        raise UsageError(
            "this model draws from its prior and decodes, in one step: there is no curve",
            where=run.path,
            remedy="Use a diffusion or diffusevae run.",
        )
    own = grid_name(run.generator.plan.grid)
    grids = list(dict.fromkeys(grids or (own if own in GRIDS else "log-snr", OPTIMISED)))
    for word in grids:
        if word != OPTIMISED:
            grid_of(word)
    for word in solvers:
        solver_of(word)
    for n in steps:
        if n < 1:
            raise UsageError(f"{n} sampling steps", remedy="Give 1 step or more.")
    return [
        (s, g, n)
        for n in sorted(set(steps or STEPS))
        for s in dict.fromkeys(solvers or SOLVERS)
        for g in grids
    ]


def _found(run: Run, bench: Bench, solver: str, grid: str, steps: int) -> Point | None:
    """The point measured before under the same conditions, if there is one."""
    for p in read_points(run):
        if (p.solver, p.grid, p.steps) == (solver, grid, steps) and bench.covers(p):
            return p
    return None


class Bench:
    """What every point of a curve shares: images, features, seeds."""

    def __init__(
        self,
        run: Run,
        train: Dataset,
        held_out: Dataset,
        features: Features,
        count: int,
        seed: int,
        critic: Run | None,
    ) -> None:
        self.run, self.train, self.held_out, self.features = run, train, held_out, features
        self.count, self.seed, self.critic = count, seed, critic
        self.seeds, self.shelf = seeds_of(seed, count), FolderShelf(run.path / "features")
        classed = "label" in run.generator.slots
        self.labels = labels_like(train, count, seed) if classed else None

    def about(self, plan: Plan) -> About:
        """The conditions of a point."""
        return conditions(self.run, self.run.generator, self.critic, self.held_out, plan, self.seed)

    def covers(self, point: Point) -> bool:
        """Whether a point was measured under these conditions."""
        p, here = point.metric.protocol, self.about(self.run.generator.plan)
        mine = (here.data, here.seed, self.count, self.features.label)
        return (p.data, p.seed, p.samples, p.features) == mine

    def measure(self, solver: str, grid: str, steps: int) -> Point:
        """Draw by a plan, time it, compare."""
        plan = self.run.plan(solver=solver, grid=grid, steps=steps)
        generator, size = self.run.generator, rows_at_once(self.run.facts.shape)
        generate = drawing(self.run, generator, plan, self.seeds, self.labels)
        with Counting(generator.density.get_submodule("denoiser")) as calls:
            rows = min(CPU_ROWS, self.count)
            generate(0, rows)  # also the first call, which is slower
        if generator.density.device.type == "cpu":
            rows = CPU_ROWS  # fewer are filled up
        start = time.perf_counter()
        samples = [generate(i, min(size, self.count - i)) for i in range(0, self.count, size)]
        seconds = (time.perf_counter() - start) / self.count
        scene = Scene(
            torch.cat(samples), self.train, self.held_out, self.about(plan), self.shelf, size, 50_000
        )
        return Point(solver, grid, steps, calls.per_row(rows), seconds, scene.distance(self.features))


class Counting:
    """Counts the rows that a denoiser is called with while it is entered."""

    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser, self.rows = denoiser, 0

    def __enter__(self) -> Counting:
        self.handle = self.denoiser.register_forward_hook(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    def _see(self, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        self.rows += len(inputs[0])

    def per_row(self, rows: int) -> float:
        """Calls for one of `rows` images (a batch doubled by guidance counts twice)."""
        return self.rows / rows
