"""One look for the pictures of the claims: warm paper, thin axes, colours that all readers tell apart."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sfumato.report.plots import LIGHT

PAPER, INK, SOFT, LINE = "#faf7f2", "#2b2824", "#6f685e", "#d9d2c6"


def colour(index: int) -> str:
    """The colour of line number `index`."""
    return LIGHT.line(index)


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in inches and its axes (one, or an array), on paper."""
    picture = Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")
    axes = picture.subplots(rows, columns)
    return picture, axes


def tidy(picture: Figure) -> Figure:
    """The figure with thin axes on two sides, and quiet ticks."""
    for axes in picture.axes:
        quiet(axes)
    return picture


def quiet(axes: Axes) -> None:
    """Thin axes on two sides, small soft ticks."""
    axes.set_facecolor(PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=LINE, linewidth=0.8)
    axes.tick_params(colors=SOFT, labelcolor=SOFT, length=3, width=0.8, labelsize=8.5)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=SOFT, fontsize=9.5)


def bare(axes: Axes, title: str = "", reach: float = 1.25) -> None:
    """A square of the plane without axes, under a small title."""
    axes.set(
        xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[], facecolor=PAPER
    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, color=SOFT, fontsize=9.5, pad=4)
