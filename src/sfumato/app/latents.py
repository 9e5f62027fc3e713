"""What a latent is worth, on unseen images: likelihood bounds, the KL of its parts, what comes back of an
image, and on data with known factors how far units and factors agree.

Everything is measured with the first stage alone where there are two; every number carries its protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, SfumatoError, UsageError
from ..core.noise import Noise
from ..data.dataset import Dataset
from ..evaluation import lpips
from ..evaluation.bits import bounds, check_values
from ..evaluation.disentangle import disentanglement
from ..evaluation.information import BINS, Rows, varying
from ..evaluation.protocol import Metric, Protocol
from ..evaluation.scene import About
from ..evaluation.similarity import squared_error, ssim
from ..evaluation.spread import Estimate, mean_of
from ..evaluation.units import LevelUnits, units
from ..models.codec import Codec
from ..models.trace import LatentVariableModel
from ..training.advice import Advice
from ..training.watch import empty_levels, exploding, of_units
from .run import Run, batches

DRAWS = 16  # of the importance-weighted bound, unless asked for
MOST, FEWEST = 2000, 100  # images a bound is measured on: fewer, the more draws
LEVELS_MOST = 512  # images of the KL by level
UNITS_MOST = 1024  # of a level whose KLs are written one by one
REBUILT = 1000  # images that are reconstructed
FACTORED = 5000  # images with factors
CODES_MOST = 32  # units that are compared with factors
NO_CHANCE = "this model has no distribution over codes, and so no bound on the likelihood"
SHOWN = 12  # units whose KL is told


def latent_metrics(
    run: Run, held_out: Dataset, about: About, draws: int | None = None, seed: int = 0
) -> tuple[list[Metric], list[str]]:
    """The metrics of a run's latent and the findings in words; nothing for a run without one."""
    try:
        owner, model = run.latent()
    except UsageError:
        return [], []
    stage = "VAE" if owner is run.model else "first stage"
    metrics, notes = likelihood(run, model, held_out, about, stage, draws)
    more, told = carried(run, model, held_out, about)
    metrics, notes = metrics + more, notes + told
    if isinstance(model, Codec):
        metrics += rebuilt(run, model, held_out, about)
        more, told = agreement(run, model, about, seed)
        metrics, notes = metrics + more, notes + told
    return metrics, notes


def protocol_of(about: About, split: str, count: int, features: str = "") -> Protocol:
    """The conditions of a measurement on `count` real images of a part."""
    return Protocol(
        about.data,
        split,
        count,
        count,
        features,
        seed=about.seed,
        hardware=about.hardware,
        commit=about.commit,
        precision="float32",
        resize=about.resize or "none",
    )


