"""A claim: what a paper says should happen, as an experiment that may come out either way.

claims/cNN_name.py     docstring: what is claimed; a paragraph "Source: ..."; a paragraph "Passes: ..."
                       def run(claim: Claim) -> None: trains, measures, records, checks
claims/results/cNN.json   the last full run: numbers by seed, checks, tables, notes, commit, machine
docs/claims/cNN-*.png     its pictures;  docs/claims.md: the page of all results (page.py)

    holds          every check of the claim came out true
    does not hold  at least one did not: a finding like any other, with the numbers beside it
    failed to run  the experiment raised, or checked nothing: nothing is known
    skipped        data that are not at hand; whatever was recorded before stays

Runs live in build/claims/cNN/<hash of the claim>-<hash of the package>/ until the claim is done: a stopped
claim is started again by the same command and finds its trained models, where neither has changed. A quick
run shrinks every budget, uses one seed, and records nothing.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import math
import os
import re
import shutil
import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from matplotlib.figure import Figure
from PIL import Image

from sfumato.app.console import Console
from sfumato.app.judges import hardware
from sfumato.app.run import Run
from sfumato.app.train import Budget, train
from sfumato.core.errors import Interrupted, UsageError, did_you_mean
from sfumato.training.storage import Disk

from . import sources

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"(c\d\d[a-z]?)_[a-z0-9_]+\.py")
SEEDS = (0, 1, 2)
SENTENCE = re.compile(r"\. (?=[A-Z])")
QUICK = 256  # examples of any training in a quick run
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:[\w.+@-]+/)+")


class Skipped(Exception):
    """What the experiment needs is not on this machine."""


@dataclass(frozen=True)
class Experiment:
    """A file of claims: its short name ("c13"), its path, and what its docstring says."""

    name: str
    path: Path

    def module(self) -> ModuleType:
        """The imported file."""
        return importlib.import_module(f"claims.{self.path.stem}")

    @property
    def text(self) -> str:
        """The docstring of the file, which need not be imported for it."""
        return ast.get_docstring(ast.parse(self.path.read_text("utf-8"))) or ""

    @property
    def title(self) -> str:
        """The docstring's first sentence."""
        return SENTENCE.split(" ".join(self.text.partition("\n\n")[0].split()), 1)[0].rstrip(".")

    @property
    def statement(self) -> tuple[str, ...]:
        """The docstring after its first sentence, paragraph by paragraph, set-off lines as they are."""
        first, *rest = self.text.split("\n\n")
        more = SENTENCE.split(" ".join(first.split()), 1)[1:]
        whole = [b.strip("\n") if b.startswith("    ") else " ".join(b.split()) for b in rest if b.strip()]
        return (*more, *whole)

    def paragraph(self, *words: str) -> str:
        """The paragraph that begins with one of the words, without them; "" if there is none."""
        start = rf"^ *(?:{'|'.join(words)})\b:?\s*"
        found = re.search(rf"{start}(.+?)(?=\n\s*\n|\n *[A-Z][a-z ]+: |\Z)", self.text, re.M | re.S)
        return " ".join(found.group(1).split()) if found else ""

    @property
    def source(self) -> str:
        """Where the claim is from."""
        return self.paragraph("Source", "Sources")

    @property
    def condition(self) -> str:
        """What must be measured for the claim to hold."""
        return self.paragraph("Pass condition", "Passes if", "Passes when", "Passes", "Pass", "Holds if")

    @property
    def digest(self) -> str:
        """A hash of the file and what it imports of claims/: a changed experiment is another one."""
        return sources.digest(sources.modules(self.path))

    def stands(self, result: Mapping[str, Any]) -> bool:
        """Whether a result is of the experiment as it is; one of an earlier form knows its own file alone."""
        files = sources.modules(self.path) if "modules" in result else [self.path]
        return bool(result["digest"] == sources.digest(files))

    @property
    def result_path(self) -> Path:
        """Where the last full run is recorded."""
        return self.path.parent / "results" / f"{self.name}.json"

    def result(self) -> dict[str, Any] | None:
        """The last full run, or None."""
        return json.loads(self.result_path.read_text("utf-8")) if self.result_path.exists() else None


def experiments(folder: Path = ROOT / "claims") -> dict[str, Experiment]:
    """Every experiment by its short name, in order."""
    found: dict[str, Experiment] = {}
    for path in sorted(folder.glob("c[0-9]*.py")):
        match = NAME.fullmatch(path.name)
        if match is None or match.group(1) in found:
            raise UsageError(f"{path.name} is no name for a claim, or taken", remedy="Call it cNN_name.py.")
        found[match.group(1)] = Experiment(match.group(1), path)
    return found


