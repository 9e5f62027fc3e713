"""TIFF of any channel count and depth, which Pillow reads as eight bits or not at all.

    file  = "II" or "MM", 42, offset of a directory; a directory is n entries (tag, type, count, value)
    image = strips or tiles, each plain or deflated, of samples: unsigned, signed or IEEE, 8 to 64 bits,
            interleaved by pixel (planar 1) or channel after channel (planar 2),
            as they are (predictor 1) or minus the left neighbour (predictor 2)

TIFF 6.0 (Adobe 1992), sections 2, 14, 15; deflate from Adobe's Technical Note 2. Only the first page.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # byte, short, long, long8: the types of the tags read here
_TAGS = {
    256: "width",
    257: "height",
    258: "bits",
    259: "compression",
    262: "photometric",
    273: "offsets",
    274: "orientation",
    277: "channels",
    278: "strip_rows",
    279: "counts",
    284: "planar",
    317: "predictor",
    322: "tile_width",
    323: "tile_height",
    324: "offsets",
    325: "counts",
    338: "extra",
    339: "format",
}


@dataclass(frozen=True)
class Page:
    """The first directory of a file."""

    order: str  # "<" or ">"
    tags: dict[str, tuple[int, ...]]
    more: bool  # further pages follow

    def get(self, name: str, default: int) -> int:
        """The first value of a tag."""
        return self.tags.get(name, (default,))[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of one sample; ValueError if the samples differ or are of no known type."""
        bits, formats = set(self.tags.get("bits", (1,))), set(self.tags.get("format", (1,)))
        if len(bits) != 1 or len(formats) != 1:
            raise ValueError("a TIFF whose channels differ in depth")
        letter = {1: "u", 2: "i", 3: "f"}.get(formats.pop())
        try:
            return np.dtype(f"{self.order}{letter}{bits.pop() / 8:g}")
        except TypeError:
            raise ValueError("a TIFF of an unknown sample type") from None


def page(data: bytes) -> Page | None:
    """The first directory; None if this is no TIFF. ValueError if the directory is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        tags = {}
        for i in range(count):
            tag, kind, n = struct.unpack_from(order + "HHI", data, at + 2 + 12 * i)
            if tag in _TAGS and kind in _SIZES and n:
                size = struct.calcsize(_SIZES[kind]) * n
                inside = at + 10 + 12 * i
                start = inside if size <= 4 else struct.unpack_from(order + "I", data, inside)[0]
                if start + size > len(data):
                    raise ValueError("a damaged TIFF directory")
                tags[_TAGS[tag]] = struct.unpack_from(f"{order}{n}{_SIZES[kind]}", data, start)
        (following,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
    except struct.error:
        raise ValueError("a truncated TIFF directory") from None
    return Page(order, tags, bool(following))


def read(data: bytes, most_pixels: int) -> NDArray[Any]:
    """The samples (H, W, C) of the first page, in the machine's byte order. ValueError names the fault."""
    first = page(data)
    if first is None:
        raise ValueError("not a TIFF")
    height, width, channels = first.get("height", 0), first.get("width", 0), first.get("channels", 1)
    if not 0 < height * width <= most_pixels or not 0 < channels <= 1024:
        raise ValueError(f"an image of {height} x {width} pixels and {channels} channels")
    if height * width * channels * first.dtype.itemsize > 1000 * max(len(data), 1):
        raise ValueError("far more pixels than the file can hold")  # deflate reaches 1032 : 1
    planes = channels if first.get("planar", 1) == 2 else 1
    each = channels // planes
    tall, wide = first.get("tile_height", 0), first.get("tile_width", 0)
    if not (tall and wide):
        tall, wide = min(first.get("strip_rows", height) or height, height), width
    down, across = -(-height // tall), -(-width // wide)
    if not len(first.tags.get("offsets", ())) == len(first.tags.get("counts", ())) == planes * down * across:
        raise ValueError("a TIFF whose strips do not cover the image")
    out = np.empty((height, width, channels), first.dtype.newbyteorder("="))
    blocks = zip(first.tags["offsets"], first.tags["counts"], strict=True)
    for i, (offset, count) in enumerate(blocks):
        plane, rest = divmod(i, down * across)
        y, x = (rest // across) * tall, (rest % across) * wide
        rows = tall if "tile_height" in first.tags else min(tall, height - y)
        block = _block(first, data[offset : offset + count], (rows, wide, each))
        part = block[: height - y, : width - x]
        out[y : y + rows, x : x + wide, plane * each : (plane + 1) * each] = part
    if first.get("photometric", 1) == 0 and out.dtype.kind == "u":
        out = np.iinfo(out.dtype).max - out  # white is zero
    return out


def _block(first: Page, raw: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    """The samples of one strip or tile."""
    wanted = int(np.prod(shape)) * first.dtype.itemsize
    compression, predictor = first.get("compression", 1), first.get("predictor", 1)
    if compression in (8, 32946):
        try:
            raw = zlib.decompressobj().decompress(raw, wanted)
        except zlib.error as error:
            raise ValueError(f"damaged pixel data ({error})") from None
    elif compression != 1:
        raise ValueError(f"TIFF compression {compression} at this depth; save it plain or deflated")
    if len(raw) < wanted:
        raise ValueError("truncated pixel data")
    block = np.frombuffer(raw[:wanted], first.dtype).reshape(shape)
    block = block.astype(first.dtype.newbyteorder("="))
    if predictor == 2 and block.dtype.kind in "ui":
        return np.add.accumulate(block, axis=1, dtype=block.dtype)
    if predictor != 1:
        raise ValueError(f"TIFF predictor {predictor}; save it without a predictor")
    return block


def write(pixels: NDArray[Any]) -> bytes:
    """A plain TIFF of (H, W, C), unsigned or float, one strip; channels beyond colour are extras."""
    height, width, channels = pixels.shape
    body = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    colours = 3 if channels >= 3 else 1
    short, long = 3, 4
    sample = 3 if pixels.dtype.kind == "f" else 1
    entries: list[tuple[int, int, tuple[int, ...]]] = [
        (256, long, (width,)),
        (257, long, (height,)),
        (258, short, (8 * pixels.dtype.itemsize,) * channels),
        (259, short, (1,)),
        (262, short, (2 if colours == 3 else 1,)),
        (273, long, (8,)),
        (277, short, (channels,)),
        (278, long, (height,)),
        (279, long, (len(body),)),
        (284, short, (1,)),
        *([(338, short, (0,) * (channels - colours))] if channels > colours else []),
        (339, short, (sample,) * channels),
    ]
    at = 8 + len(body) + len(body) % 2
    tail_at = at + 2 + 12 * len(entries) + 4
    directory, tail = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        packed = struct.pack(f"<{len(values)}{_SIZES[kind]}", *values)
        if len(packed) > 4:
            directory += struct.pack("<HHII", tag, kind, len(values), tail_at + len(tail))
            tail += packed + b"\0" * (len(packed) % 2)
        else:
            directory += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", at) + body.ljust(at - 8, b"\0") + directory + b"\0\0\0\0" + tail