def likelihood(
    run: Run, model: LatentVariableModel, held_out: Dataset, about: About, stage: str, draws: int | None
) -> tuple[list[Metric], list[str]]:
    """The bounds in bits/dim, or the reason why there are none.

    Many draws are taken for fewer images, but at least for 100: 5,000 draws cost 16 times what 16 do.
    """
    draws = DRAWS if draws is None else draws
    count = min(len(held_out), max(FEWEST, MOST * DRAWS // max(draws, DRAWS)))
    protocol = protocol_of(about, "held-out", count)
    if not _random(run, model, held_out):
        return [], [f"{NO_CHANCE.capitalize()}."]
    try:
        found = bounds(model, _in_range(run, held_out, count), run.facts.levels, draws=draws)
    except (UsageError, DataError) as error:
        return [], [f"Bits per dimension are not reported: {error.what}."]
    return [
        Metric(f"{b.name} ({b.of or stage})", b.bits.value, b.bits.spread, protocol, unit=b.unit)
        for b in found
    ], [f"{bound.note[0].upper()}{bound.note[1:]}." for bound in found if bound.note]


def _random(run: Run, model: LatentVariableModel, part: Dataset) -> bool:
    """Whether a model has latent variables; a plain autoencoder has a code and no distribution of it."""
    with torch.inference_mode():
        one = part.batch([0], run.device).x
        return bool(model.trace(one, noise=Noise([0], device=run.device)).latents)


def carried(
    run: Run, model: LatentVariableModel, held_out: Dataset, about: About
) -> tuple[list[Metric], list[str]]:
    """KL by level, active units, and the KL of the units that carry most, in words.

    A single latent most of whose units are inactive is told what to try, and a ladder with empty levels (it
    need not use all units), and either where the KL of units explodes. Where a prior knows the past (latents
    with names), a small KL is a good prediction and a large one a poor one: nothing to be diagnosed.
    """
    count = min(len(held_out), LEVELS_MOST)
    levels = units(model, _images(run, held_out, count))
    if not levels:
        return [], []
    protocol = protocol_of(about, "held-out", count)
    names = ["KL"] if len(levels) == 1 else [_name(i, level) for i, level in enumerate(levels, 1)]
    metrics = [
        Metric(name, level.kl.value, level.kl.spread, protocol, lower=None, unit="nats", parts=_few(level))
        for name, level in zip(names, levels, strict=True)
    ]
    if levels[0].name:
        return metrics, []
    total, active = sum(len(level.per_unit) for level in levels), sum(level.active for level in levels)
    metrics.append(Metric("active units", float(active), 0.0, protocol, lower=None, note=f"of {total:,}"))
    largest = sorted((kl for level in levels for kl in level.per_unit), reverse=True)[:SHOWN]
    told = " ".join(f"{kl:.2f}" for kl in largest)
    notes = [f"{active:,} of {total:,} latent units are active; KL of the largest in nats: {told}."]
    advice = Advice.of_recipe(run.recipe)
    if len(levels) == 1:
        notes += of_units(levels[0].per_unit, total - active, advice)
    else:
        notes += empty_levels([level.kl.value for level in levels], 1.0, advice)
    return metrics, notes + exploding([kl for level in levels for kl in level.per_unit], advice)


def _few(level: LevelUnits) -> tuple[float, ...]:
    """The KL of each unit to four digits, where these are few enough to be read."""
    return tuple(float(f"{kl:.4g}") for kl in level.per_unit) if len(level.per_unit) <= UNITS_MOST else ()


def _name(number: int, level: LevelUnits) -> str:
    if level.name:
        return f"KL of {level.name}"
    return f"KL of level {number} ({' x '.join(map(str, level.shape[1:]))})"


def rebuilt(run: Run, model: Codec, held_out: Dataset, about: About) -> list[Metric]:
    """Squared error, structural similarity and, where its weights are at hand, LPIPS of reconstructions."""
    count = min(len(held_out), REBUILT)
    distance = _perceptual(run)
    errors, alike, apart = [list[Tensor]() for _ in range(3)]
    with torch.inference_mode():
        for x in _images(run, held_out, count):
            y = model.decode(model.encode(x))
            errors.append(squared_error(x, y))
            if run.facts.space:
                alike.append(ssim(x, y))
            if distance is not None:
                apart.append(distance(x.cpu(), y.cpu()))
    plain, seen = (
        protocol_of(about, "held-out", count, name) for name in ("", distance.name if distance else "")
    )
    rows = (
        ("reconstruction error", errors, plain, True),
        ("SSIM", alike, plain, False),
        ("LPIPS", apart, seen, True),
    )
    return [
        _mean(name, torch.cat(values).double(), protocol, lower)
        for name, values, protocol, lower in rows
        if values
    ]


def _perceptual(run: Run) -> lpips.Lpips | None:
    """LPIPS where its weights and library are at hand and it can see pictures like these."""
    if len(run.facts.space) != 2 or run.facts.channels not in (1, 3) or min(run.facts.space) < 32:
        return None
    try:
        return lpips.Lpips()
    except SfumatoError:
        return None


def _mean(name: str, values: Tensor, protocol: Protocol, lower: bool) -> Metric:
    found = mean_of(values)
    return Metric(name, found.value, found.spread, protocol, lower=lower)


def agreement(run: Run, model: Codec, about: About, seed: int) -> tuple[list[Metric], list[str]]:
    """Disentanglement on data with known factors: up to 5,000 images of both parts, which differ in nothing
    here, since training never sees a factor. Factors of some images only give no score, and it is said.
    """
    data = run.whole
    try:
        known = data.factor_values
    except DataError as error:
        return [], [f"No scores of disentanglement: {error.what}. {error.remedy}"]
    if known is None or not len(data):
        return [], []
    count = min(len(data), FACTORED)
    factors, names, notes = _varied(np.asarray(known[:count], dtype=np.float64), data)
    if not names:
        return [], notes
    with torch.inference_mode():
        codes = torch.cat([model.encode(x).double().cpu().flatten(1) for x in _images(run, data, count)])
    if codes.shape[1] > CODES_MOST:
        kept = codes.var(0).topk(CODES_MOST).indices
        notes.append(
            f"Of {codes.shape[1]:,} units the {CODES_MOST} of largest variance are compared with factors."
        )
        codes = codes[:, kept]
    protocol = replace(
        protocol_of(about, "train and held-out", count, f"{codes.shape[1]} posterior means, {BINS} bins"),
        precision="float64",
    )
    found = disentanglement(codes.numpy(), factors, seed)
    metrics = [_score(name, value, protocol, factors.shape[1]) for name, value in found.items()]
    return metrics, [*notes, f"Factors: {', '.join(names)}."]


def _varied(factors: Rows, data: Dataset) -> tuple[Rows, list[str], list[str]]:
    """The factors that vary over the images, their names, and what is said of the others."""
    kept = varying(factors)
    names = [name for name, varies in zip(data.facts.factors, kept, strict=True) if varies]
    same = ", ".join(name for name, varies in zip(data.facts.factors, kept, strict=True) if not varies)
    notes = [f"Left out of the factors, the same in all {len(factors):,} images: {same}."] if same else []
    return factors[:, kept], names, notes


def _score(name: str, found: Estimate, protocol: Protocol, factors: int) -> Metric:
    note = f"guessing gives about {1 / factors:.2f}" if name == "FactorVAE score" else ""
    return Metric(name, found.value, found.spread, protocol, lower=False, note=note)


def _in_range(run: Run, part: Dataset, count: int) -> Iterator[Tensor]:
    """Images that a likelihood may be asked of; DataError at the first that are of another range."""
    for x in _images(run, part, count):
        check_values(x.cpu(), run.facts.levels)
        yield x


def _images(run: Run, part: Dataset, count: int) -> Iterator[Tensor]:
    return (batch.x for batch in batches(part, count, run.device))
