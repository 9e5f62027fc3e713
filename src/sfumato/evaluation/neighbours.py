"""Nearest neighbours by brute force, in blocks that fit into memory.

    |u - v|^2 = |u|^2 + |v|^2 - 2 u . v

finds candidates with one matrix product for each block, in single precision on centred rows. The expansion
cancels for near copies, the very case that memorisation asks about; so a few more candidates than wanted
are kept, and their distances computed again as |u - v| in double precision. Those decide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .spread import Rows

Indices = npt.NDArray[np.intp]
BLOCK = 2**24  # entries of one block of distances: 64 MiB
SPARE = 4  # candidates beyond those wanted, against rounding


def nearest(queries: Rows, points: Rows, k: int, *, itself: bool = False) -> tuple[Rows, Indices]:
    """Distances and indices (n, k) of each query's k nearest points, nearest first.

    itself: the queries are the points, and a point is not its own neighbour.
    """
    available = len(points) - int(itself)
    if not 1 <= k <= available:
        raise ValueError(f"{k} neighbours were asked for among {available} points")
    centre = points.mean(axis=0)
    q, p = (torch.from_numpy((rows - centre).astype(np.float32)) for rows in (queries, points))
    norms = (p**2).sum(1)
    distances, indices = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.intp)
    rows = max(1, BLOCK // len(points))
    for start in range(0, len(queries), rows):
        stop = min(start + rows, len(queries))
        scores = torch.addmm(norms, q[start:stop], p.T, alpha=-2.0)  # |u - v|^2 up to |u|^2
        if itself:
            scores[torch.arange(stop - start), torch.arange(start, stop)] = torch.inf
        found = scores.topk(min(k + SPARE, available), dim=1, largest=False).indices.numpy()
        exact = [np.linalg.norm(points[j] - queries[start:stop], axis=1) for j in found.T]
        order = np.argsort(np.stack(exact, axis=1), axis=1, kind="stable")[:, :k]
        distances[start:stop] = np.take_along_axis(np.stack(exact, axis=1), order, axis=1)
        indices[start:stop] = np.take_along_axis(found, order, axis=1)
    return distances, indices


def counts_within(queries: Rows, points: Rows, radii: Rows) -> Indices:
    """For each query (n,), how many points j have it within their radius radii[j]."""
    q, p = torch.from_numpy(queries), torch.from_numpy(points)
    norms, reach = (p**2).sum(1), torch.from_numpy(radii) ** 2
    slack = 1e-9 * (norms + reach)  # the expansion's rounding must not exclude a point from its own ball
    own = -(q**2).sum(1, keepdim=True)
    rows = max(1, BLOCK // 2 // len(points))
    blocks = range(0, len(q), rows)
    scores = (torch.addmm(norms - reach - slack, q[s : s + rows], p.T, alpha=-2.0) for s in blocks)
    inside = [(block <= own[s : s + rows]).sum(1).numpy() for s, block in zip(blocks, scores, strict=True)]
    return np.concatenate(inside)
