"""Which law dequantises grey levels for the ODE, where the user names none.

    log P(x) >= E_q[log p(x + u) - log q(u)]     for every law q of u within the bin (evaluation/flow.py)

A fixed law may cost bits/dim: a briefly trained model is still flat across a bin, where uniform noise is
tight, and a long-trained one holds its own last noise around each level, where that noise is. So both are
tried on a few images and the tighter one is taken. The images are held-out ones (failing them, training
images) and none of them is scored: the choice knows nothing of those that are, whose mean stays a bound.

They are the same ones at each call, by a hash of their content, unless some are among the scored. An image's
bits are then the same whatever it is scored with; name the law (--uniform, --no-uniform) to be sure of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import DataError, RefusedError, UsageError
from ..core.noise import seed_of
from ..core.shapes import rows_at_once
from ..data.dataset import Dataset
from ..evaluation.flow import Flow, Trial, trial
from ..models.density import Plan
from .run import Run

FEW = 6  # images: where the laws matter they differ by far more than images do
LAWS = ("truncated normal", "uniform")


@dataclass(frozen=True, slots=True)
class Dequantising:
    """The law that is used and why: `because` names the images tried, or that the user named the law."""

    uniform: bool
    because: str
    tried: Trial | None = None

    @property
    def law(self) -> str:
        """The law in words."""
        return LAWS[self.uniform]

    def line(self) -> str:
        """Dequantisation: uniform, chosen by 6 held-out images ... (2.31 bits/dim, truncated normal 5.23)."""
        told = f"Dequantisation: {self.law}, {self.because}"
        if self.tried is None:
            return f"{told}."
        here, other = self.tried.normal, self.tried.uniform
        if self.uniform:
            here, other = other, here
        return f"{told} ({here:.2f} bits/dim there; {LAWS[not self.uniform]} {other:.2f})."

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; bits/dim of each law on the images it was tried on, None where not solvable."""
        found = {} if self.tried is None else dict(zip(LAWS, _bits(self.tried), strict=True))
        return {"law": self.law, "because": self.because, "tried": found}


def _bits(tried: Trial) -> list[float | None]:
    return [bits if np.isfinite(bits) else None for bits in (tried.normal, tried.uniform)]


def chosen(run: Run, scored: Sequence[Dataset], how: Flow, plan: Plan) -> Dequantising:
    """The tighter law on images of the run that are not among the scored; see the module.

    The model's own last noise, with the reason, where there is no such image or none that can be tried.
    """
    levels, reason = run.facts.levels, "there are no other images to choose by"
    assert levels is not None
    count = min(FEW, rows_at_once(run.facts.shape))
    for name, part in _sources(run):
        ids = _unscored(part, scored, count)
        if not len(ids) or (part.label_ids is None and "label" in run.generator.slots):
            continue
        at = [int(value) for value in part.take(ids).hashes]
        try:
            batch = part.batch(ids, run.device)
            found = trial(run.generator, batch, levels, at=at, how=how, plan=plan)
        except DataError as error:
            reason = error.what
            continue
        because = f"chosen by {len(ids)} {name} image{'s' if len(ids) > 1 else ''} that are not scored"
        return Dequantising(found.prefers_uniform, because, found)
    return Dequantising(False, f"not chosen: {reason}")


def _sources(run: Run) -> Iterator[tuple[str, Dataset]]:
    """The held-out images, then the training images, as far as they can be read."""
    for name, read in (("held-out", lambda: run.data.held_out), ("training", lambda: run.training)):
        try:
            part = read()
        except (DataError, RefusedError, UsageError):
            continue
        if len(part):
            yield name, part


def _unscored(part: Dataset, scored: Sequence[Dataset], count: int) -> list[int]:
    """Positions of up to `count` different images whose content is not among the scored, by a hash of it."""
    key = np.uint64(seed_of("dequantisation"))
    taken = [other.hashes ^ key for other in scored]
    hashes, positions = np.unique(part.hashes ^ key, return_index=True)  # in their order, without copies
    free = ~np.isin(hashes, np.concatenate([np.empty(0, np.uint64), *taken]))
    return [int(i) for i in positions[free][:count]]
