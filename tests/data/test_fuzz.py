"""Mutated files: a picture or Unreadable, within seconds, and nothing else.

Decoded in this process, so that an exception of any other kind fails the test; the child processes of real
use add limits of memory and time on top.
"""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from odd_images import picture
from sfumato.data import png, tiff
from sfumato.data.decode import MOST_PIXELS, Unreadable, decode, peek
from sfumato.data.fitting import prepare
from sfumato.data.options import Plan

EACH = 200
PLAN = Plan("uint8", 3, (16, 16))


def seeds() -> dict[str, bytes]:
    """One small valid file of each kind."""
    image = Image.fromarray(picture(0, 12, 14))
    files = {}
    for kind, how in (("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("BMP", {}), ("GIF", {}), ("TIFF", {})):
        buffer = io.BytesIO()
        image.save(buffer, kind, **how)
        files[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression="tiff_lzw")
    files["TIFF-LZW"] = buffer.getvalue()
    files["PNG16"] = png.write16(picture(0, 12, 14).astype(np.uint16) * 257)
    files["TIFF5"] = tiff.write(picture(0, 12, 14, 5).astype(np.uint16))
    files["TIFF-F"] = tiff.write(picture(0, 12, 14).astype(np.float32))
    return files


SEEDS = seeds()


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat or overwrite a few places, most of them near the start where the headers are."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        near = len(out) if rng.random() < 0.5 else min(len(out), 80)
        at = int(rng.integers(0, max(1, near)))
        way = rng.integers(0, 5)
        if way == 0:
            out[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif way == 1:
            out[at : at + 4] = int(rng.integers(0, 2**32)).to_bytes(4, "big")
        elif way == 2:
            out[at : at + 4] = b"\xff\xff\xff\xff"
        elif way == 3:
            del out[at : at + int(rng.integers(1, 40))]
        else:
            out[at:at] = out[at : at + int(rng.integers(1, 40))]
    return bytes(out)


@pytest.mark.parametrize("kind", SEEDS)
def test_mutants_are_pictures_or_unreadable(kind):
    rng = np.random.default_rng(abs(hash(kind)) % 2**32)
    read = 0
    for _ in range(EACH):
        data = mutate(SEEDS[kind], rng)
        start = time.monotonic()
        for look in (peek, decode):
            try:
                found = look(data)
            except Unreadable as error:
                assert str(error)
                continue
            if look is decode:
                header, pixels = found
                read += 1
                assert 0 < pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS
                assert pixels.shape[2] == header.colours + header.alpha
                check_prepared(header, pixels)
        assert time.monotonic() - start < 5.0
    assert read < EACH


def check_prepared(header, pixels) -> None:
    try:
        stored = prepare(header, pixels, PLAN)
    except Unreadable:
        return
    assert stored.shape == (3, 16, 16) and stored.dtype == np.uint8


@pytest.mark.parametrize("kind", SEEDS)
def test_every_truncation_is_noticed_or_harmless(kind):
    """A file cut anywhere: refused, or the very same picture (only trailing bytes were lost)."""
    _, whole = decode(SEEDS[kind])
    step = max(1, len(SEEDS[kind]) // 150)
    for cut in range(0, len(SEEDS[kind]), step):
        try:
            _, pixels = decode(SEEDS[kind][:cut])
        except Unreadable:
            continue
        assert np.array_equal(pixels, whole)


def test_random_bytes_behind_every_magic_number():
    rng = np.random.default_rng(0)
    magics = [data[:12] for data in SEEDS.values()] + [b"MM\0*", b"II*\0\x08\0\0\0", b"MM\0+", b"II+\0"]
    for _ in range(20):
        for magic in magics:
            with pytest.raises(Unreadable):
                decode(magic + rng.bytes(int(rng.integers(0, 200))))
