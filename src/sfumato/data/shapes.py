"""Procedural pictures with known factors, for measuring whether a representation finds them.

Every picture is one filled shape on a dark background:

    shape    square | ellipse | heart | triangle          scale   half the extent, 0.14 ... 0.28 of the side
    angle    0 ... 1 turn                                 x, y    centre, 0.35 ... 0.65 of the side
    colour   hue 0 ... 1 at full saturation

With d the signed distance to the edge in pixels, negative inside, a pixel is covered by
clip(1/2 - d, 0, 1), so edges are smooth. The factors are drawn independently and
uniformly from counter-based Philox words: picture i is the same in every data set long enough to hold it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset

FACTORS = ("shape", "scale", "angle", "x", "y", "colour")
NAMES = ("square", "ellipse", "heart", "triangle")
_BACKGROUND = 0.08
Floats = NDArray[np.floating]


def shapes(count: int = 10_000, size: int = 32, seed: int = 0) -> Dataset:
    """Pictures (count, 3, size, size), uint8, labelled by shape, with all six factors."""
    factors = draw_factors(count, seed)
    pictures = np.concatenate([render(factors[i : i + 256], size) for i in range(0, count, 256)])
    return Dataset.of(
        pictures,
        [NAMES[int(s)] for s in factors[:, 0]],
        layout="NHWC",
        factors=factors,
        factor_names=FACTORS,
        source="shapes",
        pipeline=f"{size} x {size} RGB 8-bit -> [-1, 1]",
    )


def draw_factors(count: int, seed: int = 0) -> Floats:
    """(count, 6) independent factors: the number of the shape, then scale, angle, x, y, colour."""
    words = np.random.Philox(key=seed).random_raw(count * len(FACTORS))
    u = (words >> np.uint64(11)).reshape(count, -1) * 2.0**-53
    shape = np.floor(u[:, 0] * len(NAMES))
    return np.stack(
        [shape, 0.14 + 0.14 * u[:, 1], u[:, 2], 0.35 + 0.3 * u[:, 3], 0.35 + 0.3 * u[:, 4], u[:, 5]], 1
    )


def render(factors: Floats, size: int) -> NDArray[np.uint8]:
    """Factors (N, 6) -> pictures (N, size, size, 3): a pure function, so that one factor can be varied."""
    values = factors.astype(np.float32)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    scale, angle, x, y, colour = (values[:, i, None, None] for i in range(1, 6))
    dx, dy = grid[None, None, :] - x, grid[None, :, None] - y
    c, s = np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)
    u, v = (c * dx + s * dy) / scale, (c * dy - s * dx) / scale
    distance = np.empty_like(u)
    for kind, of in enumerate((_square, _ellipse, _heart, _triangle)):
        mine = factors[:, 0] == kind
        distance[mine] = of(u[mine], v[mine])
    cover = np.clip(0.5 - distance * scale * size, 0.0, 1.0)[..., None]
    picture = cover * _hue(colour) + (1.0 - cover) * _BACKGROUND
    return np.round(255.0 * picture).astype(np.uint8)


def _square(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v)) - 0.8


def _ellipse(u: Floats, v: Floats) -> Floats:
    """First order: f / |grad f| with f = |(u, v / 0.6)| - 1."""
    r = np.hypot(u, v / 0.6)
    return (r - 1.0) * r / np.maximum(np.hypot(u, v / 0.36), 1e-6)


def _heart(u: Floats, v: Floats) -> Floats:
    """A square on its corner and a disc on each upper edge, v pointing down."""
    across = np.abs(u)
    square = (across + np.abs(v) - 0.7) / 2.0**0.5
    disc = np.hypot(across - 0.35, v + 0.35) - 0.7 / 2.0**0.5
    return np.minimum(square, disc)


def _triangle(u: Floats, v: Floats) -> Floats:
    side = (1.6 * np.abs(u) - v - 1.0) / np.hypot(1.6, 1.0)
    return np.maximum(v - 0.5, side)


def _hue(h: Floats) -> Floats:
    """(N, 1, 1) hues -> (N, 1, 1, 3) colours of full saturation and value."""
    return np.clip(np.abs((6.0 * h[..., None] + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
