"""docs/claims.md from the recorded results: one table of all claims, then a section for each.

The page is a function of claims/*.py and claims/results/*.json alone, so the same files always make
the same page, and nothing on it was written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sfumato.evaluation.protocol import decimals_of, show

from .harness import ROOT, Experiment, experiments, spread_of

PAGE = ROOT / "docs" / "claims.md"
HEAD = """# Claims

What the papers say should happen, run as experiments at a size for two CPU cores, and what came out. Written
by `python -m claims`; do not edit by hand. Each experiment is a file in `claims/`, its numbers are in
`claims/results/`. A claim that does not hold at this size is reported as not holding; that says nothing about
larger ones. Numbers are means ± the standard deviation over seeds; minutes are processor time."""


def write(known: Mapping[str, Experiment] | None = None, path: Path = PAGE) -> None:
    """Write the page."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text(known or experiments()), encoding="utf-8")


def text(known: Mapping[str, Experiment]) -> str:
    """The whole page as Markdown."""
    found = {e.name: r for e in known.values() if (r := e.result()) is not None}
    outcomes = [r["outcome"] for r in found.values()]
    counts = [
        f"{outcomes.count(o)} {o}" for o in ("holds", "does not hold", "failed to run") if o in outcomes
    ]
    waiting = [e for e in known.values() if e.name not in found]
    parts = [HEAD, f"**{len(found)} run: {', '.join(counts)}.**" if found else "None is run yet."]
    if found:
        rows = [summary(known[name], result) for name, result in found.items()]
        parts.append(grid(rows))
    earlier = [name for name, result in found.items() if "modules" not in result]
    if earlier:
        parts.append(
            "Recorded by an earlier form of the harness, which hashed a claim's own file and not the modules "
            f"it shares with others: {', '.join(earlier)}."
        )
    changed = [name for name, result in found.items() if not known[name].stands(result)]
    if changed:
        parts.append(f"The experiment was changed after its result, to be run again: {', '.join(changed)}.")
    if waiting:
        parts.append("Not run yet:\n\n" + "\n".join(f"- {e.name}: {e.title}" for e in waiting))
    parts += [section(known[name], result) for name, result in found.items()]
    return "\n\n".join(parts) + "\n"


def summary(experiment: Experiment, result: Mapping[str, Any]) -> dict[str, object]:
    """The claim's row in the table of all."""
    numbers = measured(result)
    first = "; ".join(f"{n['number']} {n['mean ± spread']}" for n in numbers[:3])
    more = f"; {len(numbers) - 3} more" if len(numbers) > 3 else ""
    anchor = f"{experiment.name}-{_anchor(experiment.title)}"
    return {
        "claim": f"[{experiment.name}](#{anchor}) {experiment.title}",
        "source": experiment.source,
        "outcome": f"**{result['outcome']}**" + ("" if experiment.stands(result) else ", before a change"),
        "numbers": first + more,
        "seeds": len(result["seeds"]) or "–",
        "budget": budget(result),
        "commit": result["commit"],
        "machine": result["machine"],
    }


def section(experiment: Experiment, result: Mapping[str, Any]) -> str:
    """Everything recorded about one claim."""
    parts = [f"## {experiment.name}: {experiment.title}", *experiment.statement]
    verdict = f"**{result['outcome'].capitalize()}**"
    parts.append(f"{verdict}: {result['error']}" if result["error"] else f"{verdict}.")
    if not experiment.stands(result):
        parts.append("The experiment was changed after this result: what is said above is the new form.")
    checks = [f"- {'holds' if c['holds'] else '**does not hold**'}: {c['text']}" for c in result["checks"]]
    parts += ["\n".join(checks)] if checks else []
    numbers = measured(result)
    parts += [grid(numbers)] if numbers else []
    for table in result["tables"]:
        parts += [f"*{table['title']}*", grid(table["rows"])]
    parts += [
        f"![{experiment.name} {figure}](claims/{experiment.name}-{figure}.png)"
        for figure in result["figures"]
    ]
    parts += [f"Note: {note}" for note in result["notes"]]
    seeds = ", ".join(map(str, result["seeds"])) or "none"
    parts.append(
        f"Seeds {seeds}; {budget(result)}; commit {result['commit']}; {result['machine']}, "
        f"PyTorch {result['torch']}; [`{result['file']}`](../claims/{result['file']})."
    )
    return "\n\n".join(parts)


def measured(result: Mapping[str, Any]) -> list[dict[str, object]]:
    """One row a number: name, mean ± spread, and the value of each seed."""
    names = dict.fromkeys(r["name"] for r in result["records"])
    rows: list[dict[str, object]] = []
    for name in names:
        mine = [r for r in result["records"] if r["name"] == name]
        values = [float(r["value"]) for r in mine]
        mean, spread = sum(values) / len(values), spread_of(values)
        places = decimals_of(mean, spread)
        shown = show(mean, places) + (f" ± {show(spread, places)}" if len(values) > 1 else "")
        by_seed = ", ".join(show(v, places) for v in values) if len(values) > 1 else ""
        rows.append(
            {"number": name, "mean ± spread": f"{shown} {mine[0]['unit']}".strip(), "by seed": by_seed}
        )
    if not any(row["by seed"] for row in rows):
        rows = [{k: v for k, v in row.items() if k != "by seed"} for row in rows]
    return rows


def budget(result: Mapping[str, Any]) -> str:
    """Examples and minutes."""
    counts = [f"{n:,}" for n in result["examples"]]
    examples = f"{' / '.join(counts)} examples, " if counts else ""
    return f"{examples}{result['minutes']} min"


def grid(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table; columns of numbers to the right."""
    if not rows:
        return ""
    columns = list(rows[0])
    rules = ["---:" if all(_is_number(r[c]) for r in rows) else "---" for c in columns]
    lines = [columns, rules, *([_text(r[c]) for c in columns] for r in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return show(value, decimals_of(value, 0.0))
    return "–" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _anchor(title: str) -> str:
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")
