"""Samples block by block, so that memory holds one block of them and not all.

    block j = images [jB, (j+1)B)       image k is a function of (seed, k): blocks change no image

B keeps a block to about four million values, and on an accelerator to whole batches, so that the network sees
the shapes it would see without blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from ..core.shapes import rows_at_once
from ..models.density import Plan
from ..models.generator import CPU_ROWS
from .guiding import sampler
from .opened import Opened


def slices(run: Opened, count: int, batch: int) -> Iterator[slice]:
    """The rows of each block of `count` samples."""
    rows = CPU_ROWS if run.device.type == "cpu" else max(batch, 1)
    size = rows * max(1, rows_at_once(run.facts.shape) // rows)
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def blocks(
    run: Opened,
    plan: Plan,
    seeds: Sequence[int],
    class_name: str | None = None,
    batch: int = 64,
    drew: Callable[[int], object] | None = None,
) -> Iterator[Tensor]:
    """Images (n, C, *space) of these seeds in model units, a block at a time; drew: see Generator.sample."""
    generator = sampler(run, plan)
    for rows in slices(run, len(seeds), batch):
        part = seeds[rows]
        given = run.given(len(part), class_name, plan)
        yield generator.sample(len(part), plan, given, seeds=part, batch=batch, drew=drew)


def origin(
    run: Opened, plan: Plan, seeds: Sequence[int], class_name: str | None = None
) -> dict[str, list[Any]]:
    """What the samples of these seeds came from: the seed, and the class if the plan knows classes."""
    found: dict[str, list[Any]] = {"seeds": list(seeds)}
    generator = sampler(run, plan)
    if "label" not in generator.slots or not run.facts.classes:
        return found
    labels: list[str] = []
    for rows in slices(run, len(seeds), CPU_ROWS):
        part = seeds[rows]
        label = generator.draw(part, plan, run.given(len(part), class_name, plan)).label
        if label is None:
            return found
        labels += [run.facts.classes[int(k)] for k in label]
    return found | {"labels": labels}
