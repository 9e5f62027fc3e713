"""What `evaluate` adds for discrete codes: usage, their cost in bits, what comes back of an image."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..data.dataset import Dataset
from ..evaluation.bits import CODE, check_levels
from ..evaluation.codes import image_bits, judge_codes, reconstruction_scale
from ..evaluation.protocol import Metric, Protocol
from ..evaluation.scene import About
from ..evaluation.spread import mean_of
from ..models.vqvae import VqVae
from .latents import protocol_of, rebuilt
from .run import Run, batches

MOST = 2000  # unseen images
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
        used = Metric(f"codes used{name}", level.used, 0.0, protocol, lower=False, note=chosen)
        metrics += [used, replace(cost, note=uniform)]
    metrics += rebuilt(run, codec, held_out, about)
    try:
        return [*metrics, _bits_per_dim(run, codec, held_out, nats, protocol)], []
    except (UsageError, DataError) as why:
        return metrics, [f"Bits per dimension are not reported: {why.what}."]


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
