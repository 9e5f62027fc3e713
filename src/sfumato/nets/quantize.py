"""Vectors to integers and back: the nearest of K learned vectors, or a grid that needs no learning.

    VectorQuantizer   k = argmin_k |z - e_k|^2,  value e_k          (van den Oord et al. 2017, eq. 1, 2)
    ScalarQuantizer   k_d = round((L_d - 1) (1 + tanh z_d) / 2)     (Mentzer et al. 2023, sec. 3)

Rounding has no gradient: the value's gradient is copied to z as it is (straight-through, sec. 3.2 of the
former). The encoder is held near its codes by the commitment |z - sg e_k|^2. A codebook learns by

    averages   N_k <- gamma N_k + (1 - gamma) n_k,  m_k <- gamma m_k + (1 - gamma) sum of its z,
               e_k = m_k / N_k                                      (van den Oord et al. 2017, eq. 6 - 8)
    gradient   |sg z - e_k|^2, where gamma is 0                     (eq. 3)

over whole steps: forward only adds up what it sees, `settle` learns from it once a step, so that neither
micro-batches nor processes matter. A code that none of the last patience * K vectors chose is dead (its
share is below 1 / patience of a fair one) and is put where a vector of this step lies. Which vectors those
can be is drawn by position: each example offers one vector to a random slot; slots offered exactly one count.

Use is counted over epochs. In the first, which may outlast the training, the share of codes used so far is a
lower bound on the epoch's. It is told from n = 200 K vectors on: a dead code has been restarted by then, and
were each vector as likely to choose one code as another, one would be missed with probability
(1 - 1/K)^n <= exp(-200).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.noise import Noise
from .kmeans import kmeans, nearest

SLOTS = 256  # for vectors offered to dead codes; of 128 examples about 78 meet no other
ENOUGH = 200  # vectors for each code, from which on those never chosen tell something: twice the patience
UNUSED = 1e-6  # average number of vectors a step below which a code keeps its place


@dataclass(frozen=True, slots=True)
class Coded:
    """What a quantiser makes of z (B, D, *grid).

    values      (B, D, *grid), the embeddings; their gradient is that of z
    codes       (B, *grid) int64
    commitment  (B,) mean over elements of |z - sg e|^2
    pull        (B,) mean over elements of |sg z - e|^2 for a codebook trained by its gradient, else None
    """

    values: Tensor
    codes: Tensor
    commitment: Tensor
    pull: Tensor | None = None


class StraightThrough(torch.autograd.Function):
    """(z, e) -> e, with the gradient of e given to z as it is and none to e."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, e: Tensor) -> Tensor:
        """The embedding itself, to the bit."""
        return e.view_as(e)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient, copied."""
        return gradients[0], None


class Quantizer(nn.Module, ABC):
    """z (B, dim, *grid) to integers below `size` and back; counts which codes are used over an epoch."""

    chosen: Tensor  # (K,) how often each code was chosen since the last step was settled
    counts: Tensor  # (K,) in this epoch before that
    former: Tensor  # (K,) in the last complete epoch; zeros before its end

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 2 or dim < 1:
            raise ValueError(f"a quantiser of {size} codes in {dim} dimensions does not exist")
        self.size, self.dim = size, dim
        for name in ("chosen", "counts", "former"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.int64))

    @abstractmethod
    def forward(self, z: Tensor, noise: Noise | None = None) -> Coded:
        """Codes and embeddings of z (B, dim, *grid); noise: draws the vectors offered to dead codes."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """The embeddings (B, dim, *grid) of codes (B, *grid)."""

    @abstractmethod
    def nearest(self, values: Tensor) -> Tensor:
        """The codes (B, *grid) whose embeddings lie nearest to values (B, dim, *grid): lookup's inverse."""

    def fit(self, vectors: Tensor, *, seed: int) -> None:
        """Start from vectors (N, dim); nothing to do where there is no codebook."""

    def sums(self) -> tuple[Tensor, ...]:
        """What this step added up, to be summed over processes before it is settled."""
        return (self.chosen,)

    @torch.no_grad()
    def settle(self, epoch: int) -> None:
        """Learn from the step's sums and forget them; an epoch is over after `epoch` vectors."""
        self._learn()
        self.counts += self.chosen
        over = self.counts.sum() >= epoch
        self.former.copy_(torch.where(over, self.counts, self.former))
        self.counts *= ~over
        for tensor in self.sums():
            tensor.zero_()

    def _learn(self) -> None:
        """Nothing is learned where there is no codebook."""

    def usage(self) -> Tensor:
        """The share of codes used in the last complete epoch, () float; NaN before the first has ended."""
        used = (self.former > 0).float().mean()
        return torch.where(self.former.sum() > 0, used, torch.full_like(used, math.nan))

    def used_so_far(self) -> Tensor:
        """The share of codes used in the first epoch as far as it goes, () float: a lower bound on `usage`.

        NaN before 200 vectors for each code were seen (a dead code has been restarted by then), and where
        `usage` is known.
        """
        used = (self.counts > 0).float().mean()
        tells = (self.former.sum() == 0) & (self.counts.sum() >= ENOUGH * self.size)
        return torch.where(tells, used, torch.full_like(used, math.nan))

    def _count(self, codes: Tensor) -> None:
        if self.training:
            self.chosen += torch.bincount(codes.flatten(), minlength=self.size)


