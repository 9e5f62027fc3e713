"""report.html from a run folder: what was trained on what, how it went, what it draws, how good it is."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from ..core.errors import RefusedError
from ..evaluation.protocol import Metric
from ..report.curve import curves_of_steps
from ..report.history import curves_of
from ..report.html import run_page
from ..report.summary import Picture, Remark, Rows, RunSummary, Step
from ..training.storage import JSON_LIMIT, from_json, read_regular
from ..training.watch import finding
from .left_out import left_out_row
from .points import alike, read_points
from .progress import duration
from .run import Run
from .step_table import read_steps, step_curves, step_rows

EVALUATION = "evaluation.json"
PICTURES = {
    "final": ("Samples", "From the checkpoint as it is on disk."),
    "teacher-student": ("Teacher and student", "The same seeds and classes, by network calls."),
    "neighbours": ("Nearest training images", "Samples over the training image most like each of them."),
    "reconstruct": ("Reconstructions", ""),
    "interpolate": ("Interpolations", ""),
    "traverse": ("Traversals", "One latent at a time, the most informative first."),
    "levels": ("Level by level", "Samples of a ladder, the finer levels still at their prior means."),
}


def read_metrics(folder: Path) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """The metrics and findings of the last evaluation; none before the first."""
    path = folder / EVALUATION
    if not path.exists():
        return (), ()
    value = from_json(read_regular(path, JSON_LIMIT), path)
    if not isinstance(value, dict) or not isinstance(value.get("metrics"), list):
        raise RefusedError("no evaluation of ours", where=path, remedy="Run `sfumato evaluate` again.")
    return tuple(Metric.from_json(m) for m in value["metrics"]), tuple(map(str, value.get("notes", [])))


def write_report(run: Run) -> Path:
    """Write report.html; its path."""
    path = run.path / "report.html"
    run.folder.disk.replace(path, run_page(summarise(run)).encode())
    return path


def summarise(run: Run) -> RunSummary:
    """Everything the report shows, read from the folder."""
    metrics, notes = read_metrics(run.path)
    steps = read_steps(run.path)
    told = [str(text) for text in run.about.get("notes", [])]
    return RunSummary(
        name=run.path.name,
        lead=lead(run),
        facts=(*step_rows(steps), *facts(run)),
        film=film(run.path / "samples", [s.name for s in run.recipe.stages]),
        pictures=pictures(run.path / "samples"),
        curves=(*step_curves(steps), *curves_of(run.folder.history())),
        metrics=metrics,
        tradeoffs=curves_of_steps(alike(read_points(run))),
        remarks=remarks(told, notes),
        steps=tuple(Step(c, "") for c in run.next_commands()),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def remarks(told: Sequence[str], notes: Sequence[str]) -> tuple[Remark, ...]:
    """The warnings of the training, then the evaluation's findings; what both say once, as judged last."""
    warned, judged = ({finding(text) for text in texts} for texts in (told, notes))
    return (
        *(Remark(text, warning=True) for text in told if finding(text) not in judged),
        *(Remark(text, warning=finding(text) in warned) for text in notes),
    )


def lead(run: Run) -> str:
    """One sentence: what was trained on what, for how long."""
    parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
    made = run.about["recipe"]
    if "teacher" in run.about:
        made = f"{made} distilled by the method '{run.about['method']}'"
    return (
        f"{made} with {parameters:.2f} M parameters, trained on {run.facts.count:,} "
        f"examples of {run.about['data']} ({run.facts.words}) "
        f"for {duration(3600 * run.weights.hours)}."
    )


def facts(run: Run) -> tuple[Rows, ...]:
    """Tables of the data, the training and the software."""
    f, a = run.facts, run.about
    data = [
        ("source", a["data"]),
        ("training examples", f"{f.count:,}"),
        ("example", f.words),
        ("classes", ", ".join(f.classes) or "none"),
        ("preprocessing", f.pipeline or "none"),
        *left_out_row(run.path),
        ("held out", a["test"] or (f"{a['held_out']:.0%}" if a["held_out"] else "a tenth")),
        ("fingerprint", a["fingerprint"]),
    ]
    training = [
        ("recipe", a["recipe"]),
        *([("distilled from", a["teacher"]["run"])] if "teacher" in a else []),
        ("changed", ", ".join(f"{k} = {v}" for k, v in a["settings"].items()) or "nothing"),
        ("stages", ", ".join(s.name for s in run.recipe.stages)),
        ("examples seen", f"{run.weights.seen:,}"),
        ("time", duration(3600 * run.weights.hours)),
        ("budget", ", ".join(f"{v} {k}" for k, v in a["budget"].items())),
        ("seed", str(a["seed"])),
        ("command", a["command"]),
    ]
    software = [("sfumato", a["version"]), ("torch", a["torch"]), ("python", a["python"])]
    return (Rows("Data", tuple(data)), Rows("Training", tuple(training)), Rows("Software", tuple(software)))


def film(folder: Path, stages: Sequence[str]) -> tuple[Picture, ...]:
    """The fixed-seed grids, stage after stage, by examples seen."""
    found = []
    for stage in stages:
        for path in sorted(folder.glob(f"{stage}-[0-9]*.png")):
            seen = path.stem.removeprefix(f"{stage}-")
            if seen.isdecimal():
                found.append(Picture(opened(path), f"{stage} at {int(seen):,}"))
    return tuple(found)


def pictures(folder: Path) -> tuple[Picture, ...]:
    """The pictures the verbs have drawn so far."""
    return tuple(
        Picture(opened(folder / f"{name}.png"), title, caption)
        for name, (title, caption) in PICTURES.items()
        if (folder / f"{name}.png").exists()
    )


def opened(path: Path) -> Image.Image:
    """A picture of ours, in memory."""
    picture = Image.open(io.BytesIO(path.read_bytes()), formats=("PNG",))
    picture.load()
    return picture


def evaluation_json(metrics: Sequence[Metric], notes: Sequence[str]) -> bytes:
    """The bytes of evaluation.json."""
    value = {"metrics": [m.to_json() for m in metrics], "notes": list(notes)}
    return json.dumps(value, indent=1, allow_nan=False).encode()
