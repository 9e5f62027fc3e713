"""One picture for each example, whatever an example is: 8-bit RGB arrays (h, w, 3) for a screen.

    2-D, 1 or 3 channels       the image itself
    2-D, transparency          over a checkerboard
    2-D, other channel counts  the channels side by side, in gray
    3-D, or time               up to eight slices along the first axis, side by side
    1-D                        a line for each channel
    points                     a scatter plot of all of them together (plots.scatter)

Values are spread over 0 ... 255 by the range of the data (low to high), never by the picture's own: two
pictures of one run can be compared. A window for looking at, not a measurement.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch import Tensor

from ..data.facts import Facts
from ..data.pixels import from_model, viewable

Tile: TypeAlias = npt.NDArray[np.uint8]

SLICES = 8
SIGNAL = (72, 168)  # height and width of the picture of a signal
INK = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def tiles(x: Tensor, facts: Facts) -> list[Tile]:
    """The pictures of a batch x (B, C, *space) in [-1, 1], as the user's own files would look."""
    if not facts.space:
        raise ValueError("points have no picture of their own; draw them together with plots.scatter")
    shown = viewable(from_model(x, facts), facts)
    if len(facts.size) == 1:
        return [signal(v) for v in shown]
    if len(facts.size) == 2:
        return [image(v, facts.alpha) for v in shown]
    return [beside([image(s, facts.alpha) for s in _slices(v)]) for v in shown]


def image(shown: Tile, alpha: bool = False) -> Tile:
    """Channels (C, H, W) of 8 bits as RGB (H, W, 3), or (H, C W + gaps, 3) where C is not 1 or 3."""
    channels = len(shown)
    if alpha and channels in (2, 4):
        return _over_checkerboard(image(shown[:-1]), shown[-1])
    if channels == 3:
        return np.ascontiguousarray(shown.transpose(1, 2, 0))
    panels = [np.repeat(channel[:, :, None], 3, axis=2) for channel in shown]
    return beside(panels)


def beside(panels: list[Tile], gap: int = 1) -> Tile:
    """Panels of one height in a row, parted by thin white lines."""
    line = np.full((panels[0].shape[0], gap, 3), 255, dtype=np.uint8)
    row = [part for panel in panels for part in (panel, line)][:-1]
    return np.concatenate(row, axis=1) if len(panels) > 1 else panels[0]


def signal(shown: Tile) -> Tile:
    """Channels (C, L) of 8 bits as lines; low at the bottom, high at the top."""
    height, width = SIGNAL
    scale, margin = 4, 4  # drawn large and reduced: smooth lines
    canvas = Image.new("RGB", (width * scale, height * scale), "white")
    pen = ImageDraw.Draw(canvas)
    across = np.linspace(margin, width - margin, shown.shape[1]) * scale
    for channel, colour in zip(shown, (INK * (len(shown) // len(INK) + 1))[: len(shown)], strict=True):
        down = (height - margin - channel / 255.0 * (height - 2 * margin)) * scale
        pen.line(
            list(zip(across.tolist(), down.tolist(), strict=True)),
            fill=colour,
            width=scale + 1,
            joint="curve",
        )
    small = canvas.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def _slices(volume: Tile) -> list[Tile]:
    """Up to eight slices (C, H, W) of a volume (C, D, H, W), evenly spaced."""
    depth = volume.shape[1]
    places = np.unique(np.linspace(0, depth - 1, min(depth, SLICES)).round().astype(int))
    return [volume[:, i] for i in places]


def _over_checkerboard(rgb: Tile, alpha: Tile, cell: int = 4) -> Tile:
    rows, columns = np.indices(alpha.shape) // cell
    board = np.where((rows + columns) % 2 == 0, 255, 224)[:, :, None]
    share = alpha[:, :, None] / 255.0
    return np.round(rgb * share + board * (1 - share)).astype(np.uint8)
