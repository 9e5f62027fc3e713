"""NumPy files, read without NumPy's own reader.

    .npy = magic, version, header length, a Python dictionary in text (descr, fortran_order, shape), values
    .npz = a zip of such files; the pictures are called images, x, data, samples or arr_0 (or are the only
           array), beside them optional labels (y), factors (latents), classes and factor_names

The header is read here by pattern and never evaluated: at most 10,000 bytes, a numeric type, a shape whose
product fits the bytes that follow. Objects cannot be expressed.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, RefusedError, UsageError
from .dataset import Dataset
from .options import Options

LONGEST_HEADER = 10_000
LARGEST_NPZ = 8 << 30  # bytes in memory
_PICTURES = ("images", "image", "x", "data", "samples", "arr_0", "imgs")
_LABELS = ("labels", "label", "y")
_FACTORS = ("factors", "latents", "latents_values")
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_WORDS = re.compile(r"[<>|=]?U\d{1,4}")
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([^'"]{1,12})['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d,\sL]*)\)""")


@dataclass(frozen=True)
class NpyHeader:
    """What a .npy file announces."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int  # where the values begin
    fortran: bool  # first axis fastest

    @property
    def bytes(self) -> int:
        """How many bytes of values must follow."""
        return math.prod(self.shape) * self.dtype.itemsize


ANEW = "Save it again: np.save(path, array), or np.savez for several."
NUMBERS_ONLY = "Save it as uint8, uint16 or float32: np.save(path, array.astype(np.uint8))."


def npy_header(file: BinaryIO, size: int, where: object) -> NpyHeader:
    """The header of an open .npy file of `size` bytes; RefusedError unless it holds numbers or words."""
    start = file.read(12)
    if start[:6] != b"\x93NUMPY" or len(start) < 12 or start[6] not in (1, 2, 3):
        raise RefusedError("not a NumPy file", where=where, remedy=ANEW)
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(start[8 : 8 + width], "little")
    if length > min(LONGEST_HEADER, size):
        raise RefusedError(f"a NumPy header of {length:,} bytes", where=where, remedy=ANEW)
    raw = start[8 + width :] + file.read(length - (4 - width))
    text = raw[:length].decode("latin-1")
    found = [pattern.findall(text) for pattern in (_DESCR, _ORDER, _SHAPE)]
    if any(len(f) != 1 for f in found) or text.count("{") != 1:
        if "'O'" in text or "|O" in text or "[(" in text:
            raise RefusedError(
                "the array holds Python objects or records, not numbers", where=where, remedy=NUMBERS_ONLY
            )
        raise RefusedError("a damaged NumPy header", where=where, remedy=ANEW)
    descr, shape_text = found[0][0], found[2][0]
    if not (_NUMBERS.fullmatch(descr) or _WORDS.fullmatch(descr)):
        words = "Python objects" if "O" in descr else f"type {descr}"
        raise RefusedError(f"the array holds {words}, not numbers", where=where, remedy=NUMBERS_ONLY)
    sizes = [s.strip().rstrip("L") for s in shape_text.split(",") if s.strip()]
    if len(sizes) > 8 or not all(s.isdecimal() and len(s) < 16 for s in sizes):
        raise RefusedError("a damaged NumPy header (shape)", where=where, remedy=ANEW)
    start_at = 8 + width + length
    header = NpyHeader(np.dtype(descr), tuple(map(int, sizes)), start_at, found[1][0] == "True")
    if header.start + header.bytes > size:
        raise RefusedError(
            f"announces {header.bytes:,} bytes of values but {max(0, size - header.start):,} follow",
            where=where,
            remedy="The file is truncated or was made to harm.",
        )
    return header


def load_npy(path: Path) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped, after the check."""
    with path.open("rb") as file:
        header = npy_header(file, path.stat().st_size, path)
    order: Any = "F" if header.fortran else "C"
    if not header.bytes:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", header.start, header.shape, order)


def load_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file, each checked before it is read."""
    arrays, total = {}, 0
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                where = f"{path}:{entry.filename}"
                with archive.open(entry) as member:
                    header = npy_header(member, entry.file_size, where)  # type: ignore[arg-type]
                    total += header.bytes
                    if total > LARGEST_NPZ:
                        raise RefusedError(
                            f"more than {LARGEST_NPZ >> 30} GiB of arrays",
                            where=path,
                            remedy="Save the pictures as .npy, which is memory-mapped.",
                        )
                    values = member.read(header.bytes)
                    if len(values) < header.bytes:
                        raise RefusedError("truncated", where=where, remedy=ANEW)
                order: Any = "F" if header.fortran else "C"
                array = np.frombuffer(values, header.dtype).reshape(header.shape, order=order)
                arrays[entry.filename.removesuffix(".npy")] = array
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise RefusedError(f"a damaged NumPy archive: {error}", where=path, remedy=ANEW) from None
    return arrays


def refuse_options(path: Path, options: Options) -> None:
    """UsageError naming the options that only pictures in files have: an array is taken as it is."""
    given = {
        "--size": options.size is not None,
        "--fit": options.fit is not Options.fit,
        "--alpha": options.alpha is not Options.alpha,
        "--channels": options.channels is not None,
        "--labels": options.labels is not None,
    }
    if any(given.values()):
        words = ", ".join(name for name, is_given in given.items() if is_given)
        raise UsageError(
            f"a NumPy file is taken as it is, without {words}",
            where=path,
            remedy="Change the array itself; labels go into an .npz beside the images.",
        )


def open_arrays(path: Path, options: Options) -> Dataset:
    """The data set of a .npy or .npz file."""
    if path.suffix.lower() == ".npy":
        arrays = {"images": load_npy(path)}
    else:
        arrays = load_npz(path)
    named = {name.lower(): array for name, array in arrays.items()}
    numbers = [name for name, array in arrays.items() if array.dtype.kind in "buif" and array.ndim > 1]
    found = _first(named, _PICTURES)
    if found is None and len(numbers) == 1:
        found = arrays[numbers[0]]
    if found is None or found.dtype.kind not in "buif" or found.ndim < 2:
        listed = ", ".join(f"{n} {a.shape}" for n, a in arrays.items()) or "nothing"
        raise DataError(
            f"cannot tell which array holds the pictures: {listed}",
            where=path,
            remedy="Call it 'images' and the labels 'labels'.",
        )
    labels, names = _first(named, _LABELS), _first(named, ("classes", "class_names"))
    names = None if names is None else names.astype(str).reshape(-1)
    if labels is not None and names is not None and labels.dtype.kind in "ui":
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
            raise DataError(
                f"labels from {labels.min()} to {labels.max()} for {len(names)} classes",
                where=path,
                remedy="A label is the place of its class in the list, from 0 on.",
            )
        labels = names[labels]
    factors, factor_names = _first(named, _FACTORS), _first(named, ("factor_names", "latents_names"))
    return Dataset.of(
        found,
        labels,
        layout=options.layout,
        factors=factors,
        factor_names=() if factor_names is None else [str(n) for n in factor_names.reshape(-1)],
        source=str(path),
    )


def _first(arrays: dict[str, NDArray[Any]], names: tuple[str, ...]) -> NDArray[Any] | None:
    return next((arrays[n] for n in names if n in arrays), None)
