"""Clips: examples with time, (C, T, H, W). Frames side by side in a picture, and moving digits.

    moving digits    a digit of 8 x 8 pixels glides over a dark frame and bounces off its borders:
                     p(t) = fold(p_0 + v t),   fold(s) = R - |R - s mod 2R|,   R the room on an axis

Position and velocity are drawn uniformly; positions are real numbers, so pixels are interpolated linearly.
Everything after a few frames is determined by them: what a model cannot say, it has not found out.
The clips are the same everywhere and clip i is the same in every data set long enough to hold it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, UsageError
from .dataset import Dataset

FACTORS = ("digit", "x", "y", "velocity x", "velocity y")
DIGIT = 8  # pixels a side
FASTEST = 1.5  # pixels a frame, on each axis
Floats = NDArray[np.floating]


def moving_digits(count: int = 4_000, frames: int = 20, size: int = 20, seed: int = 0) -> Dataset:
    """Clips (count, 1, frames, size, size), uint8, labelled by digit, with position and velocity as factors.

    x and y are the left and upper edge of the digit in the first frame, in pixels. UsageError where a
    digit has no room to move.
    """
    if size <= DIGIT:
        raise UsageError(
            f"a digit of {DIGIT} x {DIGIT} pixels cannot move in frames of {size} x {size}",
            where="moving-digits",
            remedy=f"Choose a size of {DIGIT + 1} or more.",
        )
    from sklearn.datasets import load_digits

    source = load_digits()
    factors, which = draw_motions(count, size - DIGIT, len(source.images), seed)
    factors[:, 0] = source.target[which]
    clips = np.concatenate(
        [
            render(
                source.images[which[i : i + 256]] / 16.0, positions(factors[i : i + 256], frames, size), size
            )
            for i in range(0, count, 256)
        ]
    )
    return Dataset.of(
        clips,
        source.target[which],
        layout="NTHW",
        factors=factors,
        factor_names=FACTORS,
        source="moving-digits",
        pipeline=f"{frames} frames of {size} x {size} gray 8-bit -> [-1, 1]",
    )


def draw_motions(count: int, room: float, digits: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Factors (count, 5) with the digit's class left at 0, and which of the scans (count,) moves."""
    words = np.random.Philox(key=seed).random_raw(count * 5)
    u = (words >> np.uint64(11)).reshape(count, 5) * 2.0**-53
    motion = np.stack([0 * u[:, 0], *(room * u[:, 1:3].T), *(FASTEST * (2.0 * u[:, 3:5].T - 1.0))], 1)
    return motion, (u[:, 0] * digits).astype(np.int64)


def positions(factors: Floats, frames: int, size: int) -> Floats:
    """Where the digit's left upper corner is, (N, frames, 2) in pixels: x, then y."""
    t = np.arange(frames)[None, :, None]
    straight = factors[:, None, 1:3] + t * factors[:, None, 3:5]
    room = size - DIGIT
    return room - np.abs(room - np.mod(straight, 2 * room))


def render(pictures: Floats, where: Floats, size: int) -> NDArray[np.uint8]:
    """Pictures (N, 8, 8) in [0, 1] at places (N, T, 2) -> frames (N, T, size, size), linearly interpolated.

    A pixel is the sum over the digit's pixels of (1 - |dx|)_+ (1 - |dy|)_+ of their brightness.
    """
    grid, cells = np.arange(size, dtype=np.float32), np.arange(DIGIT, dtype=np.float32)

    def weights(corner: Floats) -> Floats:
        centre = corner[..., None, None].astype(np.float32) + cells
        return np.clip(1.0 - np.abs(grid[:, None] - centre), 0.0, 1.0)

    across, down = weights(where[..., 0]), weights(where[..., 1])  # (N, T, size, 8)
    bright = down @ pictures[:, None].astype(np.float32) @ np.swapaxes(across, -1, -2)
    return np.round(255.0 * np.clip(bright, 0.0, 1.0)).astype(np.uint8)


def cut_into_frames(strips: Dataset, frames: int) -> Dataset:
    """Clips from pictures that hold their frames side by side: (N, C, H, T W) -> (N, C, T, H, W).

    DataError where the width is not a multiple of the number of frames.
    """
    height, width = strips.facts.size
    if width % frames:
        raise DataError(
            f"pictures {width} wide do not hold {frames} frames side by side",
            where=strips.facts.source,
            remedy="Give the number of frames that each picture holds.",
        )
    shape = (len(strips.stored), strips.facts.channels, height, frames, width // frames)
    stored = np.ascontiguousarray(np.moveaxis(strips.stored.reshape(shape), 3, 2))
    pipeline = f"{frames} frames of {height} x {width // frames} side by side; {strips.facts.pipeline}"
    return Dataset(
        stored,
        replace(strips.facts, space=(frames, height, width // frames), time=True, pipeline=pipeline),
        labels=strips.labels,
        factors=strips.factors,
        captions=strips.captions,
        names=strips.names,
        hashes=strips.hashes,
        survey=strips.survey,
    )
