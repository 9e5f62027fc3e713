"""`likelihood`: what a model thinks of images, in bits per dimension, and how unusual it finds them.

    rank = share of the run's held-out images that need fewer bits            (0 ... 1, ties count half)

Near 1 an image is stranger to the model than nearly all unseen ones. Near 0 it is simpler than they are: a
plain surface is cheap to every likelihood model, however unlike the data it is (Nalisnick et al. 2019), so
both ends are unusual.

Most of these numbers are estimates, with a draw of noise within the bins, a random probe for the divergence,
a sample of the bound's terms, a draw of z. Where images are ranked, every one is drawn again with independent
noise (a few images several times, until there are 8 differences) and told with the standard error of a
single draw,

    error_i^2 = (r s_i^2 + 4 s^2) / (r + 4)

s_i^2 the variance over its own r + 1 draws, s^2 the mean of that over all images: two draws alone say too
little of one image. The bits are those of the first draw, as the held-out images' are, so that the ranks
compare like with like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, RefusedError
from ..data.dataset import Dataset
from ..evaluation.spread import mean_of
from .bounds import Asked, Found, bits, check, default_bound, score, settled
from .conversions import conversions
from .dequantising import Dequantising
from .run import Run

AGAINST = 100  # held-out images to be ranked among
SHOWN = 12
DIFFERENCES = 8  # of independent draws of an image, over all images, that an error is read from
POOLED = 4.0  # degrees of freedom that the mean over images counts for beside an image's own


@dataclass(frozen=True)
class Scores:
    """Bits/dim and rank of each image by name, what they are, and the same of held-out images.

    method: how the number is found. errors: of a single draw of each image, by chance; empty: not measured,
    or without chance. dequantised: the ODE's law on grey levels, and how it was chosen.
    """

    names: tuple[str, ...]
    bits: tuple[float, ...]
    ranks: tuple[float, ...]  # empty: nothing to be ranked among
    bound: str
    unit: str
    held_out: tuple[float, ...]
    notes: tuple[str, ...] = ()
    method: str = ""
    errors: tuple[float, ...] = ()
    dequantised: Dequantising | None = None

    def lines(self) -> list[str]:
        """One line an image, the most unusual of many; then the means."""
        order = sorted(range(len(self.bits)), key=lambda i: -self.bits[i])
        shown = order if len(order) <= 2 * SHOWN else order[:SHOWN] + order[-SHOWN:]
        told = [self._line(i) for i in shown]
        if len(shown) < len(order):
            told.insert(SHOWN, f"... {len(order) - len(shown):,} between them ...")
        told.append(f"mean {_mean(self.bits)} {self.unit}, by {self.bound} ({self.method})")
        if self.dequantised is not None:
            told.append(self.dequantised.line())
        if self.errors:
            told.append("± behind an image: how far another draw would move its bits (standard error).")
        if self.held_out:
            told.append(f"held-out images: mean {_mean(self.held_out)}")
        return [*told, *self.notes]

    def _line(self, i: int) -> str:
        error = f" ± {self.errors[i]:.4f}" if self.errors else ""
        text = f"{self.bits[i]:9.4f}{error}  {self.names[i]}"
        return text if not self.ranks else f"{text}   more than {self.ranks[i]:.0%} of held-out images"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        nothing = [None] * len(self.bits)
        ranks: Sequence[float | None] = self.ranks or nothing
        errors: Sequence[float | None] = self.errors or nothing
        return {
            "bound": self.bound,
            "method": self.method,
            "unit": self.unit,
            "dequantisation": None if self.dequantised is None else self.dequantised.to_json(),
            "mean": float(np.mean(self.bits)),
            "images": [
                {"name": name, "bits": value, "error": error, "rank": rank}
                for name, value, error, rank in zip(self.names, self.bits, errors, ranks, strict=True)
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
    uniform: bool | None = None,
    seed: int = 0,
) -> Scores:
    """Bits/dim of every image of `files` (folders, arrays, pictures), each ranked among held-out images.

    No files: the held-out images themselves. bound: ode, vlb or elbo; None: the run's `default_bound`.
    against: how many held-out images; 0: none, and no errors. uniform: the ODE's dequantisation of grey
    levels; None: chosen by images that are not scored. UsageError for a model without such a number,
    DataError for such images.
    """
    of_ode = uniform is not None or tolerance is not None or guidance is not None
    word = default_bound(run, of_ode=of_ode) if bound is None else bound
    asked = Asked(word, draws, tolerance, guidance, uniform, seed)
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
    asked, law = settled(run, asked, parts if reference is None else [*parts, reference])
    found = score(run, parts, asked, number)
    values = bits(found)
    errors = chance(values, lambda k: score(run, parts, asked, number, k)) if against else ()
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
        found.method,
        errors,
        law,
    )


def chance(values: Tensor, again: Callable[[int], Found]) -> tuple[float, ...]:
    """The standard error of a single draw for each image (n,) from its value and independent repetitions.

    again(k): the same images, drawn for the k-th time. See the module for the estimate. Empty where a second
    draw changes nothing: such a number has no chance.
    """
    second = bits(again(1))
    if torch.equal(values, second):
        return ()
    repeats = -(-DIFFERENCES // len(values))
    own = torch.stack([values, second, *(bits(again(k)) for k in range(2, repeats + 1))]).var(0)
    pooled = (repeats * own + POOLED * own.mean()) / (repeats + POOLED)
    return tuple(pooled.sqrt().tolist())


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
