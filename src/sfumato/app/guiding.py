"""Who guides the sampling of a run, from the words of the command line; what cannot be honoured is refused.

--guidance S                    classifier-free: the run against itself without its condition
--guidance S --classifier RUN   a classifier of noisy images, made by `train classifier --set noisy=true`
--guidance S --guide RUN        a worse version: another run, or this one as it was early in training
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ..core.errors import RefusedError, UsageError
from ..evaluation.steps import many
from ..guidance.strength import Interval, within
from ..models.classifier import Classifier, NoisyClassifier
from ..models.codec import Pixels
from ..models.conditioner import Labelled, Unconditional
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.guides import ByClassifier, ByModel, Guide
from ..models.reconstruction import Reconstruction, Shifted
from ..samplers.ancestral import Ancestral
from ..training.choice import EARLY
from ..training.stage import Stage
from ..training.state import unpack
from .opened import Opened


def interval_of(text: str | None) -> Interval | None:
    """LOW,HIGH in log-SNR as two numbers; UsageError for anything else."""
    if text is None:
        return None
    remedy = "Give two log-SNRs, the noisier first: for example --guidance-interval=-2,5."
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"'{text}' is no interval", remedy=remedy) from None
    if math.isnan(low) or math.isnan(high) or not low < high:
        raise UsageError(f"the guidance interval {text} does not go from low to high", remedy=remedy)
    return low, high


def guide_of(run: Opened, classifier: Path | str | None, guide: Path | str | None) -> Guide | None:
    """What guides besides the run itself; UsageError where it cannot, with the reason."""
    if classifier is None and guide is None:
        return None
    if classifier is not None and guide is not None:
        raise UsageError("--classifier and --guide exclude each other", remedy="Give one of them.")
    word = "--classifier" if guide is None else "--guide"
    density = run.generator.density
    if not isinstance(density, Diffusion):
        raise UsageError(
            f"{word} changes nothing here: this model draws from its prior and decodes, in one step",
            remedy=f"Leave {word} out, or use a diffusion or diffusevae run.",
        )
    if not isinstance(run.generator.codec, Pixels):
        raise UsageError(
            f"{word} works on images, and this model's noise is on the codes of its first stage",
            where=run.path,
            remedy="Use --guidance alone, or a run of diffusion or diffusevae.",
        )
    if classifier is not None:
        return _by_classifier(run, Path(classifier))
    assert guide is not None
    return _by_model(run, Path(guide))


def _by_classifier(run: Opened, path: Path) -> Guide:
    """The classifier of a run folder."""
    other = type(run)(path, str(run.device))
    remedy = f"Train one: sfumato train classifier {run.about['data']} --set noisy=true --out NEW_FOLDER"
    if isinstance(other.model, Classifier):
        raise UsageError(
            "this classifier was trained on clean images: of noisy ones it knows nothing",
            where=path,
            remedy=remedy,
        )
    if not isinstance(other.model, NoisyClassifier):
        raise UsageError(f"{path} is no classifier", remedy=remedy)
    _same_data(run, other, "the classifier", remedy)
    if other.model.classes != len(run.facts.classes):
        raise UsageError(
            f"the classifier knows {other.model.classes} classes, the data have {len(run.facts.classes)}",
            where=path,
            remedy=remedy,
        )
    return ByClassifier(other.model, told="label" in run.generator.slots, name=f"the classifier {path.name}")


def _by_model(run: Opened, path: Path) -> Guide:
    """The denoiser of another run, or of this one as it was early in training."""
    other = type(run)(path, str(run.device))
    if path.resolve() == run.path.resolve():
        early(other)
        name = "this run early in training"
    else:
        name = f"the run {path.name}"
    remedy = f"Give a run on the same data, or this run itself: --guide {run.path}"
    model = other.model
    if not isinstance(model, Generator) or not isinstance(model.density, Diffusion):
        raise UsageError(f"{path} is no diffusion model", remedy=remedy)
    if "teacher" in other.about:
        raise UsageError(
            f"{path} is a few-step student, no worse self: its answers are ends of trajectories, not means",
            where=path,
            remedy=remedy,
        )
    _same_data(run, other, "the guide", remedy)
    mine = run.generator
    told = not isinstance(model.conditioner, Unconditional) or isinstance(mine.conditioner, Unconditional)
    if told and _told(mine) != _told(model):
        raise UsageError(
            f"the guide is told {_told(model)}, the run {_told(mine)}: they cannot be compared",
            where=path,
            remedy=remedy,
        )
    if told and path.resolve() != run.path.resolve() and "z" in _told(mine):
        raise UsageError("the guide's z is not that of this run's first stage", where=path, remedy=remedy)
    return ByModel(model.density.denoiser, told=told, name=name)


def _told(generator: Generator) -> str:
    """What a generator's network is told, in words."""
    conditioner = generator.conditioner
    parts = ["the class"] if "label" in conditioner.slots else []
    if isinstance(conditioner, Reconstruction):
        shifted = any(isinstance(m, Shifted) for m in generator.density.modules())
        parts.append("a reconstruction" + (" in a shifted frame" if shifted else ""))
        parts += ["z"] if conditioner.give_z else []
    elif not parts and not isinstance(conditioner, Unconditional):
        parts.append(type(conditioner).__name__)
    return " and ".join(parts) or "nothing"


