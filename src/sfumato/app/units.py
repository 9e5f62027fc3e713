"""Which units of a latent say most, and how far each goes: what a traversal moves, and how much.

    one latent vector    KL(q(z_j given x) || p(z_j)), the mean over held-out images, in nats; z_j is of the
                         scale of its prior, N(0, 1)
    otherwise            the spread of z_j over held-out images, about the middle of its values

The second serves autoencoders, whose code has no distribution, and models of clips, with latents of pairs.
Of discrete codes no unit goes anywhere, but their embeddings have principal directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.noise import Noise, seed_of
from ..data.dataset import Batch
from ..models.codec import Codec
from ..models.trace import LatentVariableModel

ROUNDING = 1e-5  # of the size of all vectors together: a spread that is none, in float32


@dataclass(frozen=True)
class Unit:
    """Unit `index`; what it carries, in nats or in units of the code; its middle and its spread."""

    index: int
    carries: float
    middle: float
    spread: float


@dataclass(frozen=True)
class Ranking:
    """Units, those that carry most first, and the word for what they carry."""

    units: tuple[Unit, ...]
    word: str

    def title(self, unit: Unit) -> str:
        """The name of a row: z[3]  1.25 nats."""
        return f"z[{unit.index}]  {unit.carries:.2f} {self.word}"


def ranked(model: LatentVariableModel, batches: Iterable[Batch]) -> Ranking:
    """The units of a model's latent by what they carry over some images."""
    nats: list[Tensor] = []
    codes: list[Tensor] = []
    seen = 0
    with torch.inference_mode():
        for batch in batches:
            noise = Noise([seed_of("traverse", seen)], rows=len(batch), device=batch.x.device)
            trace = model.trace(batch.x, noise=noise)
            if len(trace.latents) == 1 and trace.latents[0].z.ndim == 2:
                nats.append(trace.latents[0].kl_per_unit())
            else:
                assert isinstance(model, Codec)
                codes.append(model.encode(batch.x))
            seen += len(batch)
    if nats:
        found = [Unit(i, float(v), 0.0, 1.0) for i, v in enumerate(torch.cat(nats).mean(0))]
        return Ranking(_sorted(found), "nats")
    z = torch.cat(codes)
    pairs = zip(z.mean(0).tolist(), z.std(0, correction=0).tolist(), strict=True)
    return Ranking(_sorted([Unit(i, s, m, s) for i, (m, s) in enumerate(pairs)]), "spread")


def _sorted(units: list[Unit]) -> tuple[Unit, ...]:
    return tuple(sorted(units, key=lambda u: -u.carries))


@dataclass(frozen=True)
class Principal:
    """The mean (M,) of some vectors, and the directions (k, M) and deviations (k,) of their spread."""

    mean: Tensor
    ways: Tensor
    spreads: Tensor


def principal(vectors: Tensor, most: int) -> Principal:
    """The principal directions of vectors (n, M), those of largest spread first; n - 1 of them at most.

    Each points to where its largest component is positive, since its sign is otherwise by chance. What
    spreads by no more than rounding is no direction; DataError where none is left.
    """
    mean = vectors.mean(0)
    _, singular, ways = torch.linalg.svd(vectors - mean, full_matrices=False)
    kept = min(most, len(vectors) - 1, int((singular > ROUNDING * vectors.norm()).sum()))
    if not kept:
        raise DataError(
            f"no direction to go in: the codes of the unseen images ({len(vectors):,}) are all alike",
            remedy="Train again with more: --held-out or --test. Of dead codes sfumato evaluate tells.",
        )
    ways, largest = ways[:kept], ways[:kept].abs().argmax(1, keepdim=True)
    spreads = singular[:kept] / math.sqrt(len(vectors))
    return Principal(mean, ways * ways.gather(1, largest).sign(), spreads)
