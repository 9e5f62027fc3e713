"""Which examples a step sees.

Progress is the number of examples seen, s. Example s is entry (s mod N) of the permutation of epoch
(s div N), and that permutation is a function of (seed, epoch) alone:

    permutation(seed, epoch) = argsort of N raw 64-bit words of Philox keyed by (seed, epoch)

Philox is counter-based and its raw words are fixed by its definition (Salmon et al. 2011), so resuming is
only a matter of knowing s, and the ids of a global step do not depend on processes or micro-batches.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.errors import DataError
from ..core.noise import seed_of
from .dataset import Batch, Dataset, Split

__all__ = ["Batch", "Dataset", "Loader", "Split", "permutation"]


@lru_cache(maxsize=4)
def permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of epoch `epoch`: a permutation of 0 ... n-1, a pure function of its arguments."""
    raw = np.random.Philox(key=seed_of("epoch", seed, epoch)).random_raw(n)
    order = np.argsort(raw, kind="stable")
    order.flags.writeable = False
    return order


class Loader:
    """Sample ids without end, addressed by examples seen: a pure function of (seed, position)."""

    def __init__(self, data: Dataset | int, seed: int = 0) -> None:
        self.n, self.seed = data if isinstance(data, int) else len(data), seed
        if self.n < 1:
            raise DataError("there is no example to train on", remedy="Give data with one example or more.")

    def at(self, seen: int, count: int) -> Tensor:
        """The ids (count,) of examples seen ... seen + count - 1; every epoch is a fresh permutation."""
        parts = []
        while count > 0:
            epoch, start = divmod(seen, self.n)
            part = permutation(self.n, self.seed, epoch)[start : start + count]
            parts.append(part)
            seen, count = seen + len(part), count - len(part)
        return torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, dtype=np.int64))

    def share(self, seen: int, batch: int, rank: int = 0, world: int = 1) -> Tensor:
        """The ids of this process in the global step of `batch` examples after `seen`.

        The global step is cut into `world` contiguous parts, so joining them in order of rank gives at(seen,
        batch) for every world size. Parts differ by at most one example.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
        first, last = batch * rank // world, batch * (rank + 1) // world
        return self.at(seen + first, last - first)
