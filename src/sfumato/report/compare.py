"""Several runs side by side, and which numbers of theirs may be ranked at all.

Metrics of one name are ranked among runs that measured them alike (`protocol.comparable`). The largest
group of like ones is ranked; of every other run it is said which field differs. The first is called best
only if it lies more than two joint standard errors from the second; else the two are not told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..evaluation.protocol import Metric, apart, comparable, ranked
from .html import footer
from .markup import Markup, page, tag
from .parts import deciding, film, metric_table, note, numbers, plot, remarks, section
from .plots import draw_ranking
from .style import STYLE
from .summary import Remark, RunSummary


@dataclass(frozen=True)
class Ranking:
    """One metric over several runs: ranked entries best first, and the others with the reason why not.

    decided: the best is told apart from the second by more than chance.
    """

    title: str
    entries: tuple[tuple[str, Metric], ...]
    unlike: tuple[tuple[str, Metric, str], ...] = ()
    decided: bool = False

    def lines(self) -> list[str]:
        """The ranking as text, one run a line."""
        names = [name for name, _ in self.entries] + [name for name, _, _ in self.unlike]
        width = max(len(name) for name in names)
        out = [f"{self.title}   [{deciding(self.entries[0][1].protocol)}]"]
        for i, (name, m) in enumerate(self.entries):
            mark = "*" if i == 0 and self.decided else " "
            out.append(f" {mark} {name:<{width}}  {m.headline()}")
        return out + [f"   {name:<{width}}  not ranked: {reason}" for name, _, reason in self.unlike]


def rankings(runs: Sequence[tuple[str, Sequence[Metric]]]) -> tuple[Ranking, ...]:
    """The rankings of all metrics that at least one run has; runs are (name, metrics)."""
    table: dict[tuple[str, str, str], list[tuple[str, Metric]]] = {}
    for name, metrics in runs:
        for m in metrics:
            family = m.protocol.features.split("@")[0]
            table.setdefault((m.name, family, m.protocol.split), []).append((name, m))
    return tuple(_ranking(key, entries) for key, entries in table.items())


def _ranking(key: tuple[str, str, str], entries: list[tuple[str, Metric]]) -> Ranking:
    groups: list[list[tuple[str, Metric]]] = []
    for entry in entries:
        home = next((g for g in groups if comparable(g[0][1], entry[1]) is None), None)
        if home is None:
            groups.append([entry])
        else:
            home.append(entry)
    chief = max(groups, key=len)
    unlike = tuple(
        (name, m, comparable(chief[0][1], m) or "") for g in groups if g is not chief for name, m in g
    )
    title = f"{key[0]} ({key[1]})" if key[1] else key[0]
    metrics = [m for _, m in chief]
    if metrics[0].lower is None:
        return Ranking(title, tuple(chief), unlike)
    order = ranked(metrics)
    best_first = sorted(chief, key=lambda entry: next(i for i, m in enumerate(order) if m is entry[1]))
    decided = len(order) > 1 and apart(order[0], order[1])
    return Ranking(title, tuple(best_first), unlike, decided)


def compare_page(runs: Sequence[RunSummary], remarks_: Sequence[Remark] = (), created: str = "") -> str:
    """compare.html: rankings with plots, then the runs' newest samples side by side."""
    found = rankings([(run.name, run.metrics) for run in runs])
    header = tag(
        "header",
        tag("p", "Sfumato · comparison", class_="kind"),
        tag("h1", " · ".join(run.name for run in runs)),
        tag("p", "Numbers are ranked only where they were measured alike; where not, the reason is given.",
            class_="lead"),
    )  # fmt: skip
    columns = [
        tag("div", tag("h3", run.name), tag("p", run.lead, class_="hint"), film(run.film, f"film-{i}"))
        for i, run in enumerate(runs)
    ]
    main = tag(
        "main",
        section("To know", remarks(remarks_)),
        section("Measured", *(_block(r, [run.name for run in runs]) for r in found)),
        section("Samples", tag("div", *columns, class_="pair") if columns else ""),
    )
    return page("Comparison · Sfumato", STYLE, header, main, footer(created))


def _block(ranking: Ranking, order: Sequence[str]) -> Markup:
    """A ranking as a table, with a plot where there is something to see."""
    names, metrics = [n for n, _ in ranking.entries], [m for _, m in ranking.entries]
    rows = [_row(name, m, i == 0 and ranking.decided) for i, (name, m) in enumerate(ranking.entries)]
    rows += [_row(name, m, False, reason) for name, m, reason in ranking.unlike]
    table = metric_table(rows, deciding(metrics[0].protocol), "run")
    hint = tag("p", metrics[0].note, class_="hint") if metrics[0].note else ""
    if len(names) < 2:
        return tag("div", tag("h3", ranking.title), hint, table, class_="metrics")
    colours = [order.index(name) for name in names]
    drawn = plot(lambda theme: draw_ranking(names, metrics, colours, theme), ranking.title)
    return tag("div", drawn, hint, table, class_="metrics")


def _row(name: str, m: Metric, best: bool, reason: str = "") -> Markup:
    remark = f"not ranked: {reason}" if reason else note(replace(m, note=""))
    cells = [tag("th", name, scope="row"), *numbers(m), tag("td", remark, class_="note")]
    return tag("tr", *cells, class_="apart" if reason else "best" if best else None)
