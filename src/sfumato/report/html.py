"""report.html: a run on one page, complete in itself.

In the order in which a reader asks: what is this, does anything need attention, what does it draw and
how did that come about, how good is it and by which measure, how did training go, what exactly was
trained on what, and what can be done next.
"""

from __future__ import annotations

from .markup import Markup, page, tag
from .parts import curves, facts, figure, film, metric_tables, remarks, section
from .style import STYLE
from .summary import RunSummary, Step


def run_page(run: RunSummary) -> str:
    """The report of a run as one HTML document."""
    header = tag(
        "header",
        tag("p", "Sfumato · run", class_="kind"),
        tag("h1", run.name),
        tag("p", run.lead, class_="lead"),
    )
    pictures = tag("div", *(figure(p) for p in run.pictures), class_="pictures") if run.pictures else ""
    main = tag(
        "main",
        section("To know", remarks(run.remarks)),
        section(
            "Samples over time",
            film(run.film),
            hint="The same seeds, drawn again as training went on. Choose a moment.",
        ),
        section("Pictures", pictures),
        section(
            "How good it is",
            metric_tables(run.metrics),
            hint="Each number beside that of real images: for distances as many training images, else "
            "held-out ones. A perfect model would score about that.",
        ),
        section(
            "How many steps it needs",
            curves(run.tradeoffs),
            hint="The same seeds by other solvers, grids and numbers of steps.",
        ),
        section("How training went", curves(run.curves)),
        section("What was trained on what", facts(run.facts)),
        section("Next", steps(run.steps)),
    )
    return page(f"{run.name} · Sfumato", STYLE, header, main, footer(run.created))


def steps(items: tuple[Step, ...]) -> Markup:
    """Commands to try, each with what it does."""
    lines = [
        tag("div", tag("p", s.purpose) if s.purpose else "", tag("pre", tag("code", s.command)))
        for s in items
    ]
    return tag("div", *lines, class_="steps") if lines else Markup("")


def footer(created: str) -> Markup:
    """Who wrote the page, and when."""
    words = f"Written by Sfumato{f' on {created}' if created else ''}."
    return tag("footer", f"{words} This page holds everything it shows and asks nothing of the network.")
