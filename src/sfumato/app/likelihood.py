"""`likelihood`: what a model thinks of images, in bits per dimension, and how unusual it finds them.

    rank = share of the run's held-out images that need fewer bits            (0 ... 1, ties count half)

Near 1 an image is stranger to the model than nearly all unseen ones. Near 0 it is simpler than they are: a
plain surface is cheap to every likelihood model, however unlike the data it is (Nalisnick et al. 2019), so
both ends are unusual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, RefusedError
from ..data.dataset import Dataset
from ..evaluation.spread import mean_of
from .bounds import Asked, bits, check, default_bound, score
from .conversions import conversions
from .run import Run

AGAINST = 100  # held-out images to be ranked among
SHOWN = 12


@dataclass(frozen=True)
class Scores:
    """Bits/dim and rank of each image by name, what they are, and the same of held-out images."""

    names: tuple[str, ...]
    bits: tuple[float, ...]
    ranks: tuple[float, ...]  # empty: nothing to be ranked among
    bound: str
    unit: str
    held_out: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line an image, the most unusual of many; then the means."""
        order = sorted(range(len(self.bits)), key=lambda i: -self.bits[i])
        shown = order if len(order) <= 2 * SHOWN else order[:SHOWN] + order[-SHOWN:]
        told = [self._line(i) for i in shown]
        if len(shown) < len(order):
            told.insert(SHOWN, f"... {len(order) - len(shown):,} between them ...")
        told.append(f"mean {_mean(self.bits)} {self.unit}, by {self.bound}")
        if self.held_out:
            told.append(f"held-out images: mean {_mean(self.held_out)}")
        return [*told, *self.notes]

    def _line(self, i: int) -> str:
        text = f"{self.bits[i]:9.4f}  {self.names[i]}"
        return text if not self.ranks else f"{text}   more than {self.ranks[i]:.0%} of held-out images"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        ranks: Sequence[float | None] = self.ranks or [None] * len(self.bits)
        return {
            "bound": self.bound,
            "unit": self.unit,
            "mean": float(np.mean(self.bits)),
            "images": [
                {"name": name, "bits": value, "rank": rank}
                for name, value, rank in zip(self.names, self.bits, ranks, strict=True)
            ],
            "held_out": {"count": len(self.held_out), "bits": list(self.held_out)},
            "notes": list(self.notes),
        }


def likelihood(
    run: Run,
    files: Sequence[str] = (),
    *,
    bound: str | None = None,
    class_name: str | None = None,
    against: int = AGAINST,
    draws: int | None = None,
    tolerance: float | None = None,
    guidance: float | None = None,
    uniform: bool = False,
    seed: int = 0,
) -> Scores:
    """Bits/dim of every image of `files` (folders, arrays, pictures), each ranked among held-out images.

    No files: the held-out images themselves. bound: ode, vlb or elbo; None: ode where the model has one.
    against: how many held-out images; 0: none. UsageError for a model without such a number, DataError for
    such images.
    """
    asked = Asked(default_bound(run) if bound is None else bound, draws, tolerance, guidance, uniform, seed)
    check(run, asked)
    label = run.given(1, class_name).label
    number = None if label is None else int(label)
    notes: list[str] = []
    if files:
        parts = [exactly(run, file, notes) for file in files]
        reference = held_out(run, against, notes)
    else:
        whole = run.unseen(f"Give images: sfumato likelihood {run.path} FILES")
        parts, reference = [whole.take(range(min(against or len(whole), len(whole))))], None
    found = score(run, parts, asked, number)
    values = bits(found)
    others = None if reference is None else bits(score(run, [reference], asked))  # of their own classes
    names = tuple(part.name_of(i) for part in parts for i in range(len(part)))
    if "label" in run.generator.slots and asked.bound != "elbo":
        notes.append("Bits are of the image given its class.")
    return Scores(
        names,
        tuple(values.tolist()),
        () if others is None else ranks(values, others),
        found.name,
        found.unit,
        () if others is None else tuple(others.tolist()),
        tuple(notes),
    )


def exactly(run: Run, file: str, notes: list[str]) -> Dataset:
    """Images as they are, for which the bits are meant; DataError where they had to be changed to fit.

    Images of another size are allowed where the run's own were scaled by the same rule, and that is said.
    """
    data = run.fitting(file)
    changed = conversions(data)
    if changed and not _scaled(run):
        raise DataError(
            "no likelihood of images that had to be changed to fit the run: " + " ".join(changed).rstrip("."),
            where=file,
            remedy=f"Give images of {run.facts.words}.",
        )
    notes += [line for line in changed if line not in notes]
    return data


def _scaled(run: Run) -> bool:
    """Whether the run's own images were scaled before training."""
    return "Lanczos" in run.facts.pipeline


def held_out(run: Run, count: int, notes: list[str]) -> Dataset | None:
    """Some of the run's held-out images, the same at each call; None, with a note, where there are none."""
    if not count:
        return None
    try:
        part = run.unseen("")
    except (DataError, RefusedError) as error:
        notes.append(f"No ranks: {error.what}.")
        return None
    return part.take(range(min(count, len(part))))


def ranks(values: Tensor, others: Tensor) -> tuple[float, ...]:
    """For each value (n,) the share of the others (m,) below it, ties counted half."""
    below = (others < values[:, None]).double().mean(1)
    ties = (others == values[:, None]).double().mean(1)
    return tuple((below + 0.5 * ties).tolist())


def _mean(values: Sequence[float]) -> str:
    found = mean_of(torch.tensor(values, dtype=torch.float64))
    return f"{found.value:.4f} ± {found.spread:.4f} over {len(values):,}"
