"""Lines, error bars and points, drawn for a light or a dark page.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart, adapted to the page;
lines also differ in their dashes. Matplotlib is imported only when something is drawn, through its
object interface: no global state, no window. Drawings are SVG without scripts or outside fonts.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.facts import Facts
from ..data.pixels import from_model
from ..evaluation.protocol import Metric
from .summary import Curves, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a page: ink, faint ink, and the colours of the lines."""

    ink: str
    faint: str
    lines: tuple[str, ...]

    def line(self, index: int) -> str:
        """The colour of line number `index`."""
        return self.lines[index % len(self.lines)]


LIGHT = Theme(
    "#3b3833", "#d9d4cb", ("#0072b2", "#d55e00", "#009e73", "#b3558c", "#c98a00", "#3b97cf", "#6b675f")
)
DARK = Theme(
    "#cfc9be", "#45413b", ("#62b2e8", "#f0894a", "#3fc49c", "#df9cc3", "#ecbb55", "#9fd4f5", "#a39d93")
)


def draw(curves: Curves, theme: Theme = LIGHT) -> bytes:
    """The curves as SVG. Values that are not finite, or not positive on a logarithmic axis, leave gaps."""
    figure, axes = _figure(theme, 6.4, 3.1)
    for i, line in enumerate(curves.series):
        _line(axes, line, theme.line(i), DASHES[i // len(theme.lines) % len(DASHES)])
    if curves.log_x:
        axes.set_xscale("log")
    elif _most(curves) >= 10_000:
        axes.xaxis.set_major_formatter(_short)
    if curves.log_y and any(v > 0 for s in curves.series for v in s.y):
        axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel(curves.x_label)
    axes.set_ylabel(curves.y_label)
    if len(curves.series) > 1:
        axes.legend(
            frameon=False, labelcolor=theme.ink, fontsize=8.5, ncols=2 if len(curves.series) > 5 else 1
        )
    return _svg(figure)


def draw_ranking(
    names: Sequence[str], metrics: Sequence[Metric], theme: Theme = LIGHT, errors: float = 2.0
) -> bytes:
    """One metric of several runs: points with `errors` standard errors; the real images' value as a line."""
    figure, axes = _figure(theme, 6.4, 0.9 + 0.36 * len(names))
    places = np.arange(len(names))[::-1]
    for i, (place, metric) in enumerate(zip(places, metrics, strict=True)):
        axes.errorbar(
            metric.value,
            place,
            xerr=errors * metric.spread if math.isfinite(metric.spread) else None,
            fmt="o",
            color=theme.line(i),
            markersize=6,
            capsize=3,
            elinewidth=1.4,
        )
    floors = [m.floor for m in metrics if m.floor is not None]
    if floors:
        axes.axvline(float(np.mean(floors)), color=theme.ink, linewidth=1, linestyle=(0, (2, 3)))
        axes.annotate(
            "real images", (float(np.mean(floors)), 1.0), xycoords=("data", "axes fraction"), xytext=(4, 4),
            textcoords="offset points", color=theme.ink, fontsize=8,
        )  # fmt: skip
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    unit = f" ({metrics[0].unit})" if metrics[0].unit else ""
    axes.set_xlabel(f"{metrics[0].name}{unit}")
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return _svg(figure)


def scatter(x: Tensor, facts: Facts, real: Tensor | None = None, theme: Theme = LIGHT) -> Image.Image:
    """Points x (B, C) by their first two coordinates, over real ones in gray, in the units of the data."""
    figure, axes = _figure(theme, 4.2, 4.2)
    clouds = [(real, theme.ink, 0.25)] if real is not None else []
    for points, colour, strength in [*clouds, (x, theme.line(0), 0.7)]:
        values = from_model(points, facts)
        across = values[:, 0]
        up = values[:, 1] if values.shape[1] > 1 else np.zeros_like(across)
        axes.scatter(across, up, s=5, color=colour, alpha=strength, linewidths=0)
    axes.set_aspect("equal")
    axes.set_xlim(facts.low - 0.1 * facts.half, facts.high + 0.1 * facts.half)
    axes.set_ylim(facts.low - 0.1 * facts.half, facts.high + 0.1 * facts.half)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, transparent=True)
    buffer.seek(0)
    return Image.open(buffer).convert("RGBA")


def _figure(theme: Theme, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing of a size in inches: two thin axes, a faint grid, no box."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.faint)
    axes.tick_params(colors=theme.ink, labelsize=8.5, color=theme.faint, which="both")
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    axes.grid(color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _line(axes: Axes, line: Series, colour: str, dashes: Any) -> None:
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    y = np.where(np.isfinite(y), y, np.nan)
    marker = "o" if len(x) <= 12 else ""
    axes.plot(
        x, y, color=colour, linestyle=dashes, linewidth=1.6, marker=marker, markersize=4, label=line.name
    )
    if len(line.spread) == len(line.y):
        s = np.nan_to_num(np.asarray(line.spread, dtype=float))
        axes.fill_between(x, y - s, y + s, color=colour, alpha=0.18, linewidth=0)


def _most(curves: Curves) -> float:
    return max((float(v) for s in curves.series for v in s.x if math.isfinite(v)), default=0.0)


def _short(value: float, _: float) -> str:
    """12500 as 12.5k, 3000000 as 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _svg(figure: Figure) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sfumato", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
