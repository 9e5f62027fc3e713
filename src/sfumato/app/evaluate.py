"""`evaluate`: the samples of a run judged, each number with its protocol and beside real data's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.noise import seed_of
from ..core.shapes import rows_at_once
from ..data.dataset import Dataset
from ..evaluation.features import fingerprint_of
from ..evaluation.judge import Generate, Judgement, check_enough
from ..evaluation.judge import evaluate as judged
from ..evaluation.protocol import Metric
from ..evaluation.scene import About
from ..evaluation.store import Shelf
from ..models.density import Plan
from ..models.generator import Generator
from ..models.given import Given, seeds_of
from ..report import grid
from .bounds import Asked, bound_metrics, check, vlb_metrics
from .codes import code_metrics
from .console import Console
from .conversions import conversions, resampling
from .guiding import sampler
from .judges import FolderShelf, commit, find_judge, hardware, judges
from .kept import Kept, Told
from .latents import latent_metrics
from .names import plan_line
from .planning import plan_origin
from .probabilities import check_probabilities
from .progress import Pace
from .report import EVALUATION, evaluation_json, write_report
from .run import Run

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
    draws: int | None = None,
    bound: str | None = None,
    seed: int = 0,
    console: Console | None = None,
    **asked: Any,
) -> Evaluation:
    """Judge a run's samples against unseen images; writes evaluation.json and the report.

    draws: of the importance-weighted bound. bound: ode or vlb, bits/dim of unseen images under a diffusion.
    test: unseen images from elsewhere, for which the run's own held-out part need not be there.
    """
    console = console or Console()
    if bound is not None:
        check(run, Asked(bound, seed=seed))  # refuses, before any work, what has no such bound
    if draws is not None:
        run.latent()
    plan = run.plan(**asked)
    generator = sampler(run, plan)
    train, held_out = run.training, run.data.held_out if test is None else run.fitting(test).mixed()
    check_probabilities(run.model, held_out)
    critic = find_judge(run, judge, held_out, console)
    features, notes = judges(run, critic, train)
    notes += provenance(run, test, held_out, train)
    wanted = min(max(FEWEST, len(held_out)) if count is None else count, len(train))
    check_enough(len(train), len(held_out), wanted)
    if count is not None and wanted < count:
        notes.append(f"{wanted:,} samples and not {count:,}: as many as there are training images.")
    labels = labels_like(train, wanted, seed) if "label" in generator.slots else None
    if labels is not None:
        notes.append("Samples have classes as often as the training images have them.")
    seeds = seeds_of(seed, wanted)
    console.say(f"Drawing {wanted:,} samples: {plan_line(generator, plan)}{plan_origin(run, **asked)} ...")

    about, shelf = (
        conditions(run, generator, critic, held_out, plan, seed),
        FolderShelf(run.path / "features"),
    )
    judgement = judged(
        drawing(run, generator, plan, seeds, labels, Pace(console, wanted)),
        train,
        held_out,
        features,
        about,
        count=wanted,
        classifier=None if critic is None else critic.model,
        wanted=labels if critic is not None and critic.facts.classes == run.facts.classes else None,
        shelf=shelf,
        batch=rows_at_once(run.facts.shape),
    )
    bits, why = unsampled(run, held_out, about, shelf, draws=draws, bound=bound, seed=seed)
    metrics, notes = [*judgement.metrics, *bits], [*judgement.notes, *notes, *why]
    neighbours(run, judgement, train)
    run.folder.disk.replace(run.path / EVALUATION, evaluation_json(metrics, notes))
    return Evaluation(tuple(metrics), tuple(notes), write_report(run))


def unsampled(
    run: Run,
    held_out: Dataset,
    about: About,
    shelf: Shelf,
    *,
    draws: int | None = None,
    bound: str | None = None,
    seed: int = 0,
) -> Told:
    """Bounds, latents and codes of unseen images: numbers that no plan changes, computed once and kept."""
    kept = Kept(run, held_out, about, shelf)
    bits, why = kept.told(f"latents {draws}", lambda: latent_metrics(run, held_out, about, draws, seed))
    codes, reason = kept.told("codes", lambda: code_metrics(run, held_out, about))
    vlb, refusal = kept.told("vlb", lambda: vlb_metrics(run, held_out, about, seed))
    bits, why = [*bits, *vlb], [*why, *refusal]
    if bound is not None and not (bound == "vlb" and vlb):
        more, told = kept.told(f"bound {bound}", lambda: bound_metrics(run, held_out, about, bound, seed))
        bits, why = [*bits, *more], [*why, *told]
    return [*bits, *codes], [*why, *reason]


def drawing(
    run: Run,
    generator: Generator,
    plan: Plan,
    seeds: Sequence[int],
    labels: Tensor | None,
    pace: Pace | None = None,
) -> Generate:
    """Samples by position, as files of the data's depth hold them: what is judged is what a user gets."""

    def generate(first: int, number: int) -> Tensor:
        rows = slice(first, first + number)
        given = Given() if labels is None else Given(label=labels[rows])
        drew = None if pace is None else pace.drew
        x = generator.sample(number, plan, given, seeds=seeds[rows], batch=number, drew=drew)
        return run.rounded(x).cpu()

    return generate


