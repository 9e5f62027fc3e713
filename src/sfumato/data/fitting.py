"""One decoded picture turned into one stored example, by the plan of its data set.

transparency   c' = a c + (1 - a) background            (composited at the depth of the file)
gray           0.299 R + 0.587 G + 0.114 B              (ITU-R BT.601)
depth          8 -> 16 bits: v * 257;  16 -> 8 bits: round(v / 257)
size           crop, pad or stretch with Lanczos; a picture of the right size is not resampled
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .decode import Header, Unreadable
from .options import Alpha, Fit, Plan

Array = NDArray[Any]
_LUMA = np.array([0.299, 0.587, 0.114])
_ROWS = 64
_GAP = 3.0  # a picture more than this many times too large is first reduced by whole factors
_FULL = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def prepare(header: Header, pixels: Array, plan: Plan) -> Array:
    """Pixels (H, W, colours + alpha) -> stored (C, H, W) of plan.kind and plan.size."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise Unreadable("contains NaN or infinite values")
    pixels = fit(_colours(_transparency(pixels, header, plan), plan), plan)
    return np.ascontiguousarray(_depth(pixels, plan).transpose(2, 0, 1))


def _transparency(pixels: Array, header: Header, plan: Plan) -> Array:
    full = _FULL[pixels.dtype.name]
    if plan.keeps_alpha:
        if header.alpha:
            return pixels
        opaque = np.full((*pixels.shape[:2], 1), full, pixels.dtype)
        return np.concatenate([pixels, opaque], axis=2)
    if not header.alpha:
        return pixels
    out = np.ascontiguousarray(pixels[..., :-1])
    if plan.alpha is Alpha.DROP:
        return out
    ground = full if plan.alpha is Alpha.WHITE else 0.0
    for y in range(
        0, len(pixels), _ROWS
    ):  # a few rows at a time: huge pictures must fit into the child's memory
        share = pixels[y : y + _ROWS, :, -1:].astype(np.float64) / full
        mixed = out[y : y + _ROWS] * share + (1.0 - share) * ground
        out[y : y + _ROWS] = _rounded(mixed, pixels.dtype)
    return out


def _colours(pixels: Array, plan: Plan) -> Array:
    extra = int(plan.keeps_alpha)
    colours = pixels.shape[2] - extra
    if colours == plan.colours:
        return pixels
    alpha = pixels[..., colours:]
    if colours == 1 and plan.colours == 3:
        return np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), alpha], axis=2)
    if colours == 3 and plan.colours == 1:
        gray = np.empty((*pixels.shape[:2], 1), pixels.dtype)
        for y in range(0, len(pixels), _ROWS):
            gray[y : y + _ROWS, :, 0] = _rounded(pixels[y : y + _ROWS, :, :3] @ _LUMA, pixels.dtype)
        return np.concatenate([gray, alpha], axis=2)
    raise Unreadable(f"it has {colours} channel(s), the data set {plan.colours}")


def _depth(pixels: Array, plan: Plan) -> Array:
    name = pixels.dtype.name
    if name == plan.kind:
        return pixels
    if (name, plan.kind) == ("uint8", "uint16"):
        return pixels.astype(np.uint16) * np.uint16(257)
    if (name, plan.kind) == ("uint16", "uint8"):
        return _rounded(pixels / 257.0, np.dtype(np.uint8))
    words = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}
    raise Unreadable(f"{words[name]} values among {words[plan.kind]} ones have no common scale")


def _rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    return values.astype(dtype) if dtype.kind == "f" else np.round(values).astype(dtype)


# --------------------------------------------------------------------------------------- size


def fit(pixels: Array, plan: Plan) -> Array:
    """Bring (H, W, C) to plan.size by plan.fit, without resampling where only a cut or border is needed."""
    (height, width), (tall, wide) = pixels.shape[:2], plan.size
    if (height, width) == (tall, wide):
        return pixels
    if plan.fit is Fit.STRETCH:
        return resize(pixels, (tall, wide), plan.keeps_alpha)
    ratios = tall / height, wide / width
    ratio = max(ratios) if plan.fit is Fit.CROP else min(ratios)
    size = max(1, round(height * ratio)), max(1, round(width * ratio))
    if plan.fit is Fit.CROP:
        size = max(size[0], tall), max(size[1], wide)
        pixels = resize(pixels, size, plan.keeps_alpha)
        y, x = (size[0] - tall) // 2, (size[1] - wide) // 2
        return pixels[y : y + tall, x : x + wide]
    size = min(size[0], tall), min(size[1], wide)
    pixels = resize(pixels, size, plan.keeps_alpha)
    y, x = (tall - size[0]) // 2, (wide - size[1]) // 2
    border = ((y, tall - size[0] - y), (x, wide - size[1] - x), (0, 0))
    return np.pad(pixels, border, mode="edge")


def resize(pixels: Array, size: tuple[int, int], alpha: bool = False) -> Array:
    """Lanczos with antialiasing at the depth of the pixels; colours are weighted by their opacity.

    The overshoot of the filter is clipped to the range that the picture had before.
    """
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3) and not alpha:
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
        small = np.asarray(
            image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_GAP)
        ).reshape(height, width, -1)
        return np.clip(small, pixels.min((0, 1)), pixels.max((0, 1)))
    weight = pixels[..., -1].astype(np.float32) if alpha else np.ones(pixels.shape[:2], np.float32)
    share = np.maximum(_lanczos(weight, height, width), 1e-3) if alpha else 1.0
    planes = []
    for c in range(pixels.shape[2]):
        plane = pixels[..., c].astype(np.float32)
        low, high = float(plane.min()), float(plane.max())
        if alpha and c < pixels.shape[2] - 1:
            small = _lanczos(plane * weight, height, width) / share
        else:
            small = _lanczos(plane, height, width)
        planes.append(np.clip(small, low, high))
    return _rounded(np.stack(planes, axis=2), pixels.dtype)


def _lanczos(plane: Array, height: int, width: int) -> Array:
    image = Image.fromarray(plane)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_GAP))
