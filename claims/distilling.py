"""What the claims about few steps share: a teacher, its students, and their distances by network calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from sfumato.app.console import Console
from sfumato.app.distill import distill
from sfumato.app.evaluate import labels_like
from sfumato.app.judges import judges
from sfumato.app.run import Run
from sfumato.app.student_curve import Way, measured, real_features, students, teachers
from sfumato.app.train import Budget, train
from sfumato.models.given import Given

from .harness import Claim
from .style import colour, figure, tidy

QUIET = Console(silent=True)
SOLVERS = ("unipc", "dpm++2m")  # the teacher's, besides DDIM
TAUGHT = 1920  # examples of a teacher in a quick run: fewer teach nothing, and are refused


def spent(out: Path, work: Callable[[], Run]) -> tuple[Run, float]:
    """A run, and the seconds of the whole command, in all the calls until it was done.

    Of the processor where there is no GPU: what else the machine does then does not count. A call that was
    killed is not told of: such a run must be made anew, and one that ended without its seconds is refused.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    kept = out.with_name(f"{out.name}.seconds")
    before, start = float(kept.read_text()) if kept.exists() else 0.0, clock()
    finished = (out / "report.html").exists()
    if (finished or (out / "checkpoints").exists()) and not kept.exists():
        raise RuntimeError(f"what {out.name} has cost is not known; remove {out} and run again")
    try:
        run = work()
    finally:
        if not finished:
            before += clock() - start
            kept.write_text(repr(before))
    return run, before


class Lab:
    """A judge, a teacher and students on one data set and seed; distances are recorded as "NAME at CALLS"."""

    def __init__(
        self,
        claim: Claim,
        data: str,
        *,
        recipe: str,
        examples: int,
        judge: int,
        seed: int,
        count: int,
        settings: Mapping[str, Any] | None = None,
        **asked: Any,
    ) -> None:
        self.claim, self.seed, self.count = claim, seed, 60 if claim.quick else count
        self.judge = claim.train("classifier", data, examples=judge, name="judge", **asked)
        budget = Budget(examples=max(claim.examples(examples), TAUGHT))
        out = claim.folder / f"{recipe}-seed{seed}"
        words: dict[str, Any] = {"console": QUIET, "looks": 1} | asked
        self.teacher, self.seconds = spent(
            out,
            lambda: train(recipe, data, out=out, budget=budget, settings=settings, seed=seed, **words),
        )
        self.features = judges(self.teacher, self.judge, self.teacher.training)[0][0]
        self.real = real_features(self.features, self.teacher.data.held_out)

    def student(
        self, method: str, examples: int, settings: Mapping[str, Any] | None = None, name: str = ""
    ) -> Run:
        """A student of the teacher, without a table of its own; name: tells apart students of one method.

        Its time is recorded as a part of its teacher's.
        """
        words: dict[str, Any] = {"console": QUIET, "looks": 1, "judged": 0, "seed": self.seed}
        budget = Budget(examples=self.claim.examples(examples))
        out = self.claim.folder / f"{self.teacher.path.name}-{name or method}"
        student, seconds = spent(
            out,
            lambda: distill(self.teacher.path, method, out=out, budget=budget, settings=settings, **words),
        )
        part = seconds / max(self.seconds, 1e-9)
        self.claim.record(f"time of {name or method}", part, seed=self.seed, unit="of the teacher's")
        return student

    def measure(self, name: str, ways: Iterable[Way], run: Run) -> dict[int, float]:
        """{calls: distance} of some ways to sample, recorded under a name."""
        found = {}
        for way in ways:
            given = Given()
            if "label" in run.generator.slots:
                given = Given(label=labels_like(run.training, self.count, self.seed))
            row = measured(way, run, self.features, self.real, given, self.count, self.seed)
            found[way.calls] = row.frechet
            self.claim.record(f"{name} at {way.calls}", row.frechet, seed=self.seed)
            self.claim.record(took(name, way.calls), 1e3 * row.seconds, seed=self.seed, unit="ms")
        return found

    def teachers(self, sampler: str, calls: Sequence[int], wanted: Run | None = None) -> list[Way]:
        """The teacher's ways by one sampler at some calls."""
        return [w for w in teachers(wanted or self.teacher) if w.sampler == sampler and w.calls in calls]


