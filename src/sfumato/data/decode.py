"""From the bytes of one file to its pixels, distrusting every byte.

Formats by allow-list, at most 64 million pixels, EXIF rotation applied, first frame only. Depth is kept:
sixteen-bit colour and many-channel TIFF bypass Pillow, which would narrow or refuse them. The only error
is Unreadable, with a reason in words. No torch here: decoding runs in small child processes.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from . import png, tiff

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PIXELS = 64_000_000
_EXIF_ORIENTATION = 0x0112
Array = NDArray[Any]


class Unreadable(Exception):
    """This file cannot be used; the message says why."""


@dataclass(frozen=True)
class Header:
    """What a file says about itself, after rotation."""

    format: str
    mode: str  # Pillow's mode, or e.g. "RGB 16-bit"
    height: int
    width: int
    colours: int  # channels without transparency
    kind: str  # uint8 | uint16 | float32
    alpha: bool
    orientation: int = 1  # EXIF; 1 is upright
    frames: bool = False  # further frames or pages were left out

    def to_json(self) -> dict[str, Any]:
        """Plain values (sent between processes)."""
        return asdict(self)


def peek(data: bytes) -> Header:
    """The header of a file, without decoding its pixels."""
    own = _own_header(data)
    if own is not None:
        return own
    with _guarded(), _open(data) as image:
        return _header(image, data)


def decode(data: bytes, near: tuple[int, int] | None = None) -> tuple[Header, Array]:
    """Header and pixels (H, W, colours + alpha), uint8, uint16 or float32, upright.

    `near` is the size wanted later: a far larger JPEG is decoded at a fraction of its size.
    """
    own = _own_header(data)
    with _guarded():
        if own is not None:
            pixels = png.read16(data) if own.format == "PNG" else _depth(tiff.read(data, MOST_PIXELS))
            return own, upright(pixels, own.orientation)
        with _open(data) as image:
            header = _header(image, data)
            if near is not None and header.format == "JPEG":
                image.draft(None, (2 * max(near), 2 * max(near)))
            turned = header.orientation if header.format != "TIFF" else 1
            image.load()
            if header.format == "TIFF":  # recent versions of Pillow turn a TIFF while loading
                turned = image.getexif().get(_EXIF_ORIENTATION, 1)
            return header, upright(_pixels(image, header), turned)


def upright(pixels: Array, orientation: int) -> Array:
    """Undo an EXIF orientation, 1 to 8; anything else is taken as upright."""
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: np.rot90(a, 1),
    }
    return turns[orientation](pixels) if orientation in turns else pixels


# ------------------------------------------------------------------------------------- Pillow


class _guarded:
    """Turn whatever a decoder raises on hostile bytes into Unreadable, and bomb warnings into errors."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._warnings.__exit__(kind, error, trace)
        if error is None or isinstance(error, (Unreadable, KeyboardInterrupt, SystemExit)):
            return
        if isinstance(error, MemoryError):
            raise Unreadable("needs more memory than a picture may take") from None
        if isinstance(error, Image.DecompressionBombError):
            raise Unreadable(_too_large()) from None
        raise Unreadable(str(error) or type(error).__name__) from None


def _too_large(height: int = 0, width: int = 0) -> str:
    size = f"{height} x {width} pixels is" if height else "it has"
    return f"{size} more than {MOST_PIXELS // 10**6} million pixels"