def conditions(
    run: Run, generator: Generator, critic: Run | None, held_out: Dataset, plan: Plan, seed: int
) -> About:
    """What every number must carry: the data and the held-out images among them, plan, seed and machine.

    The held-out images enter by the hashes of their contents: two evaluations are alike only if they
    judged by the same ones, wherever they came from.
    """
    unseen = fingerprint_of(np.sort(held_out.hashes).tobytes())
    labelled = ", classes as in training" if "label" in generator.slots else ""
    return About(
        data=f"{run.about['fingerprint']}/{unseen}",
        seed=str(seed),
        plan=plan_line(generator, plan) + labelled,
        hardware=hardware(run.device),
        commit=commit(),
        classes=run.facts.classes if critic is None else critic.facts.classes,
        resize=resampling(held_out),
    )


def labels_like(train: Dataset, count: int, seed: int) -> Tensor:
    """(count,) the labels of a random choice of training images, without repetition, by the seed.

    So the classes are as common as in training, by the same chance as among the training images whose
    distance is the floor: judged is how a model draws a class, not how often it was asked for it.
    """
    ids = train.label_ids
    if ids is None:
        raise DataError(
            "the training data of this class-conditional run have no labels",
            where=train.facts.source,
            remedy="Put back the folder's classes, or the table that --labels named.",
        )
    order = np.random.default_rng(seed_of("labels", seed)).permutation(len(ids))
    return torch.from_numpy(ids[order[:count]])


def provenance(run: Run, test: str | None, held_out: Dataset, train: Dataset) -> list[str]:
    """What a reader must know about the held-out images: conversions, overlap, what else they decided."""
    told = [] if test is None else conversions(held_out)
    if shared := len(np.intersect1d(train.hashes, held_out.hashes)):
        told.append(
            f"{shared:,} of the {len(held_out):,} held-out images are also training images: "
            "numbers that compare with unseen images are too good."
        )
    if test in (None, run.about.get("test")):
        told.append(
            "The held-out images also chose among the averages and checkpoints of the weights, so these "
            "numbers may be slightly too good. For images that chose nothing: --test."
        )
    return told


def neighbours(run: Run, judgement: Judgement, train: Dataset) -> None:
    """Draw the likeliest copies over the training images they resemble."""
    pairs: Sequence[tuple[int, int]] = judgement.pairs[:PANEL]
    if not pairs or not run.facts.space:
        return
    mine = judgement.samples[[i for i, _ in pairs]]
    real = train.batch([j for _, j in pairs]).x
    picture = grid.png(grid.over(mine, real, run.facts))
    run.folder.disk.replace(run.path / "samples" / "neighbours.png", picture)