def find(name: str, known: Mapping[str, Experiment]) -> Experiment:
    """An experiment by its short name or its file's name; UsageError with the nearest one."""
    short = name.removesuffix(".py").partition("_")[0].lower()
    if short not in known:
        raise UsageError(f"no claim '{name}'", remedy=did_you_mean(short, known))
    return known[short]


class Claim:
    """What an experiment is handed: its budget, its data, its scratch folder, and a place for results."""

    def __init__(self, name: str, folder: Path, *, quick: bool = False) -> None:
        self.name, self.quick, self.folder = name, quick, folder
        self.seeds: tuple[int, ...] = (0,) if quick else SEEDS
        self.budgets: list[int] = []
        self.records: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.tables: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.figures: dict[str, bytes] = {}
        folder.mkdir(parents=True, exist_ok=True)

    # ------------------------------------------------------------------------------ what it may use

    def examples(self, n: int) -> int:
        """The budget of a training in examples; a tiny part of it in a quick run."""
        if n not in self.budgets:
            self.budgets.append(n)
        return min(n, QUICK) if self.quick else n

    def data(self, name: str) -> str:
        """The path of a Parquet file by its name ("mnist-train"); skips the claim where it is not at hand.

        Looked for in the folder that SFUMATO_DATA names, else in ../shared/data beside the checkout.
        """
        folder = Path(os.environ.get("SFUMATO_DATA") or ROOT.parent / "shared" / "data")
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise Skipped(f"{path.name} is not at hand; name the folder that holds it by SFUMATO_DATA")
        return str(path)

    def train(
        self,
        recipe: str,
        data: str,
        *,
        examples: int,
        seed: int = 0,
        name: str = "",
        settings: Mapping[str, Any] | None = None,
        **asked: Any,
    ) -> Run:
        """A finished run of `sfumato train`, in a folder of its own; one that was stopped goes on.

        examples: the full budget; a quick run trains a tiny part of it. name: tells apart runs of the
        same recipe. asked: what else sfumato.app.train.train takes (test, held_out, precision, ...).
        """
        out = self.folder / "-".join(filter(None, [recipe, name, f"seed{seed}"]))
        budget = Budget(examples=self.examples(examples))
        words: dict[str, Any] = {"console": Console(silent=True), "looks": 1} | asked
        return train(recipe, data, out=out, budget=budget, settings=settings, seed=seed, **words)

    # ------------------------------------------------------------------------------ what it found

    def record(self, name: str, value: float, *, seed: int | None = None, unit: str = "") -> None:
        """A measured number; one for each name and seed."""
        if any((r["name"], r["seed"]) == (name, seed) for r in self.records):
            raise ValueError(f"'{name}' of seed {seed} is recorded already")
        self.records.append({"name": name, "seed": seed, "value": float(value), "unit": unit})

    def values(self, name: str) -> list[float]:
        """The recorded numbers of a name, one for each seed, in the order of recording."""
        found = [r["value"] for r in self.records if r["name"] == name]
        if not found:
            raise KeyError(f"nothing is recorded as '{name}'")
        return found

    def mean(self, name: str) -> float:
        """Their mean."""
        return statistics.fmean(self.values(name))

    def spread(self, name: str) -> float:
        """Their standard deviation over seeds (of a sample); 0 for one value."""
        return spread_of(self.values(name))

    def check(self, text: str, holds: bool) -> None:
        """One pass condition, with its numbers in the text."""
        self.checks.append({"text": text, "holds": bool(holds)})

    def table(self, title: str, rows: Sequence[Mapping[str, object]]) -> None:
        """A table for the page; every row has the same keys, the columns."""
        if any(list(row) != list(rows[0]) for row in rows):
            raise ValueError(f"the rows of '{title}' have different columns")
        self.tables.append({"title": title, "rows": [{k: _cell(v) for k, v in r.items()} for r in rows]})

    def figure(self, name: str, figure: Figure | Image.Image | bytes) -> None:
        """A picture for the page, docs/claims/cNN-name.png; bytes are a PNG."""
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or name in self.figures:
            raise ValueError(f"'{name}' is no name for a figure, or taken")
        self.figures[name] = _png(figure)

    def note(self, text: str) -> None:
        """What a reader must know: what was tried, what did not hold."""
        self.notes.append(text)


