"""What `evaluate` adds for discrete codes: usage, their cost in bits, what comes back of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..data.dataset import Dataset
from ..evaluation.bits import CODE, check_levels
from ..evaluation.codes import LevelCodes, image_bits, judge_codes, reconstruction_scale
from ..evaluation.protocol import Metric, Protocol
from ..evaluation.scene import About
from ..evaluation.spread import mean_of
from ..models.vqvae import VqVae
from ..training.watch import dead_codes
from .latents import protocol_of, rebuilt
from .run import Run, batches

MOST = 2000  # unseen images
PER_CODE = 10  # codes chosen by the images for each there is, below which unused ones may be a lack of images
CALIBRATED_ON = 1000  # training images


def code_metrics(run: Run, held_out: Dataset, about: About) -> tuple[list[Metric], list[str]]:
    """Metrics of every level's codes on unseen images, and what cannot be said; nothing without codes."""
    codec = run.generator.codec
    if not isinstance(codec, VqVae):
        return [], []
    protocol = protocol_of(about, "held-out", min(len(held_out), MOST))
    unseen = ((b.x, b.label) for b in batches(held_out, protocol.samples, run.device))
    levels, nats = judge_codes(run.generator, unseen)
    metrics = []
    for number, level in enumerate(levels, 1):
        name = f" (level {number} of {len(levels)})" if len(levels) > 1 else ""
        chosen = f"of {level.size:,}; perplexity {level.perplexity:.0f}"
        uniform = f"{level.length:,} codes an image; uniform codes cost {math.log2(level.size):.2f} bits"
        cost = Metric(f"bits per code{name}", level.bits.value, level.bits.spread, protocol, unit="bits")
        used = Metric(f"codes used{name}", 100 * level.used, 0.0, protocol, False, unit="%", note=chosen)
        metrics += [used, replace(cost, note=uniform)]
    metrics += rebuilt(run, codec, held_out, about)
    notes = in_words(levels, protocol.samples, scalar=codec.scalar)
    try:
        return [*metrics, _bits_per_dim(run, codec, held_out, nats, protocol)], notes
    except (UsageError, DataError) as why:
        return metrics, [*notes, f"Bits per dimension are not reported: {why.what}."]


def in_words(levels: Sequence[LevelCodes], images: int, *, scalar: bool = False) -> list[str]:
    """How many codes of each level so many images use and what they cost, in words; then the dead ones.

    Where the images choose fewer than 10 codes for each there is, unused ones say nothing of the codebook.
    """
    lines, shares = [], list[float]()
    for number, level in enumerate(levels, 1):
        where = f"Level {number} of {len(levels)}: " if len(levels) > 1 else ""
        used, uniform = round(level.used * level.size), math.log2(level.size)
        lines.append(
            f"{where}{used:,} of {level.size:,} codes used; perplexity {level.perplexity:.0f}; "
            f"{level.bits.value:.2f} bits a code, uniform {uniform:.2f}."
        )
        enough = images * level.length >= PER_CODE * level.size
        shares.append(level.used if enough else math.nan)
    return lines + dead_codes(shares, f"by {images:,} unseen images", scalar=scalar)


def _bits_per_dim(run: Run, codec: VqVae, held_out: Dataset, nats: Tensor, protocol: Protocol) -> Metric:
    """The bits of code and rest, an upper bound on -log2 p(x), per dimension."""
    levels, train = run.facts.levels, run.training
    if levels is None:
        raise UsageError(
            "the data are floats, and codes with a calibrated Gaussian bound grey levels only",
            remedy="Train on integer images, whose grey levels have a probability.",
        )
    calibrated_on = batches(train, min(CALIBRATED_ON, len(train)), run.device)
    scale = reconstruction_scale(codec, (b.x for b in calibrated_on))
    rest = []
    for batch in batches(held_out, protocol.samples, run.device):
        check_levels(batch.x.cpu(), levels)
        rest.append(image_bits(codec, batch.x, scale, levels))
    bits = mean_of((nats / math.log(2.0) + torch.cat(rest)) / math.prod(run.facts.shape))
    told = "codes by their prior, the rest by a Gaussian calibrated on training images"
    return Metric("ELBO (codes)", bits.value, bits.spread, protocol, unit=CODE, note=told)
