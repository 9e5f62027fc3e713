"""Many pictures on one sheet. The pixels of every example stand in it unchanged, only repeated:

    sheet[y0 + z i + a, x0 + z j + b] = tile[i, j]      0 <= a, b < z

with one whole zoom z for all tiles, so that an 8 x 8 digit can be seen and nothing is smoothed. The
paper between the tiles is transparent: a sheet sits well on a light and on a dark page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data.facts import Facts
from .summary import plain
from .tiles import Tile, tiles

PAPER = (0, 0, 0, 0)
GRAY = (128, 128, 128, 255)  # legible on white and on black
TEXT = 12
SEEN = 56  # a tile is enlarged to about this many pixels


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tiles of a sheet stand; cell is (height, width) of an enlarged tile, caption a height."""

    columns: int
    rows: int
    zoom: int
    gap: int
    cell: tuple[int, int]
    caption: int

    def corner(self, index: int) -> tuple[int, int]:
        """Left and upper edge of tile number `index`."""
        row, column = divmod(index, self.columns)
        height, width = self.cell
        return column * (width + self.gap), row * (height + self.caption + self.gap)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        height, width = self.cell
        across = self.columns * (width + self.gap) - self.gap
        return across, self.rows * (height + self.caption + self.gap) - self.gap


def layout(
    shown: Sequence[Tile],
    *,
    columns: int | None = None,
    zoom: int | None = None,
    captions: Sequence[str] = (),
) -> Layout:
    """A layout for these tiles, about half again as wide as high unless the columns are given."""
    if not shown:
        raise ValueError("a sheet needs at least one picture")
    height, width = max(t.shape[0] for t in shown), max(t.shape[1] for t in shown)
    zoom = zoom or max(1, round(SEEN / max(height, 1)))
    columns = min(columns or _columns(len(shown), height / width), len(shown))
    rows = math.ceil(len(shown) / columns)
    caption = TEXT + 5 if any(captions) else 0
    return Layout(columns, rows, zoom, max(2, zoom // 2), (height * zoom, width * zoom), caption)


def _columns(count: int, tallness: float) -> int:
    """About half again as wide as high; rather a number that leaves the last row full, if one is near."""
    wanted = math.sqrt(1.5 * count * tallness)
    whole = [c for c in range(1, count + 1) if count % c == 0 and wanted / 1.6 <= c <= 1.6 * wanted]
    return min(whole, key=lambda c: abs(math.log(c / wanted))) if whole else max(1, math.ceil(wanted))


def sheet(
    shown: Sequence[Tile],
    *,
    columns: int | None = None,
    zoom: int | None = None,
    captions: Sequence[str] = (),
) -> Image.Image:
    """The tiles (h, w, 3) in rows, each with its caption below it."""
    plan = layout(shown, columns=columns, zoom=zoom, captions=captions)
    canvas = Image.new("RGBA", plan.size, PAPER)
    for i, tile in enumerate(shown):
        canvas.paste(_enlarged(tile, plan.zoom), plan.corner(i))
        if i < len(captions) and captions[i]:
            left, top = plan.corner(i)
            _write(canvas, captions[i], (left, top + plan.cell[0] + 1), plan.cell[1])
    return canvas


def grid(
    x: Tensor,
    facts: Facts,
    *,
    columns: int | None = None,
    zoom: int | None = None,
    captions: Sequence[str] = (),
) -> Image.Image:
    """A sheet of examples x (B, C, *space) in [-1, 1]; points become one scatter plot."""
    if not facts.space:
        from .plots import scatter

        return scatter(x, facts)
    return sheet(tiles(x, facts), columns=columns, zoom=zoom, captions=captions)


def over(
    upper: Tensor, lower: Tensor, facts: Facts, *, columns: int = 8, captions: Sequence[str] = ()
) -> Image.Image:
    """Pairs, the first over the second: a sample over its nearest training image, say.

    Points are one scatter plot, the second ones in gray.
    """
    if len(upper) != len(lower):
        raise ValueError(f"{len(upper)} pictures cannot stand over {len(lower)}")
    if not facts.space:
        from .plots import scatter

        return scatter(upper, facts, lower)
    columns = min(columns, len(upper))
    above, below = tiles(upper, facts), tiles(lower, facts)
    bands = []
    for i in range(0, len(above), columns):
        part = slice(i, i + columns)
        words = list(captions[part]) if captions else []
        bands.append(sheet(above[part], columns=columns))
        bands.append(sheet(below[part], columns=columns, captions=words))
    return stack(bands, gaps=[2, 14] * len(bands))


def stack(sheets: Sequence[Image.Image], gaps: Sequence[int]) -> Image.Image:
    """Sheets one below the other, gaps[i] pixels after sheet i."""
    tops = [sum(s.height for s in sheets[:i]) + sum(gaps[:i]) for i in range(len(sheets))]
    canvas = Image.new("RGBA", (max(s.width for s in sheets), tops[-1] + sheets[-1].height), PAPER)
    for top, part in zip(tops, sheets, strict=True):
        canvas.paste(part, (0, top))
    return canvas


def side_by_side(sheets: Sequence[Image.Image], titles: Sequence[str], gap: int = 24) -> Image.Image:
    """Sheets next to each other under their titles: raw weights and EMA, one run and another."""
    lefts = [sum(s.width + gap for s in sheets[:i]) for i in range(len(sheets))]
    head = TEXT + 8
    canvas = Image.new("RGBA", (lefts[-1] + sheets[-1].width, head + max(s.height for s in sheets)), PAPER)
    for left, part, title in zip(lefts, sheets, titles, strict=True):
        canvas.paste(part, (left, head))
        _write(canvas, title, (left, 1), part.width)
    return canvas


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def titled(picture: Image.Image, title: str) -> Image.Image:
    """A sheet under its title."""
    return side_by_side([picture], [title])


def _enlarged(tile: Tile, zoom: int) -> Image.Image:
    return Image.fromarray(tile.repeat(zoom, axis=0).repeat(zoom, axis=1), "RGB")


def _write(canvas: Image.Image, text: str, corner: tuple[int, int], width: int) -> None:
    """Gray text at a corner, cut to a width."""
    text = plain(text)
    font, pen = ImageFont.load_default(TEXT), ImageDraw.Draw(canvas)
    if pen.textlength(text, font) > width:
        while text and pen.textlength(text + "…", font) > width:
            text = text[:-1]
        text += "…"
    pen.text(corner, text, fill=GRAY, font=font)
