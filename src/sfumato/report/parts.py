"""The pieces both pages are made of: figures, plots for day and night, tables of facts and metrics.

A metric's row says: what, how much, how sure, what real images score, and how many times that it is.
Metrics that share a protocol stand in one table under it, so the conditions are read once and never missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from ..evaluation.protocol import Metric, Protocol, decimals_of, show
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
    """One table for each protocol, in the order given; what all share is said once, above."""
    if not metrics:
        return Markup("")
    records = {record(m.protocol) for m in metrics}
    shared = tag("p", records.pop(), class_="hint") if len(records) == 1 else ""
    groups = [list(group) for _, group in groupby(metrics, key=lambda m: m.protocol)]
    return join([shared, *(_metric_table(group, brief=bool(shared)) for group in groups)])


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


def _metric_table(group: list[Metric], *, brief: bool) -> Markup:
    rows = []
    for m in group:
        name = tag("th", f"{m.name} ({m.unit})" if m.unit else m.name, scope="row")
        rows.append(tag("tr", name, *numbers(m), tag("td", note(m), class_="note")))
    caption = deciding(group[0].protocol) if brief else conditions(group[0].protocol)
    return tag("div", metric_table(rows, caption), class_="metrics")


def numbers(m: Metric) -> list[Markup]:
    """The cells of a metric: value, spread, real images' value, and how many times that it is."""
    times = m.times_floor
    return [
        tag("td", m.shown_value, class_="number"),
        tag("td", m.shown_spread if m.spread else "–", class_="number spread"),
        tag("td", m.shown_floor, class_="number"),
        tag(
            "td",
            "–" if times is None else f"{show(times, decimals_of(times, times / 10))} ×",
            class_="number",
        ),
    ]


def note(m: Metric) -> str:
    """The metric's own note, and its value without the bias of finite sets."""
    if m.debiased is None:
        return m.note
    debiased = show(m.debiased, decimals_of(m.debiased, m.spread))
    return "; ".join(p for p in (m.note, f"without the bias of finite sets {debiased}") if p)


def deciding(p: Protocol) -> str:
    """The conditions that decide whether two numbers may be compared."""
    part = {"train": "training"}.get(p.split, p.split)
    parts = [
        f"{p.samples:,} samples against {p.reference:,} {part} images",
        f"features {p.features}" if p.features else "",
        f"resized {p.resize}" if p.resize != "none" else "",
    ]
    return " · ".join(p for p in parts if p)


def record(p: Protocol) -> str:
    """The conditions that are kept for the record."""
    parts = [p.plan, f"seed {p.seed}", p.precision, p.hardware, f"data {p.data[:12]}"]
    parts += [f"commit {p.commit[:10]}"] if p.commit else []
    return " · ".join(p for p in parts if p)


def conditions(p: Protocol) -> str:
    """All of a protocol in words."""
    return f"{deciding(p)} · {record(p)}"
