"""What an array shows: its layout, kind, range, statistics and fingerprint.

The layout is decided by one rule, written here once. N examples in an array of

    2 axes   (N, D)             D <= 3: points with D coordinates; else signals of length D, one channel
    3 axes   (N, H, W)          gray images
    4 axes   (N, H, W, C)       if the last axis is at most 4; else (N, C, H, W) if the second is at most 4
    5 axes   (N, D, H, W, C)    volumes, same rule

Anything else needs `layout`, the axes by letter: N first, C the channels, T time, others space, e.g. "NCHW",
"NCL", "NTHWC".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, UsageError
from .facts import KINDS, Facts

Array = NDArray[Any]
MOST_CHANNELS = 4


def guess_layout(shape: Sequence[int]) -> str:
    """The axes of an array of this shape by letter; UsageError where the rule of the module is silent."""
    axes = len(shape)
    if axes == 2:
        return "NC" if shape[1] <= 3 else "NL"
    if axes == 3:
        return "NHW"
    spatial = "HW" if axes == 4 else "DHW"
    if axes in (4, 5) and shape[-1] <= MOST_CHANNELS:
        return f"N{spatial}C"
    if axes in (4, 5) and shape[1] <= MOST_CHANNELS:
        return f"NC{spatial}"
    raise UsageError(
        f"cannot tell which axis of {tuple(shape)} holds the channels",
        remedy="Name the axes, for instance --layout NHWC, NCHW, NHW or NCL.",
    )


def channels_first(array: Array, layout: str | None = None) -> Array:
    """Any layout -> (N, C, *space), time first in space."""
    layout = guess_layout(array.shape) if layout is None else layout.upper()
    if len(layout) != array.ndim or layout[:1] != "N" or len(set(layout)) != len(layout):
        raise UsageError(
            f"layout {layout} does not describe an array of shape {array.shape}",
            remedy="One letter for each axis, N first, C for channels, e.g. NHWC.",
        )
    if "T" in layout:
        array = np.moveaxis(array, layout.index("T"), 1)
        layout = "NT" + layout[1:].replace("T", "")
    if "C" not in layout:
        return array[:, None]
    return np.moveaxis(array, layout.index("C"), 1)


def stored_kind(array: Array, where: object = None) -> Array:
    """The array in one of the three stored kinds, without losing anything a float32 can hold."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.name in KINDS:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low >= 0 and high <= 255:
            return array.astype(np.uint8)
        return array.astype(np.uint16 if low >= 0 and high <= 65535 else np.float32)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what no float32 can hold becomes infinite and is refused as that
            return array.astype(np.float32)
    raise DataError(
        f"an array of {array.dtype} holds no pictures",
        where=where,
        remedy="Numbers only: integers or floats.",
    )


def value_range(stored: Array, where: object = None) -> tuple[float, float, float]:
    """(low, high, spacing) of stored values: 0, 255, 1 for uint8; otherwise what the data show.

    The spacing of sixteen-bit values is their greatest common step, so that twelve-bit data in a
    sixteen-bit container, or eight-bit data multiplied by 257, count their true levels.
    """
    if stored.dtype == np.uint8:
        return 0.0, 255.0, 1.0
    if stored.dtype == np.uint16:
        seen = np.zeros(65536, dtype=bool)
        for start in range(0, len(stored), 1024):
            seen[stored[start : start + 1024]] = True
        values = np.flatnonzero(seen)
        step = int(np.gcd.reduce(values - values[0]))
        return float(values[0]), float(values[-1]), float(max(1, step))
    low, high = np.inf, -np.inf
    for start in range(0, len(stored), 1024):
        part = stored[start : start + 1024]
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if not np.isfinite([low, high]).all():
        raise DataError("some values are NaN or infinite", where=where, remedy="Remove or replace them.")
    return float(low), float(high), 1.0


def channel_statistics(
    stored: Array, middle: float, half: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in model units, over at most about 10,000 examples."""
    step = max(1, len(stored) // 10_000)
    axes = (0, *range(2, stored.ndim))
    total = np.zeros((2, stored.shape[1]))
    count = 0
    for start in range(0, len(stored), 1024 * step):
        x = (stored[start : start + 1024 * step : step].astype(np.float64) - middle) / half
        total += x.sum(axes), (x * x).sum(axes)
        count += x.size // stored.shape[1]
    mean = total[0] / count
    std = np.sqrt(np.maximum(total[1] / count - mean**2, 0.0))
    return tuple(map(float, mean)), tuple(map(float, std))


def hash_rows(stored: Array) -> NDArray[np.uint64]:
    """(N,) BLAKE2b-64 of the bytes of each row; copies of one example have equal hashes."""
    out = np.empty(len(stored), dtype=np.uint64)
    for i in range(len(stored)):
        digest = hashlib.blake2b(np.ascontiguousarray(stored[i]).data, digest_size=8).digest()
        out[i] = int.from_bytes(digest, "little")
    return out


def fingerprint_of(hashes: NDArray[np.uint64], stored: Array, labels: NDArray[np.int64] | None) -> str:
    """SHA-256 over shape, kind, the hash of every example and the labels, in order."""
    digest = hashlib.sha256(f"{stored.shape}{stored.dtype.name}".encode())
    digest.update(np.ascontiguousarray(hashes).tobytes())
    digest.update(b"" if labels is None else labels.astype("<i8").tobytes())
    return digest.hexdigest()


def number_labels(labels: Sequence[Any] | Array) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels of any kind as numbers 0 ... K-1 and the K names, sorted (numbers by value, words by letter)."""
    values = np.asarray(labels).reshape(-1)
    names, ids = np.unique(values, return_inverse=True)
    return ids.astype(np.int64), tuple(str(n) for n in names.tolist())


def measured(
    stored: Array,
    *,
    labels: NDArray[np.int64] | None = None,
    hashes: NDArray[np.uint64],
    scale: tuple[float, float, float] | None = None,
    **known: Any,
) -> Facts:
    """The facts of stored values (N, C, *space).

    `scale` is (low, high, spacing) where it is known beforehand; `known` are further fields of Facts.
    """
    where = known.get("source")
    if len(stored) == 0:
        raise DataError("there are no examples", where=where, remedy="Give data with one example or more.")
    low, high, spacing = scale or value_range(stored, where)
    if low >= high:
        raise DataError(f"every value is {low:g}", where=where, remedy="There is nothing to learn from it.")
    mean, std = channel_statistics(stored, (low + high) / 2, (high - low) / 2)
    return Facts(
        channels=stored.shape[1],
        space=tuple(stored.shape[2:]),
        kind=stored.dtype.name,
        low=low,
        high=high,
        spacing=spacing,
        count=len(stored),
        fingerprint=known.pop("fingerprint", "") or fingerprint_of(hashes, stored, labels),
        mean=mean,
        std=std,
        **known,
    )
