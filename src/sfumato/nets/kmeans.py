"""Nearest neighbours in a codebook, and k-means to start one (Lloyd 1982; Arthur and Vassilvitskii 2007).

    argmin_k |z - e_k|^2 = argmin_k (|e_k|^2 / 2 - z . e_k)

One matrix product; |z|^2 is the same for every k and is left out. k-means repeats (assign each vector to its
nearest centre; move each centre to the mean of its vectors). It starts from vectors drawn one by one with
probability proportional to the squared distance to those drawn before; centres that lose all vectors move to
those that are worst served.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import DataError

AT_ONCE = 2**17  # distances held at a time: they stay in the processor's cache
PER_CODE = 100  # vectors per code beyond which k-means gains nothing
ROUNDS = 20


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """The index (N,) of the vector of codebook (K, D) nearest to each of rows (N, D).

    `min` and its indices, for on a CPU torch's argmin takes twice as long.
    """
    half, turned = 0.5 * codebook.square().sum(1), codebook.t()
    size = max(1, AT_ONCE // len(codebook))
    if rows.is_cuda or len(rows) <= size:
        return torch.addmm(half, rows, turned, alpha=-1.0).min(1).indices
    found = torch.empty(len(rows), dtype=torch.int64)
    room = rows.new_empty(size, len(codebook))
    for part, index in zip(rows.split(size), found.split(size), strict=True):
        distances = torch.addmm(half, part, turned, alpha=-1.0, out=room[: len(part)])
        index.copy_(distances.min(1).indices)
    return found


def kmeans(vectors: Tensor, count: int, *, seed: int, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Centres (count, D) of vectors (N, D) and the share of the vectors each has, (count,).

    A pure function of its arguments. DataError where there are fewer vectors than centres, or any is not
    finite.
    """
    if len(vectors) < count:
        raise DataError(
            f"a codebook of {count:,} codes cannot start from {len(vectors):,} vectors",
            remedy="Use fewer codes (--set codes=...), or more data.",
        )
    if not bool(torch.isfinite(vectors).all()):
        raise DataError("the encoded data hold NaN or infinity", remedy="Look at the data with the doctor.")
    generator = torch.Generator().manual_seed(seed)
    rows = vectors.detach().float().cpu()
    rows = rows[torch.randperm(len(rows), generator=generator)[: PER_CODE * count]]
    centres = _start(rows, count, generator)
    sizes = torch.zeros(count)
    for _ in range(rounds):
        index = nearest(rows, centres)
        sizes = torch.bincount(index, minlength=count).to(rows)
        total = torch.zeros_like(centres).index_add_(0, index, rows)
        moved = torch.where(sizes[:, None] > 0, total / sizes.clamp_min(1.0)[:, None], centres)
        empty = (sizes == 0).nonzero()[:, 0]
        if len(empty):
            error = (rows - moved[index]).square().sum(1)
            moved[empty] = rows[error.topk(len(empty)).indices]
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres.to(vectors), (sizes / len(rows)).to(vectors)


def _start(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows, far from one another; neighbours of the first where fewer are different."""
    centres = torch.empty(count, rows.shape[1])
    square = rows.square().sum(1)
    jitter = 1e-3 * float(rows.std().clamp_min(1e-3))
    distance = torch.ones(len(rows))
    for k in range(count):
        total = distance.cumsum(0, dtype=torch.float64)
        u = torch.rand((), dtype=torch.float64, generator=generator) * total[-1]
        at = min(int(torch.searchsorted(total, u, right=True)), len(rows) - 1)
        beside = rows[0] + jitter * torch.randn(rows.shape[1], generator=generator)
        centres[k] = rows[at] if total[-1] > 0 else beside
        to_it = (square - 2.0 * (rows @ centres[k]) + centres[k].square().sum()).clamp_min(0.0)
        distance = to_it if k == 0 else torch.minimum(distance, to_it)
        distance[distance < 1e-6 * square.mean()] = 0.0  # rounding is no distance
    return centres
