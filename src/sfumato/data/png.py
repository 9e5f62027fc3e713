"""PNG with sixteen bits and several channels, which Pillow reads as eight bits and cannot write.

    file  = signature, chunks (length, type, data, CRC-32); IHDR first, then IDAT ..., IEND
    pixels = zlib of H rows, each one filter byte and W x C big-endian samples; with a = left, b = above,
             c = above left (by whole pixels), a byte is stored minus
             0: 0    1: a    2: b    3: floor((a + b) / 2)    4: whichever of a, b, c is nearest a + b - c

W3C, Portable Network Graphics (Third Edition), sections 5 and 9. Interlaced files are refused by name.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_TYPES = {channels: kind for kind, channels in _CHANNELS.items()}


def header(data: bytes) -> tuple[int, int, int, int] | None:
    """(height, width, bits, channels) of a PNG without palette; None for anything else."""
    if data[:8] != SIGNATURE or len(data) < 33 or data[12:16] != b"IHDR":
        return None
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    return (height, width, bits, _CHANNELS[kind]) if kind in _CHANNELS else None


def read16(data: bytes) -> NDArray[np.uint16]:
    """The samples (H, W, C) of a sixteen-bit PNG. ValueError says what is wrong with the file."""
    found = header(data)
    if found is None or found[2] != 16:
        raise ValueError("not a sixteen-bit PNG")
    height, width, _, channels = found
    if data[28]:
        raise ValueError("an interlaced sixteen-bit PNG; save it without interlacing")
    stride = 2 * channels * width
    inflate = zlib.decompressobj()
    wanted = height * (stride + 1)
    raw = bytearray()
    try:
        for part in _pixel_chunks(data):
            raw += inflate.decompress(part, wanted + 1 - len(raw))
    except zlib.error as error:
        raise ValueError(f"damaged pixel data ({error})") from None
    if len(raw) != wanted:
        raise ValueError(
            "truncated pixel data" if len(raw) < wanted else "more pixel data than the header says"
        )
    rows = np.frombuffer(bytes(raw), np.uint8).reshape(height, stride + 1)
    pixels = _unfilter(rows, 2 * channels)
    return pixels.view(">u2").astype(np.uint16).reshape(height, width, channels)


def _pixel_chunks(data: bytes) -> list[bytes]:
    at, found = 8, []
    while at + 12 <= len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        tail = data[at + 8 + length : at + 12 + length]
        if len(tail) < 4:
            break
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack(">I", tail)[0]:
            raise ValueError("a chunk fails its checksum")
        if kind == b"IDAT":
            found.append(body)
        if kind == b"IEND":
            return found
        at += 12 + length
    raise ValueError("truncated file")


def _unfilter(rows: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Undo the filters; `step` is the number of bytes of one pixel."""
    out = np.zeros((len(rows), rows.shape[1] - 1), np.uint8)
    above = np.zeros(rows.shape[1] - 1, np.uint8)
    for y, row in enumerate(rows):
        kind, line = int(row[0]), row[1:]
        if kind == 0:
            above = line
        elif kind == 1:
            above = np.add.accumulate(line.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            above = line + above
        elif kind in (3, 4):
            above = _unfilter_sequential(line.tolist(), above.tolist(), step, paeth=kind == 4)
        else:
            raise ValueError(f"unknown filter {kind}")
        out[y] = above
    return out


def _unfilter_sequential(line: list[int], above: list[int], step: int, *, paeth: bool) -> NDArray[np.uint8]:
    out = [0] * len(line)
    for i, value in enumerate(line):
        a = out[i - step] if i >= step else 0
        b = above[i]
        if paeth:
            c = above[i - step] if i >= step else 0
            da, db, dc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            guess = a if da <= db and da <= dc else (b if db <= dc else c)
        else:
            guess = (a + b) >> 1
        out[i] = (value + guess) & 255
    return np.array(out, np.uint8)


def write16(pixels: NDArray[Any]) -> bytes:
    """A sixteen-bit PNG of (H, W, C), C from 1 to 4, each row stored minus the row above."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    lines = np.full((height, rows.shape[1] + 1), 2, np.uint8)
    lines[0, 1:] = rows[0]
    lines[1:, 1:] = rows[1:] - rows[:-1]
    ihdr = struct.pack(">IIBBBBB", width, height, 16, _TYPES[channels], 0, 0, 0)
    parts = [(b"IHDR", ihdr), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(d, zlib.crc32(k))) for k, d in parts
    )
    return SIGNATURE + b"".join(chunks)
