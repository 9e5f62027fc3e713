"""The mixed folder of every user's nightmares: one picture of each odd kind among ordinary ones.

    names = make_odd_folder(tmp_path)      # returns what is in it, by kind

Ordinary pictures are 24 x 24 RGB with a soft gradient and a square, all different.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sfumato.data import png, tiff


@dataclass(frozen=True)
class OddFolder:
    """Where the folder is, which files are unusable and why, and which are odd but used."""

    path: Path
    ordinary: int
    bad: dict[str, str]  # name -> a word that the reason must contain
    odd: dict[str, str]  # name -> a word of the oddity that must name it


def picture(seed: int, height: int = 24, width: int = 24, channels: int = 3) -> np.ndarray:
    """A soft gradient with a square in it, uint8 (H, W, C)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    slope = rng.uniform(-1, 1, (2, channels))
    base = 120 + 60 * (slope[0] * (y / height)[..., None] + slope[1] * (x / width)[..., None])
    top, left = rng.integers(0, max(1, height // 2)), rng.integers(0, max(1, width // 2))
    base[top : top + height // 3 + 1, left : left + width // 3 + 1] = rng.uniform(0, 255, channels)
    return np.clip(base, 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **how) -> None:
    """Write uint8 pixels with Pillow; the suffix decides the format."""
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, **how)


def exif(orientation: int) -> bytes:
    """EXIF bytes that hold an orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def bomb(side: int = 30_000) -> bytes:
    """A tiny PNG that announces side x side one-bit pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    raw = zlib.compress(b"\0" * ((side // 8 + 1) * 64), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


def make_odd_folder(path: Path, ordinary: int = 100, *, bad: bool = True) -> OddFolder:
    """Fill a folder; with bad=False without the unusable files. The bad ones stay below 5 % of 100 + 15."""
    path.mkdir(parents=True, exist_ok=True)
    for i in range(ordinary):
        save(path / f"img{i:03}.png", picture(i))
    save(path / "gray.png", picture(200, channels=1))
    save(path / "rgba.png", np.dstack([picture(201), np.full((24, 24), 100, np.uint8)]))
    deep = picture(202, channels=1)[..., 0].astype(np.uint16) * 150 + 112
    Image.fromarray(deep).save(path / "deep16.tif")
    save(path / "turned.jpg", picture(203, 24, 40), exif=exif(6), quality=95)
    save(path / "tiny.png", picture(204, 5, 5))
    save(path / "huge.jpg", picture(205, 900, 1200), quality=80)
    save(path / "wide.png", picture(206, 24, 60))
    save(path / "UPPER.PNG", picture(207))
    save(path / "constant.png", np.full((24, 24, 3), 77, np.uint8))
    save(path / "copy.png", picture(0))
    Image.fromarray(picture(208)).convert("P").save(path / "palette.gif")
    Image.fromarray(picture(209)).convert("CMYK").save(path / "print.jpg", quality=95)
    Image.fromarray(picture(210)).convert("1").save(path / "bilevel.png")
    (path / "colour16.png").write_bytes(png.write16(picture(211).astype(np.uint16) * 257))
    (path / "notes.txt").write_text("not a picture")
    odd = {
        "gray.png": "gray converted to RGB",
        "rgba.png": "transparency",
        "deep16.tif": "16-bit converted to 8-bit",
        "colour16.png": "16-bit converted to 8-bit",
        "turned.jpg": "EXIF",
        "tiny.png": "tiny",
        "huge.jpg": "huge",
        "wide.png": "cut off",
        "constant.png": "constant",
        "print.jpg": "CMYK",
        "bilevel.png": "gray converted to RGB",
    }
    faults: dict[str, str] = {}
    if bad:
        whole = (path / "huge.jpg").read_bytes()
        (path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
        (path / "empty.png").write_bytes(b"")
        (path / "renamed.png").write_bytes(b"%PDF-1.7 nothing to see")
        (path / "bomb.png").write_bytes(bomb())
        (path / "nan.tif").write_bytes(tiff.write(np.full((24, 24, 1), np.nan, np.float32)))
        faults = {
            "truncated.jpg": "truncated",
            "empty.png": "empty",
            "renamed.png": "PDF",
            "bomb.png": "64 million",
            "nan.tif": "NaN",
        }
    return OddFolder(path, ordinary, faults, odd)
