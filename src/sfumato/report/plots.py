"""Lines, error bars and points, drawn for a light or a dark page.

Colours are those of Okabe and Ito (2008), which colour-blind readers can tell apart, adapted to the page;
lines also differ in their dashes. Matplotlib is imported only when something is drawn, through its
object interface: no global state, no window. Drawings are SVG without scripts or outside fonts.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.facts import Facts
from ..data.pixels import from_model
from ..evaluation.protocol import Metric
from .summary import Curves, Series, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
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
    "#3b3833",
    "#d9d4cb",
    ("#0072b2", "#d55e00", "#009e73", "#b3558c", "#c98a00", "#3b97cf", "#6b675f", "#8a1f2d", "#7f9a1c"),
)
EITHER = Theme("#857f75", "#857f7555", ("#2b8fd0", "#d55e00", "#009e73"))  # legible on both, for pixels
DARK = Theme(
    "#cfc9be",
    "#45413b",
    ("#62b2e8", "#f0894a", "#3fc49c", "#df9cc3", "#ecbb55", "#9fd4f5", "#a39d93", "#e8707c", "#c0d860"),
)


@contextmanager
def drawing() -> Iterator[None]:
    """Text as it is written, never as formulas; letters the font lacks are boxes, without a warning."""
    import matplotlib as mpl

    rules: Any = {"text.parse_math": False, "svg.hashsalt": "sfumato", "svg.fonttype": "path"}
    with warnings.catch_warnings(), mpl.rc_context(rules):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


@drawing()
def draw(curves: Curves, theme: Theme = LIGHT) -> bytes:
    """The curves as SVG. Values that are not finite, or not positive on a logarithmic axis, leave gaps."""
    many = len(curves.series) > 5
    figure, axes = _figure(theme, 5.2, 3.7 if many else 2.8)
    for i, line in enumerate(curves.series):
        dashes = DASHES[i // len(theme.lines) % len(DASHES)]
        _line(axes, line, theme.line(i), dashes, 0.06 if many else 0.18)
    if curves.log_x:
        axes.set_xscale("log")
        _plain_decades(axes.xaxis)
    elif _most(curves) >= 10_000:
        axes.xaxis.set_major_formatter(_short)
    if curves.log_y and any(v > 0 for s in curves.series for v in s.y):
        axes.set_yscale("log", nonpositive="mask")
        _plain_decades(axes.yaxis)
    axes.set_xlabel(plain(curves.x_label))
    axes.set_ylabel(plain(curves.y_label))
    words: Any = {"frameon": False, "labelcolor": theme.ink, "fontsize": 8.5}
    if many:  # beside each other above the axes: inside they would cover lines
        figure.legend(loc="outside upper center", ncols=2, **words)
    elif len(curves.series) > 1:
        axes.legend(**words)
    return _svg(figure)


@drawing()
def draw_ranking(
    names: Sequence[str], metrics: Sequence[Metric], colours: Sequence[int], theme: Theme = LIGHT
) -> bytes:
    """One metric of several runs: points with two standard errors; the real images' value as a dotted line.

    colours: the number of each run's colour, the same in all drawings of a page. Logarithmic where the
    values span more than a factor of thirty.
    """
    figure, axes = _figure(theme, 7.6, 0.6 + 0.34 * len(names))
    places = np.arange(len(names))[::-1]
    for place, metric, colour in zip(places, metrics, colours, strict=True):
        error = 2.0 * metric.spread if math.isfinite(metric.spread) else None
        look: dict[str, Any] = {"markersize": 6, "capsize": 3, "elinewidth": 1.4, "color": theme.line(colour)}
        axes.errorbar(metric.value, place, xerr=error, fmt="o", **look)
    shown = [m.value for m in metrics] + [m.floor for m in metrics if m.floor is not None]
    if min(shown) > 0 and max(shown) > 30 * min(shown):
        axes.set_xscale("log")
        _plain_decades(axes.xaxis)
    floors = [m.floor for m in metrics if m.floor is not None]
    if floors:
        _mark(axes, float(np.mean(floors)), "real images", theme)
    axes.set_yticks(places, [plain(name) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    if metrics[0].unit:
        axes.set_xlabel(plain(metrics[0].unit))
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return _svg(figure)


def _mark(axes: Axes, value: float, words: str, theme: Theme) -> None:
    """A dotted upright line with words above it."""
    axes.axvline(value, color=theme.ink, linewidth=1, linestyle=(0, (2, 3)))
    where: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "xytext": (4, 4),
    }
    axes.annotate(words, (value, 1.0), color=theme.ink, fontsize=8, **where)


@drawing()
def scatter(x: Tensor, facts: Facts, real: Tensor | None = None, theme: Theme = EITHER) -> Image.Image:
    """Points x (B, C) by their first two coordinates, over real ones in gray, in the units of the data."""
    figure, axes = _figure(theme, 4.2, 4.2)
    clouds = [(real, theme.ink, 0.45)] if real is not None else []
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
    axes.tick_params(colors=theme.ink, labelsize=9, color=theme.faint, which="both")
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    axes.grid(color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _line(axes: Axes, line: Series, colour: str, dashes: Any, shade: float) -> None:
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    y = np.where(np.isfinite(y), y, np.nan)
    marker = "o" if len(x) <= 12 else ""
    axes.plot(
        x,
        y,
        color=colour,
        linestyle=dashes,
        linewidth=1.6,
        marker=marker,
        markersize=4,
        label=plain(line.name).lstrip("_") or " ",
    )
    if len(line.spread) == len(line.y):
        s = np.nan_to_num(np.asarray(line.spread, dtype=float))
        axes.fill_between(x, y - s, y + s, color=colour, alpha=shade, linewidth=0)


def _plain_decades(axis: Axis) -> None:
    """0.02, 0.05, 0.1 instead of powers of ten; fewer of them over many decades."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0,) if high > 300 * max(low, 1e-300) else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(_short)
    axis.set_minor_formatter(NullFormatter())


def _most(curves: Curves) -> float:
    return max((float(v) for s in curves.series for v in s.x if math.isfinite(v)), default=0.0)


def _short(value: float, _: float) -> str:
    """12500 as 12.5k, 3000000 as 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
