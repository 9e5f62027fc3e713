"""Exact nearest neighbours by brute force, in blocks that fit into memory.

    |u - v|^2 = |u|^2 + |v|^2 - 2 u . v

finds the candidates with one matrix product per block; the distances of the winners are then
computed again as |u - v|, because the expansion above cancels for near copies, the very case that
memorisation asks about.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .spread import Rows

Indices = npt.NDArray[np.intp]
BLOCK = 2**24  # entries of one block of distances: 128 MiB


def _squared(queries: Rows, points: Rows, norms: Rows) -> Rows:
    return (queries**2).sum(axis=1)[:, None] + norms[None, :] - 2.0 * (queries @ points.T)


def nearest(queries: Rows, points: Rows, k: int, *, itself: bool = False) -> tuple[Rows, Indices]:
    """Distances and indices (n, k) of each query's k nearest points, nearest first.

    itself: the queries are the points, and a point is not its own neighbour.
    """
    available = len(points) - int(itself)
    if not 1 <= k <= available:
        raise ValueError(f"{k} neighbours were asked for among {available} points")
    norms = (points**2).sum(axis=1)
    distances, indices = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.intp)
    rows = max(1, BLOCK // len(points))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        squared = _squared(part, points, norms)
        if itself:
            squared[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        found = np.argpartition(squared, k - 1, axis=1)[:, :k]
        exact = np.stack([np.linalg.norm(points[found[:, j]] - part, axis=1) for j in range(k)], axis=1)
        order = np.argsort(exact, axis=1, kind="stable")
        distances[start : start + rows] = np.take_along_axis(exact, order, axis=1)
        indices[start : start + rows] = np.take_along_axis(found, order, axis=1)
    return distances, indices


def counts_within(queries: Rows, points: Rows, radii: Rows) -> Indices:
    """For each query (n,), how many points j have it within their radius radii[j]."""
    norms = (points**2).sum(axis=1)
    slack = 1e-9 * (norms + radii**2)  # the expansion's rounding must not exclude a point from its own ball
    rows = max(1, BLOCK // len(points))
    blocks = range(0, len(queries), rows)
    inside = [_squared(queries[s : s + rows], points, norms) <= radii**2 + slack for s in blocks]
    return np.concatenate([block.sum(axis=1) for block in inside])
