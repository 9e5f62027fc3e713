"""`evaluate`: the samples of a run judged, each number with its protocol and beside real data's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..data.dataset import Dataset
from ..evaluation.bits import bounds
from ..evaluation.judge import Judgement
from ..evaluation.judge import evaluate as judged
from ..evaluation.protocol import Metric, Protocol
from ..evaluation.scene import About
from ..models.generator import Generator
from ..models.given import Given, seeds_of
from ..models.vae import Vae
from ..report import grid
from .console import Console
from .judges import FolderShelf, commit, find_judge, hardware, judges
from .names import plan_line
from .report import EVALUATION, evaluation_json, write_report
from .run import Run, batches

FEWEST = 1000
PANEL = 16  # the likeliest copies, drawn


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a run and what they mean in words."""

    metrics: tuple[Metric, ...]
    notes: tuple[str, ...]
    report: Path

    def lines(self) -> list[str]:
        """One line a metric, each complete with its protocol; then the findings."""
        return [*(m.line() for m in self.metrics), *self.notes, f"Report: {self.report}"]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "metrics": [m.to_json() for m in self.metrics],
            "notes": list(self.notes),
            "report": str(self.report),
        }


def evaluate(
    run: Run,
    *,
    count: int | None = None,
    judge: Path | None = None,
    test: str | None = None,
    seed: int = 0,
    console: Console | None = None,
    **asked: Any,
) -> Evaluation:
    """Judge a run's samples against unseen images; writes evaluation.json and the report."""
    console = console or Console()
    generator, plan = run.generator, run.plan(**asked)
    train, held_out = run.data
    if test is not None:
        held_out = run.fitting(test)
    critic = find_judge(run, judge)
    if critic is None:
        console.say(
            "No classifier run on these data was found beside this run: judging by image statistics alone.",
            f"  For sharper numbers: sfumato train classifier {run.about['data']}",
        )
    features, classifier = judges(run, critic, train)
    wanted = min(count or max(FEWEST, len(held_out)), len(train))
    labels = torch.arange(wanted) % max(len(run.facts.classes), 1) if "label" in generator.slots else None
    seeds = seeds_of(seed, wanted)
    console.say(f"Drawing {wanted:,} samples ({plan_line(generator, plan)}) ...")

    def generate(first: int, number: int) -> Tensor:
        rows = slice(first, first + number)
        given = Given() if labels is None else Given(label=labels[rows])
        x = generator.sample(number, plan, given, seeds=seeds[rows])
        # what is judged is what a user gets: images of the data's depth
        return run.rounded(x).cpu()

    about = About(
        data=run.about["fingerprint"],
        seed=str(seed),
        plan=plan_line(generator, plan),
        hardware=hardware(run.device),
        commit=commit(),
        classes=run.facts.classes,
    )
    judgement = judged(
        generate,
        train,
        held_out,
        features,
        about,
        count=wanted,
        classifier=classifier,
        wanted=labels,
        shelf=FolderShelf(run.path / "features"),
    )
    metrics, notes = [*judgement.metrics], [*judgement.notes]
    bits, why = likelihood(run, held_out, about)
    metrics += bits
    notes += why
    neighbours(run, judgement, train)
    run.folder.disk.replace(run.path / EVALUATION, evaluation_json(metrics, notes))
    return Evaluation(tuple(metrics), tuple(notes), write_report(run))


def likelihood(run: Run, held_out: Dataset, about: About) -> tuple[list[Metric], list[str]]:
    """The bounds of the first stage in bits/dim, or the reason why there are none."""
    try:
        _, vae = run.latent()
    except UsageError:
        return [], []
    assert isinstance(vae, Vae)
    count = min(len(held_out), 2000)
    protocol = Protocol(
        about.data,
        "held-out",
        count,
        count,
        "",
        seed=about.seed,
        hardware=about.hardware,
        commit=about.commit,
        precision="float32",
    )
    try:
        found = bounds(vae, (b.x for b in batches(held_out, count, run.device)), run.facts.levels, draws=16)
    except UsageError as error:
        return [], [f"Bits per dimension are not reported: {error.what}."]
    name = "VAE" if isinstance(run.model, Generator) and run.model.codec is vae else "first stage"
    return [
        Metric(f"{bound.name} ({name})", bound.bits.value, bound.bits.spread, protocol, unit=bound.unit)
        for bound in found
    ], []


def neighbours(run: Run, judgement: Judgement, train: Dataset) -> None:
    """Draw the likeliest copies over the training images they resemble."""
    pairs: Sequence[tuple[int, int]] = judgement.pairs[:PANEL]
    if not pairs or not run.facts.space:
        return
    mine = judgement.samples[[i for i, _ in pairs]]
    real = train.batch([j for _, j in pairs]).x
    picture = grid.png(grid.over(mine, real, run.facts))
    run.folder.disk.replace(run.path / "samples" / "neighbours.png", picture)
