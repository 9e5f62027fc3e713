"""Stored values as files and as pictures for a screen.

A file keeps the depth and the channels of the source:

    8 or 16 bits, gray or RGB, with or without transparency      PNG
    float, or other channel counts up to 4                       TIFF
    more than 4 channels, signals, volumes, points               NPY

Looking is another matter: `viewable` spreads the range of the data over 0 ... 255 and `tile` lays
pictures out in a grid. Nothing here is used in training.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..core.errors import StorageError, UsageError
from . import png, tiff
from .facts import Facts

Array = NDArray[Any]
Screen = NDArray[np.uint8]
_GAP = 2
_PAPER, _INK = 255, 40


def suffix_for(facts: Facts) -> str:
    """The kind of file that holds one example without loss: .png, .tif or .npy."""
    return _suffix(facts.channels, len(facts.space), facts.kind, facts.alpha)


def _suffix(channels: int, axes: int, kind: str, alpha: bool) -> str:
    if axes != 2 or channels > 4:
        return ".npy"
    coloured = channels in (1, 3) or (alpha and channels in (2, 4))
    return ".png" if coloured and kind in ("uint8", "uint16") else ".tif"


def write_image(stored: Array, path: str | Path, *, alpha: bool = False) -> Path:
    """Write one example (C, *space) in its own depth; the suffix is added if `path` has none.

    alpha says that the last channel is transparency. UsageError if a suffix was given that would lose
    something. Nothing but pixels is written: no EXIF, no place, no date.
    """
    path = Path(path)
    fitting = _suffix(stored.shape[0], stored.ndim - 1, stored.dtype.name, alpha)
    if not path.suffix:
        path = path.with_suffix(fitting)
    kind = path.suffix.lower().replace(".tiff", ".tif")
    if kind not in {".png": (".png", ".tif", ".npy"), ".tif": (".tif", ".npy")}.get(fitting, (".npy",)):
        raise UsageError(
            f"a {kind or 'nameless'} file cannot hold {stored.dtype.name} of shape {stored.shape} unchanged",
            where=path,
            remedy=f"Use {fitting}.",
        )
    pixels = np.ascontiguousarray(np.moveaxis(stored, 0, -1))
    if kind == ".png":
        data = png.write16(pixels) if stored.dtype == np.uint16 else _png8(pixels)
    elif kind == ".tif":
        data = tiff.write(pixels)
    else:
        buffer = io.BytesIO()
        np.save(buffer, stored, allow_pickle=False)
        data = buffer.getvalue()
    _replace(path, data)
    return path


def _png8(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _replace(path: Path, data: bytes) -> None:
    """Put a whole file in place, or nothing."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write: {error.strerror or error}", where=path) from None
    finally:
        aside.unlink(missing_ok=True)


def viewable(stored: Array, facts: Facts) -> Screen:
    """Stored values as eight bits for a screen: as they are, or low ... high spread over 0 ... 255."""
    if facts.kind == "uint8":
        return stored.astype(np.uint8)
    share = (np.nan_to_num(stored.astype(np.float64), nan=facts.low) - facts.low) / (facts.high - facts.low)
    return np.round(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)


def screen(stored: Array, facts: Facts) -> Screen:
    """Stored values (N, C, *space) of any kind of data -> RGB pictures (N, H, W, 3).

    Images as they are; transparency on a chequerboard; of many channels the first three; volumes by their
    middle slice; signals as curves; points (C = 2 or more) all in one picture.
    """
    axes = stored.ndim - 2
    if axes == 0:
        return _scatter(stored, facts)[None]
    if axes == 1:
        return np.stack([_curves(one, facts) for one in stored])
    while stored.ndim > 4:
        stored = stored[:, :, stored.shape[2] // 2]
    pixels = np.moveaxis(viewable(stored, facts), 1, -1)
    if facts.alpha:
        share = pixels[..., -1:] / 255.0
        rows, columns = np.indices(pixels.shape[1:3]) // 4
        board = np.where((rows + columns) % 2, 255, 204)[..., None]
        pixels = np.round(pixels[..., :-1] * share + board * (1.0 - share)).astype(np.uint8)
    return np.repeat(pixels[..., :1], 3, axis=-1) if pixels.shape[-1] < 3 else pixels[..., :3]


def _scatter(points: Array, facts: Facts, side: int = 384) -> Screen:
    at = (points[:, :2].astype(np.float64) - facts.low) / (facts.high - facts.low)
    at = np.clip(np.round(at * (side - 1)), 0, side - 1).astype(int)
    out = np.full((side, side, 3), _PAPER, np.uint8)
    if points.shape[1] > 1:
        out[side - 1 - at[:, 1], at[:, 0]] = _INK
    return out


def _curves(signal: Array, facts: Facts, height: int = 96, width: int = 192) -> Screen:
    image = Image.new("RGB", (width, height), (_PAPER,) * 3)
    draw = ImageDraw.Draw(image)
    across = np.linspace(0, width - 1, signal.shape[1])
    for channel in viewable(signal, facts):
        down = (height - 1) * (1.0 - channel / 255.0)
        draw.line(list(zip(across.tolist(), down.tolist(), strict=True)), fill=(_INK,) * 3)
    return np.asarray(image)


def tile(pictures: Screen, columns: int | None = None, least: int = 48) -> Screen:
    """Pictures (N, H, W, 3) in one sheet, row by row; small ones enlarged in whole steps without blur."""
    count, height, width = pictures.shape[:3]
    columns = columns or max(1, min(count, round((count * height / width) ** 0.5)))
    rows = -(-count // columns)
    zoom = max(1, -(-least // max(height, width)))
    pictures = pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)
    tall, wide = height * zoom + _GAP, width * zoom + _GAP
    sheet = np.full((rows * tall + _GAP, columns * wide + _GAP, 3), _PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = _GAP + i // columns * tall, _GAP + i % columns * wide
        sheet[y : y + tall - _GAP, x : x + wide - _GAP] = picture
    return sheet


def write_sheet(stored: Array, facts: Facts, path: str | Path, columns: int | None = None) -> Path:
    """Stored values (N, C, *space) as one PNG to look at."""
    return write_image(tile(screen(stored, facts), columns).transpose(2, 0, 1), path)
