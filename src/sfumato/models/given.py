"""What is known of a sample before it is drawn, and the noise of what is not.

    Given(label=, z=, x_T=, codes=)   entries (B, ...) or (1, ...), which serves all; None: to be drawn
    Streams(seeds)["z"]       the noise of one part: row b depends on (seeds[b], "z") and nothing else

A sample has one seed. Its parts (label, z, x_T, what a stochastic solver adds) draw from streams of their
own, so that one can be held or replaced without disturbing the others: interpolating z with x_T held
changes the structure of a DiffuseVAE image, interpolating x_T with z held its detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.noise import Noise, seed_of


@dataclass(frozen=True, slots=True)
class Given:
    """What a sample is made from; None: to be drawn.

    label  (B,) int64, the class
    z      (B, D), the latent of a first stage or of a codec
    x_T    (B, C, *space), standard normal noise, before it is scaled to the first level
    codes  (B, N) int64, the first N discrete codes of an image; what is missing is drawn
    """

    label: Tensor | None = None
    z: Tensor | None = None
    x_T: Tensor | None = None
    codes: Tensor | None = None

    @property
    def names(self) -> frozenset[str]:
        """The entries that are filled."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) is not None)

    def expanded(self, count: int) -> Given:
        """The entries for `count` samples; entries of one row are repeated."""
        return Given(**{name: _expanded(getattr(self, name), name, count) for name in self.names})

    def take(self, rows: Tensor) -> Given:
        """The entries of some rows."""
        return Given(**{name: getattr(self, name)[rows] for name in self.names})

    def with_drawn(self, drawn: Given) -> Given:
        """These entries, and those of `drawn` where they are empty."""
        merged = {name: getattr(drawn, name) for name in drawn.names}
        return Given(**merged | {name: getattr(self, name) for name in self.names})

    def to(self, device: torch.device) -> Given:
        """The same entries on a device."""
        return Given(**{name: getattr(self, name).to(device) for name in self.names})


def gather(parts: Sequence[Given], count: int) -> Given:
    """The parts one after the other, cut to `count` rows."""
    names = parts[0].names if parts else frozenset[str]()
    return Given(**{name: torch.cat([getattr(part, name) for part in parts])[:count] for name in names})


def _expanded(value: Tensor, name: str, count: int) -> Tensor:
    if value.shape[0] not in (1, count):
        raise UsageError(
            f"{value.shape[0]} rows of {name} for {count} samples",
            remedy="Give one row for each sample, or one for all.",
        )
    return value.expand(count, *value.shape[1:])


class Streams:
    """Independent noise for each named part of the samples with these seeds."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds, self.device = seeds, device

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, part: str) -> Noise:
        """Fresh noise of a part; asking twice repeats it."""
        return Noise.keyed(part, at=self.seeds, device=self.device)


def seeds_of(seed: int, count: int) -> list[int]:
    """The seeds of `count` samples of one run of `sample`: image i has the same seed for every count."""
    return [seed_of("sample", seed, i) for i in range(count)]
