"""Randomness as a function of position: one generator for each group of rows of a batch.

    Noise(seeds, rows=r)   draws for a batch of len(seeds) * r rows; rows [k r, (k+1) r) come from a
                           generator seeded with seeds[k], and from nothing else.

With r = 1 a sample depends on its seed and never on its batch. In training the seeds are a hash of
(run seed, stage, position in examples), so a step repeats bitwise after a resume, and two processes
that each own half of the groups draw together what one process would have drawn alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


def seed_of(*key: int | str) -> int:
    """A 63-bit seed from any key, the same on every machine (SHA-256 of its text)."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Noise:
    """Draws whose group k of `rows` rows depends on seeds[k] and on the draws before it.

    Shapes name the whole batch: the first axis must be len(seeds) * rows. Draws are made on
    `device`; with a generator on the CPU and `device` elsewhere they are made on the CPU and moved,
    so that a seed means the same picture everywhere.
    """

    def __init__(self, seeds: Sequence[int], *, rows: int = 1, device: torch.device | str = "cpu") -> None:
        self.rows, self.device = rows, torch.device(device)
        self.generators = [torch.Generator().manual_seed(int(s)) for s in seeds]

    @staticmethod
    def keyed(*key: int | str, at: Iterable[int], device: torch.device | str = "cpu") -> Noise:
        """One row for each position p of `at`, from the seed of (*key, p): no row depends on its batch."""
        return Noise([seed_of(*key, position) for position in at], device=device)

    def __len__(self) -> int:
        return len(self.generators) * self.rows

    def _draw(
        self, shape: Sequence[int], dtype: torch.dtype, fill: Callable[[Tensor, torch.Generator], object]
    ) -> Tensor:
        if shape[0] != len(self):
            raise ValueError(f"noise for {len(self)} rows was asked for a batch of {shape[0]}")
        out = torch.empty(tuple(shape), dtype=dtype)
        for k, generator in enumerate(self.generators):
            fill(out[k * self.rows : (k + 1) * self.rows], generator)
        return out.to(self.device, non_blocking=True)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal draws of the given shape (B, ...)."""
        return self._draw(shape, dtype, lambda part, g: part.normal_(generator=g))

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform draws on [0, 1) of the given shape (B, ...)."""
        return self._draw(shape, dtype, lambda part, g: part.uniform_(generator=g))

    def stratified(self, count: int) -> Tensor:
        """(B,) float64 in [0, 1): evenly spaced within each group, shifted at random as one.

        u_i = (u_0 + i/rows) mod 1: every u_i is uniform, and their mean varies far less than that of
        independent draws (Kingma et al. 2021, app. I.1).
        """
        steps = torch.arange(self.rows, dtype=torch.float64) / self.rows

        def fill(part: Tensor, generator: torch.Generator) -> Tensor:
            shift = torch.rand((), dtype=torch.float64, generator=generator)
            return part.copy_((shift + steps) % 1.0)

        return self._draw((count,), torch.float64, fill)

    def integers(self, high: int, shape: Sequence[int]) -> Tensor:
        """Uniform integers in [0, high) of the given shape (B, ...), int64."""
        return self._draw(shape, torch.int64, lambda part, g: part.random_(0, high, generator=g))

    def __getitem__(self, groups: slice) -> Noise:
        """The noise of some of the groups, sharing their generators (to work in chunks)."""
        part = Noise.__new__(Noise)
        part.rows, part.device, part.generators = self.rows, self.device, self.generators[groups]
        return part