def _open(data: bytes) -> Image.Image:
    if not data:
        raise Unreadable("the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise Unreadable(_what_is_it(data)) from None
    if image.width * image.height > MOST_PIXELS:
        raise Unreadable(_too_large(image.height, image.width))
    return image


def _what_is_it(data: bytes) -> str:
    """A guess at what a file is that no decoder on the list takes."""
    starts = {
        b"PK\x03\x04": "a zip archive",
        b"%PDF": "a PDF",
        b"<svg": "an SVG drawing",
        b"<?xml": "an XML or SVG file",
        b"\x93NUMPY": "a NumPy array (.npy)",
        b"PAR1": "a Parquet file",
        b"%!PS": "a PostScript file",
        b"8BPS": "a Photoshop file",
        b"\x1f\x8b": "gzip data",
        b"SIMPLE": "a FITS file",
        b"<!DO": "a web page",
        b"<htm": "a web page",
    }
    for start, words in starts.items():
        if data.startswith(start):
            return f"it is {words}, not a picture"
    if data[4:8] == b"ftyp":
        return "it is a HEIC/AVIF picture or a video; convert it to PNG or JPEG"
    known = any(
        data.startswith(s) for s in (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
    )
    return "damaged or truncated" if known else f"not a picture in any of {', '.join(FORMATS)}"


def _header(image: Image.Image, data: bytes) -> Header:
    try:
        orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF: the pixels may still be whole
        orientation = 1
    height, width, frames = image.height, image.width, False
    first = tiff.page(data) if image.format == "TIFF" else None
    if first is not None:
        height, width, frames = first.get("height", height), first.get("width", width), first.more
    elif image.format in ("GIF", "WEBP", "PNG"):
        frames = bool(getattr(image, "is_animated", False))
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    colours, kind, alpha = _meaning(image)
    return Header(image.format or "", image.mode, height, width, colours, kind, alpha, orientation, frames)


def _meaning(image: Image.Image) -> tuple[int, str, bool]:
    """(colours, kind, alpha) of one of Pillow's modes."""
    mode, see_through = image.mode, "transparency" in image.info
    if mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        gray = bool((palette == palette[:, :1]).all())
        return 1 if gray else 3, "uint8", see_through or mode == "PA"
    if mode in ("1", "L", "LA", "La"):
        return 1, "uint8", mode in ("LA", "La") or (see_through and mode == "L")
    if mode in ("RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"):
        return 3, "uint8", mode in ("RGBA", "RGBa") or (see_through and mode == "RGB")
    if mode.startswith("I;16") or (mode == "I" and image.format == "PNG"):
        return 1, "uint16", False
    if mode in ("I", "F"):
        return 1, "float32", False
    raise Unreadable(f"pixels of an unknown kind ({mode})")


def _pixels(image: Image.Image, header: Header) -> Array:
    if header.kind != "uint8":
        pixels = np.asarray(image)
        if header.kind == "uint16" and (pixels.min() < 0 or pixels.max() > 65535):
            raise Unreadable("values beyond sixteen bits")
        return pixels.astype(header.kind)[..., None]
    wanted = {1: "L", 3: "RGB"}[header.colours] + ("A" if header.alpha else "")
    if image.mode in ("P", "PA") and header.alpha:  # gray palettes with transparency have no direct way to LA
        image = image.convert("RGBA")
    if image.mode != wanted:
        image = image.convert(wanted)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


# -------------------------------------------------------------------- what Pillow would narrow


def _own_header(data: bytes) -> Header | None:
    """The header of a sixteen-bit colour PNG or a deep or many-channel TIFF; None leaves it to Pillow."""
    found = png.header(data)
    if found is not None:
        height, width, bits, channels = found
        if bits != 16 or channels == 1:
            return None
        kind, orientation, frames, alpha = "uint16", 1, False, channels in (2, 4)
    else:
        try:
            page = tiff.page(data)
            if page is None:
                return None
            channels, dtype = page.get("channels", 1), page.dtype
        except ValueError:  # palette, bilevel and damaged files are Pillow's to judge
            return None
        height, width = page.get("height", 0), page.get("width", 0)
        if channels == 1 or (dtype.itemsize == 1 and _pillow_takes(page)):
            return None
        kind = "uint8" if dtype.itemsize == 1 else "uint16" if dtype.str[1:] == "u2" else "float32"
        orientation, frames = page.get("orientation", 1), page.more
        alpha = channels in (2, 4) and page.get("extra", 0) in (1, 2)
    if height * width > MOST_PIXELS:
        raise Unreadable(_too_large(height, width))
    if orientation in (5, 6, 7, 8):
        height, width = width, height
    depth = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}[kind]
    words = {(1, True): "gray with transparency", (3, False): "RGB", (3, True): "RGB with transparency"}
    mode = f"{words.get((channels - alpha, alpha), f'{channels}-channel')} {depth}"
    format_ = "TIFF" if found is None else "PNG"
    return Header(format_, mode, height, width, channels - alpha, kind, alpha, orientation, frames)


def _pillow_takes(page: tiff.Page) -> bool:
    """Whether Pillow reads all channels of this eight-bit TIFF."""
    channels, extra = page.get("channels", 1), page.get("extra", 0)
    if page.get("compression", 1) not in (1, 8, 32946):
        return channels <= 4
    return channels == 3 or (channels in (2, 4) and (extra in (1, 2) or page.get("photometric", 1) == 5))


def _depth(pixels: Array) -> Array:
    return pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float32)