@final
class VectorQuantizer(Quantizer):
    """The nearest of `size` vectors of `dim` numbers; see the module.

    gamma     decay of the averages a codebook follows; 0: it is trained by the gradient of `pull`
    patience  a code idle for patience * size vectors is dead and restarted; 0: never

    The codebook is a parameter in both cases (it gets no gradient where it follows averages), so that it is
    averaged over training with the encoder it belongs to.
    """

    sizes: Tensor  # (K,) N_k
    totals: Tensor  # (K, D) m_k
    added: Tensor  # (K, D) sum of this step's vectors by code
    idle: Tensor  # (K,) vectors since the code was last chosen
    pool: Tensor  # (SLOTS, D) sum of the vectors offered to each slot in this step
    offers: Tensor  # (SLOTS,) their number

    def __init__(self, size: int, dim: int, gamma: float = 0.99, patience: int = 100) -> None:
        super().__init__(size, dim)
        if not 0.0 <= gamma < 1.0 or patience < 0:
            raise ValueError(f"gamma lies in [0, 1) and patience at 0 or more, not {gamma} and {patience}")
        self.gamma, self.patience = gamma, patience
        self.codebook = nn.Parameter(torch.randn(size, dim) / math.sqrt(dim))
        self.register_buffer("idle", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("sizes", torch.zeros(size))
        self.register_buffer("totals", torch.zeros(size, dim))
        self.register_buffer("added", torch.zeros(size, dim))
        self.register_buffer("pool", torch.zeros(SLOTS, dim))
        self.register_buffer("offers", torch.zeros(SLOTS, dtype=torch.int64))

    def forward(self, z: Tensor, noise: Noise | None = None) -> Coded:
        """The nearest codes; in training the sums of the step are added to."""
        # compared in float32 whatever the network computes in: a code must not depend on the precision
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            places = z.movedim(1, -1)
            rows = places.reshape(-1, self.dim)
            index = nearest(rows.detach(), self.codebook.detach())
            e = self._embeddings(index)
            if self.training:
                self._add(rows.detach(), index, len(z), noise)
            values = StraightThrough.apply(rows, e).reshape(places.shape).movedim(-1, 1)
            commitment = _gap(rows, e.detach(), len(z))
            pull = None if self.gamma else _gap(rows.detach(), e, len(z))
            return Coded(values, index.reshape(places.shape[:-1]), commitment, pull)

    def lookup(self, codes: Tensor) -> Tensor:
        """e_k, (B, D, *grid)."""
        return self._embeddings(codes).movedim(-1, 1)

    def nearest(self, values: Tensor) -> Tensor:
        """argmin_k |value - e_k|^2, (B, *grid)."""
        rows = values.movedim(1, -1)
        return nearest(rows.reshape(-1, self.dim), self.codebook.detach()).reshape(rows.shape[:-1])

    def _embeddings(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook.detach() if self.gamma else self.codebook)

    @torch.no_grad()
    def fit(self, vectors: Tensor, *, seed: int) -> None:
        """Start at the centres of k-means over vectors (N, D); DataError for fewer vectors than codes."""
        centres, shares = kmeans(vectors, self.size, seed=seed)
        self.codebook.copy_(centres)
        self.sizes.copy_(shares * self.size)
        self.totals.copy_(self.sizes[:, None] * centres)

    def sums(self) -> tuple[Tensor, ...]:
        """Counts, sums of vectors, and the vectors offered."""
        return (self.chosen, self.added, self.pool, self.offers)

    def _add(self, rows: Tensor, index: Tensor, examples: int, noise: Noise | None) -> None:
        self._count(index)
        if self.gamma:
            self.added.index_add_(0, index, rows)
        if noise is not None and self.patience:
            slot = noise.integers(SLOTS, (examples,))
            each = rows.reshape(examples, -1, self.dim)
            place = (noise.uniform((examples,)) * each.shape[1]).long()
            offered = each[torch.arange(examples, device=rows.device), place]
            self.pool.index_add_(0, slot, offered)
            self.offers.index_add_(0, slot, torch.ones_like(slot))

    def _learn(self) -> None:
        # a step whose vectors are not finite was left out by the trainer, and is here
        finite = torch.isfinite(self.added.sum())
        if self.gamma:
            n = torch.where(finite, self.chosen, 0).to(self.sizes)
            self.sizes.mul_(self.gamma).add_(n, alpha=1.0 - self.gamma)
            self.totals.mul_(self.gamma).add_(torch.where(finite, self.added, 0.0), alpha=1.0 - self.gamma)
            known = (self.sizes > UNUSED)[:, None]
            mean = self.totals / self.sizes.clamp_min(UNUSED)[:, None]
            self.codebook.copy_(torch.where(known, mean, self.codebook))
        if self.patience:
            self._restart()

    def _restart(self) -> None:
        """Put dead codes on vectors offered in this step, as if each had just been chosen by its one."""
        self.idle.add_(self.chosen.sum()).mul_(self.chosen == 0)
        dead = self.idle > self.patience * self.size
        alone = (self.offers == 1) & torch.isfinite(self.pool).all(1)
        order = torch.argsort((~alone).to(torch.uint8), stable=True)
        place = dead.cumsum(0) - 1
        take = dead & (place < alone.sum())
        vectors = self.pool[order[place.clamp(0, SLOTS - 1)]]
        weight, taken = 1.0 - self.gamma, take[:, None]
        self.codebook.copy_(torch.where(taken, vectors, self.codebook))
        self.sizes.copy_(torch.where(take, weight, self.sizes))
        self.totals.copy_(torch.where(taken, weight * vectors, self.totals))
        self.idle *= ~take


def _gap(rows: Tensor, e: Tensor, examples: int) -> Tensor:
    """Mean over the elements of each example of (rows - e)^2, (examples,)."""
    return (rows - e).square().reshape(examples, -1).mean(1)


@final
class ScalarQuantizer(Quantizer):
    """Finite scalar quantisation: dimension d takes one of levels[d] values, spread evenly over [-1, 1].

    prod(levels) codes; all are in reach from the start, and there is no codebook to collapse. Even and odd
    numbers of levels are treated alike (the paper shifts the even ones by half a step).
    """

    steps: Tensor  # (D,) L_d - 1
    basis: Tensor  # (D,) product of the levels before

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        if not levels or min(levels) < 2:
            raise ValueError(f"every dimension has at least two levels, not {tuple(levels)}")
        super().__init__(math.prod(levels), len(levels))
        basis = [math.prod(levels[:d]) for d in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    levels: Tensor

    def forward(self, z: Tensor, noise: Noise | None = None) -> Coded:
        """Every number rounded by itself; the commitment is 0, for z cannot leave the range."""
        bounded = torch.tanh(z.float())
        codes = self.nearest(bounded)
        self._count(codes)
        values = StraightThrough.apply(bounded, self.lookup(codes))
        return Coded(values, codes, torch.zeros(len(z), device=z.device))

    def lookup(self, codes: Tensor) -> Tensor:
        """2 k_d / (L_d - 1) - 1, (B, D, *grid)."""
        place = codes.unsqueeze(1)
        digits = place // self._along(self.basis, place) % self._along(self.levels, place)
        return 2.0 * digits / self._along(self.levels - 1, place) - 1.0

    def nearest(self, values: Tensor) -> Tensor:
        """Every number of values, cut to [-1, 1], rounded by itself, (B, *grid)."""
        unit = (1.0 + values.clamp(-1.0, 1.0)) / 2
        digits = torch.round(self._along(self.levels - 1, values) * unit).long()
        return (digits * self._along(self.basis, values)).sum(1)

    def _along(self, values: Tensor, z: Tensor) -> Tensor:
        """(D,) beside the channels of z (B, D, *grid)."""
        return values.reshape(-1, *(1,) * (z.ndim - 2))
