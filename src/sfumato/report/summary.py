"""What a report is made from: plain data, filled by whoever can read a run folder.

RunSummary    everything that stands in report.html
Picture       an image with its caption
Curves        lines to be drawn, with their axes
Rows          a small table of labels and values under a heading
Remark        a sentence to the reader; a warning is one to act on
Step          a command to try next, and what it does
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ..evaluation.protocol import Metric


@dataclass(frozen=True)
class Picture:
    """An image, what it shows, and a longer caption."""

    image: Image.Image
    title: str
    caption: str = ""


@dataclass(frozen=True)
class Series:
    """A line through points (x_i, y_i), with an optional spread of each y."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Curves:
    """Lines in one pair of axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Rows:
    """Labels and values under a heading: the data, the model, the machine."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Remark:
    """A sentence to the reader."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Step:
    """A command to try next, and what it does."""

    command: str
    purpose: str


@dataclass(frozen=True)
class RunSummary:
    """A run, ready to be shown.

    film: the same seeds drawn again and again from step 0 on, in order; pictures: everything else (the
    nearest training images, reconstructions, raw weights beside EMA); tradeoffs: quality against steps.
    """

    name: str
    lead: str
    facts: tuple[Rows, ...] = ()
    film: tuple[Picture, ...] = ()
    pictures: tuple[Picture, ...] = ()
    curves: tuple[Curves, ...] = ()
    metrics: tuple[Metric, ...] = ()
    tradeoffs: tuple[Curves, ...] = ()
    remarks: tuple[Remark, ...] = ()
    steps: tuple[Step, ...] = ()
    created: str = ""


def plain(text: str) -> str:
    """Text as one line of printable characters, for a drawing."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())