def spread_of(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _png(figure: Figure | Image.Image | bytes) -> bytes:
    if isinstance(figure, bytes):
        return figure
    buffer = io.BytesIO()
    if isinstance(figure, Image.Image):
        figure.save(buffer, "png", optimize=True)
    else:
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _cell(value: object) -> Any:
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    return float(value) if isinstance(value, float) or hasattr(value, "__float__") else str(value)


# ---------------------------------------------------------------------------------- running one


@dataclass
class Session:
    """One experiment at work: its folder, what earlier sessions of it used, and what it comes to."""

    experiment: Experiment
    root: Path = ROOT

    def run(self, *, quick: bool = False) -> dict[str, Any]:
        """Run it to the end and record what came out; the result, also of a quick run, which records nothing.

        Raises Skipped, and Interrupted after SIGINT or SIGTERM: the same command then goes on.
        """
        torch.manual_seed(0)
        claim = Claim(self.experiment.name, self._folder(quick), quick=quick)
        before = _read(claim.folder / "spent.json")
        start, commits = time.process_time(), [*before.get("commits", []), sources.state(ROOT)]
        error = ""
        try:
            with stoppable():
                self.experiment.module().run(claim)
            if not claim.checks:
                error = "the experiment checked nothing"
        except (Skipped, Interrupted, KeyboardInterrupt):
            raise
        except Exception as problem:  # whatever it is, nothing is known about the claim then
            error = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
        finally:
            seconds = before.get("seconds", 0.0) + time.process_time() - start
            spent = {"seconds": seconds, "commits": list(dict.fromkeys(commits)), "done": False}
            _write(claim.folder / "spent.json", spent)
        result = outcome(self.experiment, claim, spent, error)
        if not quick:
            self._keep(claim, result)
            _write(claim.folder / "spent.json", spent | {"done": not error})
        return result

    def _folder(self, quick: bool) -> Path:
        """The scratch folder: found again where the claim was stopped, empty otherwise."""
        base = self.root / "build" / "claims"
        path = base / ("quick" if quick else self.experiment.name)
        path = path / (self.experiment.name if quick else scratch(self.experiment))
        if path.exists() and (quick or _read(path / "spent.json").get("done", False)):
            shutil.rmtree(path)
        return path

    def _keep(self, claim: Claim, result: Mapping[str, Any]) -> None:
        pictures = self.root / "docs" / "claims"
        if not result["error"]:
            pictures.mkdir(parents=True, exist_ok=True)
            for old in pictures.glob(f"{claim.name}-*.png"):
                old.unlink()
            for name, png in claim.figures.items():
                (pictures / f"{claim.name}-{name}.png").write_bytes(png)
        self.experiment.result_path.parent.mkdir(exist_ok=True)
        _write(self.experiment.result_path, result)


def outcome(experiment: Experiment, claim: Claim, spent: Mapping[str, Any], error: str) -> dict[str, Any]:
    """The result as it is recorded: plain JSON values, no paths of this machine."""
    holds = not error and all(check["holds"] for check in claim.checks)
    return _plain(
        {
            "claim": experiment.name,
            "file": experiment.path.name,
            "outcome": "failed to run" if error else "holds" if holds else "does not hold",
            "error": error,
            "checks": claim.checks,
            "records": claim.records,
            "tables": claim.tables,
            "figures": [] if error else sorted(claim.figures),
            "notes": claim.notes,
            "seeds": sorted({r["seed"] for r in claim.records if r["seed"] is not None}),
            "examples": claim.budgets,
            "minutes": round(spent["seconds"] / 60, 1),
            "commit": ", ".join(spent["commits"]),
            "digest": experiment.digest,
            "modules": [path.name for path in sources.modules(experiment.path)],
            "machine": f"{hardware(torch.device('cpu'))}, {os.cpu_count()} cores"
            + (f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""),
            "torch": torch.__version__,
        }
    )


def crashed(experiment: Experiment, code: int) -> None:
    """Record a claim whose process died: killed for want of memory, for instance."""
    claim = Claim(experiment.name, ROOT / "build" / "claims" / experiment.name / scratch(experiment))
    spent = {"seconds": 0.0, "commits": [sources.state(ROOT)]} | _read(claim.folder / "spent.json")
    _write(experiment.result_path, outcome(experiment, claim, spent, f"its process ended with {code}"))


def scratch(experiment: Experiment) -> str:
    """The name of the folder of a claim at work: models trained by other source are not found in it."""
    return f"{experiment.digest}-{sources.tree(ROOT / 'src')}"


def _plain(value: Any) -> Any:
    """JSON values: numbers that are not finite as text, folders of this machine left out of words."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return MACHINE_PATH.sub("", value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    Disk().replace(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises Interrupted between trainings as well, where the trainer does not catch it."""

    def leave(number: int, frame: object) -> NoReturn:
        raise Interrupted("stopped", signal=number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