def _same_data(run: Opened, other: Opened, what: str, remedy: str) -> None:
    """UsageError unless both were trained on the same images in the same form."""
    mine, its = run.facts, other.facts
    for name, a, b in (
        ("images", mine.words, its.words),
        ("values", f"{mine.low:g} to {mine.high:g}", f"{its.low:g} to {its.high:g}"),
        ("classes", ", ".join(mine.classes), ", ".join(its.classes)),
        ("data", run.about["data"], other.about["data"]),
    ):
        if a != b and not (name == "data" and run.about["fingerprint"] == other.about["fingerprint"]):
            raise UsageError(
                f"{what} was trained on other {name}: {b or 'none'}, not {a or 'none'}",
                where=other.path,
                remedy=remedy,
            )
    if run.about["fingerprint"] != other.about["fingerprint"]:
        raise UsageError(
            f"{what} was trained on other data under the same name", where=other.path, remedy=remedy
        )


@torch.no_grad()
def early(run: Opened) -> None:
    """Put the early average that training kept into a run's model; RefusedError where there is none."""
    state = run.model.state_dict()
    for stage in reversed(run.recipe.stages):
        if not isinstance(stage, Stage):
            continue
        for files in run.folder.load_averages(stage.name).values():
            if EARLY in files:
                for name, value in unpack(files[EARLY], None, EARLY).items():
                    state[name].copy_(value)
                return
    raise RefusedError(
        "no early average of this run is kept",
        where=run.path,
        remedy="Runs keep one when a stage ends. Give a smaller or less trained run: --guide OTHER_RUN",
    )


def check_guidance(
    run: Opened,
    plan: Plan,
    *,
    guidance: float | None,
    interval: Interval | None,
) -> None:
    """UsageError for guidance that would change nothing, or that the run was not trained for."""
    generator, guide = run.generator, plan.guide
    classed = isinstance(guide, ByClassifier) and not guide.told
    if guide is not None and plan.scale == 1.0 and not classed:
        word = "--classifier" if isinstance(guide, ByClassifier) else "--guide"
        raise UsageError(
            f"{word} changes nothing at guidance 1, which is the run itself",
            remedy="Give a scale above 1, for example --guidance 2.",
        )
    if guide is None and guidance is not None and isinstance(generator.conditioner, Unconditional):
        raise UsageError(
            "--guidance changes nothing here: this model's sampling has no condition to be guided by",
            remedy="Give a classifier of noisy images (--classifier RUN) or a worse version (--guide RUN), "
            "or train with --set conditional=true.",
        )
    if guide is None and plan.scale != 1.0:
        check_dropped(
            run, "Give a classifier of noisy images (--classifier RUN) or a worse version (--guide RUN)."
        )
    if interval is not None and plan.scale == 1.0:
        raise UsageError(
            "--guidance-interval changes nothing at guidance 1",
            remedy="Give a scale with it, for example --guidance 2.",
        )


def check_interval(run: Opened, plan: Plan) -> None:
    """UsageError for an interval that holds no level at which the plan's solver asks to be guided."""
    density, interval = run.generator.density, plan.interval
    if interval is None or not isinstance(density, Diffusion):
        return
    visited = [float(level.log_snr) for level in density.levels(plan)[:-1]]
    if isinstance(plan.guide, ByClassifier) and isinstance(plan.solver, Ancestral):
        visited = visited[:-1] or visited  # a step to clean data has no noise to shift
    if any(within(interval, log_snr) for log_snr in visited):
        return
    low, high = interval
    near = min(visited, key=lambda log_snr: max(low - log_snr, log_snr - high))
    raise UsageError(
        f"--guidance-interval {low:g},{high:g} leaves no guidance: no level that this plan visits lies in it",
        where=f"{many(plan.steps, 'level')} of log-SNR {visited[0]:.4g} to {visited[-1]:.4g}",
        remedy=f"Widen it as far as the nearest, {near:.4g}, or take more steps.",
    )


def check_dropped(run: Opened, remedy: str) -> None:
    """UsageError for classifier-free guidance of a run that never learned to do without its condition."""
    if _never_dropped(run):
        raise UsageError(
            "this run was trained without ever leaving its condition out: it has no unconditional answer "
            "to guide away from",
            where=run.path,
            remedy=remedy,
        )


def _never_dropped(run: Opened) -> bool:
    """Whether the last stage that drops conditions at all drops none."""
    shares = [getattr(s.objective, "dropout", None) for s in run.recipe.stages if isinstance(s, Stage)]
    known = [share for share in shares if share is not None]
    return bool(known) and known[-1] == 0.0


def sampler(run: Opened, plan: Plan) -> Generator:
    """The generator to sample by a plan: with classes for a guide that knows them where the run does not."""
    here = run.generator
    if not isinstance(plan.guide, ByClassifier) or plan.guide.told:
        return here
    return Generator(here.codec, here.density, Labelled(here.conditioner, len(run.facts.classes)), here.plan)
