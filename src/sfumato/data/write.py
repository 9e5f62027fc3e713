"""Stored values as files that keep the depth and the channels of the source.

    8 or 16 bits, gray or RGB, with or without transparency      PNG
    float, or other channel counts up to 4                       TIFF
    more than 4 channels, signals, volumes, points               NPY

Nothing but pixels is written: no EXIF, no place, no date.
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import StorageError, UsageError
from . import png, tiff
from .decode import EXTENSIONS
from .facts import Facts

Array = NDArray[Any]


def suffix_for(facts: Facts) -> str:
    """The kind of file that holds one example without loss: .png, .tif or .npy."""
    if len(facts.size) != 2 or facts.channels > 4:
        return ".npy"
    coloured = facts.channels in (1, 3) or (facts.alpha and facts.channels in (2, 4))
    return ".png" if coloured and facts.kind in ("uint8", "uint16") else ".tif"


def write_image(image: Array, path: str | Path, facts: Facts) -> Path:
    """Write one example, stored values of shape `size` or (*size, C), in its own depth; returns where.

    The suffix is added if `path` has none. UsageError for one that would lose something: a .png of floats.
    """
    path, fitting = Path(path), suffix_for(facts)
    if path.suffix.lower() not in (*EXTENSIONS, ".npy"):  # a dot in the name is no suffix
        path = path.with_name(path.name + fitting)
    kind = path.suffix.lower().replace(".tiff", ".tif")
    if kind not in {".png": (".png", ".tif", ".npy"), ".tif": (".tif", ".npy")}.get(fitting, (".npy",)):
        raise UsageError(
            f"a {kind} file cannot hold this data unchanged ({facts.channels} channel(s), {facts.kind})",
            where=path,
            remedy=f"Use {fitting}.",
        )
    if kind == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, image, allow_pickle=False)
        data = buffer.getvalue()
    else:
        pixels = np.ascontiguousarray(image.reshape(*facts.size, facts.channels))
        data = tiff.write(pixels) if kind == ".tif" else _png(pixels)
    _replace(path, data)
    return path


def _png(pixels: Array) -> bytes:
    if pixels.dtype == np.uint16:
        return png.write16(pixels)
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
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"cannot write: {error.strerror or error}",
            where=path,
            remedy="Free some space, or choose another folder with --out."
            if full
            else "Check that the folder can be written to, or choose another with --out.",
        ) from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
