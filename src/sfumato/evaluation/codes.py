"""What discrete codes cost, and whether they are used, on unseen images.

    usage          share of the codes chosen at least once over the images
    perplexity     2^H, H the entropy in bits of how often each is chosen: the number of equally common codes
    bits per code  -log2 p(code given those before it) by the prior, beside log2 K for uniform codes

The codes of an image and its rest under a calibrated Gaussian are a code for the image, so

    -log2 p(x) <= -log2 p(c) - log2 p(x given c),   p(x given c) a Gaussian around x_hat(c), in bins

bounds its bits (the posterior is one code, hence KL = -log p(c)). The scale of the Gaussian is the error of
reconstruction on training images, per channel: one number a channel, not fitted to what is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.condition import Condition
from ..distributions.discretized import DiscretizedGaussian
from ..models.generator import Generator
from ..models.vqvae import VqVae
from ..objectives.likelihood import level_of
from .spread import Estimate, mean_of

SMALLEST = 1e-3  # model units; a reconstruction that is perfect on training images would have none


@dataclass(frozen=True, slots=True)
class LevelCodes:
    """One level, coarsest first: its size K, share of codes used, perplexity, bits per code by its prior."""

    size: int
    length: int
    used: float
    perplexity: float
    bits: Estimate


@torch.no_grad()
def judge_codes(
    generator: Generator, batches: Iterable[tuple[Tensor, Tensor | None]]
) -> tuple[tuple[LevelCodes, ...], Tensor]:
    """Usage and cost of every level over images and labels, and nats of the whole code of each image (N,)."""
    codec = generator.codec
    assert isinstance(codec, VqVae)
    sizes, lengths = [q.size for q in codec.quantizers], codec.lengths
    counts = [torch.zeros(size, dtype=torch.int64) for size in sizes]
    nats: list[list[Tensor]] = [[] for _ in sizes]
    priors = [level_of(generator, len(sizes) - 1 - k) for k in range(len(sizes))]
    for x, label in batches:
        codes = codec.encode(x)
        for k, part in enumerate(codes.split(lengths, 1)):
            counts[k] += torch.bincount(part.flatten().cpu(), minlength=sizes[k])
            level, density = priors[k]
            cond = Condition(label=label) if "label" in level.slots else Condition()
            nats[k].append(-density.log_prob(codes, cond).double().cpu())
    costs = [torch.cat(level) for level in nats]
    found = [
        _level(sizes[k], lengths[k], counts[k], costs[k] / (lengths[k] * math.log(2.0)))
        for k in range(len(sizes))
    ]
    return tuple(found), torch.stack(costs).sum(0)


def _level(size: int, length: int, counts: Tensor, bits: Tensor) -> LevelCodes:
    share = counts.double() / counts.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-300).log()).sum()
    used = float((counts > 0).double().mean())
    return LevelCodes(size, length, used, float(entropy.exp()), mean_of(bits))


@torch.no_grad()
def reconstruction_scale(codec: VqVae, batches: Iterable[Tensor]) -> Tensor:
    """Root mean squared error of reconstruction per channel, (C,) in model units."""
    total, count = torch.zeros(()), 0
    for x in batches:
        error = (codec.decode(codec.encode(x)) - x).double().square()
        total = total + error.flatten(2).sum((0, 2)).cpu()
        count += x[:, 0].numel()
    return (total / max(1, count)).sqrt().clamp_min(SMALLEST)


@torch.no_grad()
def image_bits(codec: VqVae, x: Tensor, scale: Tensor, levels: int) -> Tensor:
    """-log2 p(x given its code) of grey-level images, (B,) bits."""
    mean = codec.decode(codec.encode(x))
    log_scale = scale.log().to(mean).reshape(1, -1, *(1,) * (x.ndim - 2))
    return -DiscretizedGaussian(mean, log_scale, levels).log_prob(x).double().cpu() / math.log(2.0)
