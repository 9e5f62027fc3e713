"""Decoding: every mode against Pillow's own answer, depth kept, rotation undone, harm refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from odd_images import bomb, exif, picture
from sfumato.data import png, tiff
from sfumato.data.decode import Unreadable, decode, peek, upright


def encoded(image: Image.Image, kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def colour(seed: int = 0) -> Image.Image:
    return Image.fromarray(picture(seed, 11, 17))


# ------------------------------------------------------------------------------- modes of Pillow

MODES = {
    "1": ("PNG", 1, "uint8", False),
    "L": ("PNG", 1, "uint8", False),
    "LA": ("PNG", 1, "uint8", True),
    "P": ("PNG", 3, "uint8", False),
    "RGB": ("WEBP", 3, "uint8", False),
    "RGBA": ("PNG", 3, "uint8", True),
    "CMYK": ("TIFF", 3, "uint8", False),
    "YCbCr": ("TIFF", 3, "uint8", False),
    "I;16": ("TIFF", 1, "uint16", False),
    "F": ("TIFF", 1, "float32", False),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_read_as_pillow_would_show_it(mode):
    kind, colours, depth, alpha = MODES[mode]
    if mode == "I;16":
        image = Image.fromarray(picture(1, channels=1)[..., 0].astype(np.uint16) * 251)
    elif mode == "F":
        image = Image.fromarray(picture(1, channels=1)[..., 0].astype(np.float32) / 7)
    else:
        image = colour().convert(mode)
    data = encoded(image, kind, lossless=True) if kind == "WEBP" else encoded(image, kind)
    header, pixels = decode(data)
    assert (header.colours, header.kind, header.alpha) == (colours, depth, alpha)
    assert peek(data) == header
    shown = {1: "L", 3: "RGB"}[colours] + ("A" if alpha else "")
    reopened = Image.open(io.BytesIO(data))
    expected = np.asarray(reopened if depth != "uint8" else reopened.convert(shown))
    assert np.array_equal(pixels.reshape(expected.shape), expected) and pixels.dtype == depth


def test_a_gray_palette_is_gray_and_a_transparent_one_has_transparency():
    gray = Image.fromarray(picture(3, channels=1)[..., 0]).convert("P")
    assert decode(encoded(gray, "GIF"))[0].colours == 1
    palette = colour().convert("P")
    header, pixels = decode(encoded(palette, "PNG", transparency=5))
    assert header.alpha and pixels.shape[2] == 4
    hidden = np.asarray(palette) == 5
    assert (pixels[hidden][:, 3] == 0).all() and (pixels[~hidden][:, 3] == 255).all()


def test_a_colour_key_is_transparency_too():
    header, pixels = decode(encoded(colour(), "PNG", transparency=tuple(picture(0, 11, 17)[0, 0].tolist())))
    assert header.alpha and pixels[0, 0, 3] == 0


def test_a_large_jpeg_is_decoded_small_but_not_too_small():
    data = encoded(Image.fromarray(picture(2, 800, 1000)), "JPEG", quality=90)
    header, pixels = decode(data, near=(32, 32))
    assert (header.height, header.width) == (800, 1000)
    assert 64 <= min(pixels.shape[:2]) <= 300
    whole = np.asarray(Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.LANCZOS), float)
    small = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.LANCZOS), float)
    assert np.abs(whole - small).mean() < 1.0


def test_only_the_first_frame_is_used_and_it_is_said():
    frames = [colour(i) for i in range(3)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        header, pixels = decode(data)
        assert header.frames and pixels.shape[:2] == (11, 17)
    assert not peek(encoded(colour(), "GIF")).frames


# ---------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_undone_as_pillow_does(orientation, kind):
    data = encoded(colour(4), kind, exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    header, pixels = decode(data)
    assert np.array_equal(pixels, expected)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.orientation == orientation


@given(pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(2))))
def test_the_eight_orientations_form_the_group_they_should(pixels):
    for orientation, inverse in {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.items():
        assert np.array_equal(upright(upright(pixels, orientation), inverse), pixels)
    assert np.array_equal(upright(pixels, 99), pixels)


# ------------------------------------------------------------------------------------- deep PNG

deep = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))


@given(pixels=hnp.arrays(np.uint16, deep))
def test_sixteen_bit_png_survives_a_round_trip(pixels):
    data = png.write16(pixels)
    assert np.array_equal(png.read16(data), pixels)
    header, again = decode(data)
    assert np.array_equal(again, pixels) and header.kind == "uint16"
    with Image.open(io.BytesIO(data)) as other:  # and Pillow finds the same high bytes
        if pixels.shape[2] == 1:
            assert np.array_equal(np.asarray(other), pixels[..., 0])
        else:
            assert np.array_equal(np.asarray(other)[..., 0], pixels[..., 0] >> 8)
            assert np.array_equal(np.asarray(other)[..., -1], pixels[..., -1] >> 8)


def filtered_png(pixels: np.ndarray, kinds: list[int]) -> bytes:
    """A sixteen-bit PNG whose row k uses filter kinds[k], written from the definition of the filters."""
    height, width, channels = pixels.shape
    step = 2 * channels
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    raw = bytearray()
    for y, kind in enumerate(kinds):
        raw.append(kind)
        for i in range(rows.shape[1]):
            a = rows[y, i - step] if i >= step else 0
            b = rows[y - 1, i] if y else 0
            c = rows[y - 1, i - step] if y and i >= step else 0
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            raw.append((rows[y, i] - [0, a, b, (a + b) // 2, nearest][kind]) % 256)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    out = png.SIGNATURE
    for kind_, body in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(raw))), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + kind_ + body + struct.pack(">I", zlib.crc32(kind_ + body))
    return out


@settings(max_examples=60)
@given(pixels=hnp.arrays(np.uint16, deep), data=st.data())
def test_all_five_png_filters_are_undone(pixels, data):
    kinds = data.draw(st.lists(st.integers(0, 4), min_size=len(pixels), max_size=len(pixels)))
    assert np.array_equal(png.read16(filtered_png(pixels, kinds)), pixels)


def test_a_deep_png_with_damage_is_refused_with_a_reason():
    whole = png.write16(picture(5).astype(np.uint16) * 257)
    flipped = bytearray(whole)
    flipped[60] ^= 1
    for data, why in ((whole[:-30], "truncated"), (bytes(flipped), "checksum")):
        with pytest.raises(Unreadable, match=why):
            decode(data)


# ----------------------------------------------------------------------------------------- TIFF

KINDS = (np.uint8, np.uint16, np.float32)


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(KINDS), channels=st.integers(1, 7))
def test_tiff_of_any_depth_and_channel_count_survives_a_round_trip(data, kind, channels):
    shape = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)), channels)
    elements = st.floats(-1e6, 1e6, width=32) if kind is np.float32 else None
    pixels = data.draw(hnp.arrays(kind, shape, elements=elements))
    file = tiff.write(pixels)
    assert np.array_equal(tiff.read(file, 10**6), pixels)
    header, again = decode(file)
    assert np.array_equal(again, pixels)
    assert (header.colours, header.kind, header.alpha) == (channels, np.dtype(kind).name, False)
    if channels in (1, 3) and kind is not np.float32 and (channels == 1 or kind is np.uint8):
        with Image.open(io.BytesIO(file)) as other:  # where Pillow can read it, it reads the same
            assert np.array_equal(np.asarray(other).reshape(shape), pixels)


def handmade_tiff(
    pixels: np.ndarray, *, order: str, deflate: bool, predictor: bool, planar: bool, tile: int
) -> bytes:
    """A TIFF with blocks of `tile` x `tile` (or strips of `tile` rows if negative), from the definition."""
    height, width, channels = pixels.shape
    step = abs(tile)
    tall, wide = (step, step) if tile > 0 else (step, width)
    planes = [pixels[..., c : c + 1] for c in range(channels)] if planar else [pixels]
    blocks = []
    for plane in planes:
        for y in range(0, height, tall):
            for x in range(0, width, wide):
                block = plane[y : y + tall, x : x + wide]
                if tile > 0:
                    short = ((0, tall - block.shape[0]), (0, wide - block.shape[1]), (0, 0))
                    block = np.pad(block, short)
                if predictor:
                    block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
                raw = block.astype(block.dtype.newbyteorder(order)).tobytes()
                blocks.append(zlib.compress(raw) if deflate else raw)
    offsets, body = [], b""
    for block in blocks:
        offsets.append(8 + len(body))
        body += block
    sample = 3 if pixels.dtype.kind == "f" else 1
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8 * pixels.dtype.itemsize] * channels),
        259: (3, [8 if deflate else 1]),
        262: (3, [1]),
        (324 if tile > 0 else 273): (4, offsets),
        277: (3, [channels]),
        (325 if tile > 0 else 279): (4, [len(b) for b in blocks]),
        284: (3, [2 if planar else 1]),
        317: (3, [2 if predictor else 1]),
        339: (3, [sample] * channels),
    } | ({322: (3, [step]), 323: (3, [step])} if tile > 0 else {278: (4, [step])})
    at = 8 + len(body)
    tail_at, tail, directory = at + 6 + 12 * len(entries), b"", struct.pack(order + "H", len(entries))
    for tag in sorted(entries):
        kind, values = entries[tag]
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        directory += struct.pack(order + "HHI", tag, kind, len(values))
        if len(packed) > 4:
            directory += struct.pack(order + "I", tail_at + len(tail))
            tail += packed
        else:
            directory += packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", at) + body + directory + b"\0\0\0\0" + tail


@settings(max_examples=120)
@given(
    order=st.sampled_from("<>"),
    deflate=st.booleans(),
    predictor=st.booleans(),
    planar=st.booleans(),
    tile=st.sampled_from([-1, -3, -50, 4, 16]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 999),
)
def test_strips_tiles_planes_predictors_and_byte_orders_are_all_read(
    order, deflate, predictor, planar, tile, kind, seed
):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(2, 6)))
    pixels = rng.integers(0, 256, shape).astype(kind)
    predictor = predictor and kind is not np.float32
    file = handmade_tiff(pixels, order=order, deflate=deflate, predictor=predictor, planar=planar, tile=tile)
    assert np.array_equal(tiff.read(file, 10**6), pixels)


def test_a_tiff_that_lies_about_its_size_is_refused():
    whole = tiff.write(np.zeros((8, 8, 5), np.uint16))
    for cut in range(0, len(whole), 7):
        with pytest.raises(Unreadable):
            decode(whole[:cut])
    with pytest.raises(ValueError, match="pixels"):
        tiff.read(whole, most_pixels=10)


# ------------------------------------------------------------------------------------------ harm


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 a zip", "zip"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"SIMPLE  =                    T" + bytes(100), "FITS"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "HEIC"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"just some words", "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "damaged"),
        (bomb(), "64 million"),
    ],
)
def test_what_is_no_picture_is_named(data, why):
    for look in (peek, decode):
        with pytest.raises(Unreadable, match=why):
            look(data)


def test_a_bomb_above_the_cap_but_below_pillows_own_is_refused_too():
    with pytest.raises(Unreadable, match="8100 x 8100 pixels is more than 64 million"):
        decode(bomb(8100))
    lying = png.write16(np.zeros((2, 2, 3), np.uint16))
    lying = lying[:16] + struct.pack(">II", 30_000, 30_000) + lying[24:]
    with pytest.raises(Unreadable, match="64 million"):
        decode(lying)