def took(name: str, calls: int) -> str:
    """The record of a sampler's time for an image, drawn in batches, on the clock of the wall."""
    return f"time an image, {name} with {calls}"


def calls_table(claim: Claim, names: Sequence[str]) -> list[dict[str, object]]:
    """A row for each sampler and number of calls: mean over seeds and spread."""
    rows: list[dict[str, object]] = []
    for name in names:
        heads = [r["name"] for r in claim.records if str(r["name"]).startswith(f"{name} at ")]
        for head in dict.fromkeys(heads):
            calls = int(head.rpartition(" ")[2])
            mean, spread = claim.mean(head), claim.spread(head)
            distance, time_of = f"{mean:.3f} ± {spread:.3f}", claim.mean(took(name, calls))
            rows.append(
                {"sampler": name, "calls": calls, "Frechet": distance, "ms an image": f"{time_of:.2f}"}
            )
    return rows


def calls_figure(claim: Claim, names: Sequence[str]) -> Figure:
    """Distance over network calls, a line for each sampler, mean and spread over seeds."""
    picture, axes = figure(6.4, 3.8)
    for k, name in enumerate(names):
        heads = list(
            dict.fromkeys(r["name"] for r in claim.records if str(r["name"]).startswith(f"{name} at "))
        )
        points = sorted((int(h.rpartition(" ")[2]), claim.mean(h), claim.spread(h)) for h in heads)
        x, y, error = zip(*points, strict=True)
        axes.errorbar(
            x, y, yerr=error, color=colour(k), marker="o", markersize=4, lw=1.4, capsize=2, label=name
        )
    axes.set(xscale="log", yscale="log", xlabel="network calls", ylabel="Fréchet distance")
    axes.legend(frameon=False, fontsize=8.5)
    return tidy(picture)


def contest(
    claim: Claim,
    labs: Iterable[Lab],
    methods: Mapping[str, tuple[str, int, Mapping[str, Any]]],
    best: Sequence[str] = SOLVERS,
) -> tuple[str, ...]:
    """Students by several methods beside their teacher: recorded, as a table and a plot; the samplers' names.

    methods: {name: (method, examples, settings)}; best: the teacher's solvers besides DDIM.
    """
    names: tuple[str, ...] = ()
    for lab in labs:
        lab.measure("teacher, DDIM", lab.teachers("ddim", (1, 2, 4, 8, 10, 50)), lab.teacher)
        for solver in best:
            lab.measure(f"teacher, {solver}", lab.teachers(solver, (2, 4, 8, 10, 50)), lab.teacher)
        for name, (method, examples, settings) in methods.items():
            student = lab.student(method, examples, settings, name)
            lab.measure(name, [way for way in students(student) if way.calls <= 4], student)
        names = (*methods, "teacher, DDIM", *(f"teacher, {solver}" for solver in best))
    claim.table("Fréchet distance by network calls, mean and spread over seeds", calls_table(claim, names))
    claim.table(
        "Time of distillation",
        [{"method": name, "part of the teacher's": claim.mean(f"time of {name}")} for name in methods],
    )
    claim.figure("calls", calls_figure(claim, names))
    return names


def goals(claim: Claim, methods: Sequence[str]) -> None:
    """What a good student is, checked for the best at two calls of those that took less than a third.

    Where none took so little, for the best of all.
    """
    quick = [name for name in methods if claim.mean(f"time of {name}") < 1 / 3]
    two = {name: claim.mean(f"{name} at 2") for name in quick or methods}
    name = min(two, key=lambda n: two[n])
    theirs = ("DDIM", *SOLVERS)
    fifty, eight = (min(claim.mean(f"teacher, {s} at {calls}") for s in theirs) for calls in (50, 8))
    part = claim.mean(f"time of {name}")
    claim.check(
        f"at 2 calls the best student ({name}) has {two[name]:.3f}, at most 1.2 times the teacher's "
        f"{fifty:.3f} at 50",
        two[name] <= 1.2 * fifty,
    )
    claim.check(f"that is below the teacher's best solver at 8 calls, {eight:.3f}", two[name] < eight)
    claim.check(
        f"its distillation took {part:.2f} of the teacher's training, less than a third", part < 1 / 3
    )
