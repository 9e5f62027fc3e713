"""The pieces both pages are made of: figures, plots for day and night, tables of facts and metrics.

A metric's row says: what, how much, how sure, what real images score, and how many times that it is.
Metrics that share a protocol stand in one table under it, so the conditions are read once and never missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from ..evaluation.protocol import Metric, show
from .grid import png
from .markup import Markup, data_uri, join, tag
from .plots import DARK, LIGHT, Theme, draw
from .summary import Curves, Picture, Remark, Rows


def section(title: str, *content: object, hint: str = "") -> Markup:
    """A part of a page under its heading; nothing at all where there is no content."""
    if not any(content):
        return Markup("")
    under = tag("p", hint, class_="hint") if hint else ""
    return tag("section", tag("h2", title), under, *content)


def figure(picture: Picture, *, titled: bool = True) -> Markup:
    """An image with its caption; its pixels stay sharp."""
    image = tag(
        "img",
        class_="pixels",
        src=data_uri(png(picture.image), "image/png"),
        alt=picture.title,
        width=picture.image.width,
        height=picture.image.height,
    )
    caption = tag("figcaption", picture.caption) if picture.caption else ""
    return tag("figure", tag("h3", picture.title) if titled else "", image, caption)


def plot(render: Callable[[Theme], bytes], title: str, caption: str = "") -> Markup:
    """A drawing in two versions; the reader's light or dark setting chooses."""
    day, night = (data_uri(render(theme), "image/svg+xml") for theme in (LIGHT, DARK))
    image = tag(
        "picture",
        tag("source", srcset=night, media="(prefers-color-scheme: dark)"),
        tag("img", class_="plot", src=day, alt=title),
    )
    under = tag("figcaption", caption) if caption else ""
    return tag("figure", tag("h3", title), image, under)


def curves(items: Iterable[Curves]) -> Markup:
    """All line plots of a page."""
    drawn = [plot(lambda theme, c=c: draw(c, theme), c.title, c.caption) for c in items]  # type: ignore[misc]
    return tag("div", *drawn, class_="plots") if drawn else Markup("")


def film(pictures: Sequence[Picture], name: str = "film") -> Markup:
    """The same seeds over time: one picture is seen, the reader picks which; no script is needed."""
    frames = []
    for i, picture in enumerate(pictures):
        key, last = f"{name}-{i}", i == len(pictures) - 1
        choice = tag("input", type="radio", name=name, id=key, checked=last)
        label = tag("label", picture.title, for_=key)
        frames.append(tag("div", choice, label, figure(picture, titled=False), class_="frame"))
    return tag("div", *frames, class_="film") if frames else Markup("")


def remarks(items: Sequence[Remark]) -> Markup:
    """Sentences, warnings first."""
    rows = [
        tag("li", tag("b", "Note: "), r.text, class_="warning") if r.warning else tag("li", r.text)
        for r in sorted(items, key=lambda r: not r.warning)
    ]
    return tag("ul", *rows, class_="remarks") if rows else Markup("")


def facts(groups: Sequence[Rows]) -> Markup:
    """Labels and values in columns under their headings."""
    blocks = []
    for group in groups:
        pairs = join(join([tag("dt", label), tag("dd", value)]) for label, value in group.rows)
        blocks.append(tag("div", tag("h3", group.title), tag("dl", pairs)))
    return tag("div", *blocks, class_="facts") if blocks else Markup("")


def metric_tables(metrics: Sequence[Metric]) -> Markup:
    """One table for each protocol, in the order given, its conditions as the caption."""
    return join(_metric_table(list(group)) for _, group in groupby(metrics, key=lambda m: m.protocol))


def metric_table(rows: Sequence[Markup], caption: str, first: str = "") -> Markup:
    """A table of rows that end in `numbers` and a note, under the conditions they share."""
    heads = [
        (first, ""),
        ("value", "number"),
        ("±", "number"),
        ("real images", "number"),
        ("times real", "number"),
    ]
    columns = [tag("th", label, class_=kind or None, scope="col") for label, kind in [*heads, ("", "")]]
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", *columns)), tag("tbody", *rows))
    return tag("div", table, class_="scroll")


def _metric_table(group: list[Metric]) -> Markup:
    rows = []
    for m in group:
        name = tag("th", f"{m.name} ({m.unit})" if m.unit else m.name, scope="row")
        rows.append(tag("tr", name, *numbers(m), tag("td", note(m), class_="note")))
    return tag("div", metric_table(rows, conditions(group[0])), class_="metrics")


def numbers(m: Metric) -> list[Markup]:
    """The cells of a metric: value, spread, real images' value, and how many times that it is."""
    floor = "–" if m.floor is None else show(m.floor, fineness(m.floor, m.spread))
    return [
        tag("td", show(m.value, m.spread), class_="number"),
        tag("td", show(m.spread, m.spread) if m.spread else "–", class_="number spread"),
        tag("td", floor, class_="number"),
        tag("td", times_floor(m), class_="number"),
    ]


def note(m: Metric) -> str:
    """The metric's own note, and its value without the bias of finite sets."""
    debiased = f"without finite-set bias {show(m.debiased, m.spread)}" if m.debiased is not None else ""
    return "; ".join(p for p in (m.note, debiased) if p)


def fineness(value: float, spread: float) -> float:
    """The spread that decides how many digits of a second number are worth showing."""
    return min(spread, abs(value) / 10) or spread


def times_floor(m: Metric) -> str:
    """The value as a multiple of the real images' one, where that is a sensible thing to say."""
    if not m.lower or not m.floor or m.floor <= 0 or m.value < 0 or not math.isfinite(m.value):
        return "–"
    return f"{m.value / m.floor:.2g} ×" if m.value / m.floor < 100 else f"{m.value / m.floor:,.0f} ×"


def conditions(m: Metric) -> str:
    """All of the protocol in words: what decides comparability first, then the record."""
    p = m.protocol
    parts = [
        f"{p.samples:,} samples against {p.reference:,} {p.split} images",
        f"features {p.features}" if p.features else "",
        f"resized {p.resize}" if p.resize != "none" else "",
        p.plan,
        f"seed {p.seed}",
        p.precision,
        p.hardware,
        f"data {p.data[:12]}",
        f"commit {p.commit[:10]}" if p.commit else "",
    ]
    return " · ".join(part for part in parts if part)
