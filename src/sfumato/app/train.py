"""Training from the user's words to a finished run.

    look at the data -> compose the recipe -> begin (or find) the run folder -> train every stage
    -> open the folder as a stranger would, sample from what is on disk, compare, report

The same words again find the folder, check that nothing differs, and go on where it stands.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..core.errors import RefusedError, UsageError
from ..core.lazy import build, dump
from ..data.dataset import Dataset, Split
from ..data.facts import Facts
from ..data.inspect import examine
from ..data.sources import open_data, open_like
from ..models.generator import Generator
from ..report import grid
from ..training.budget import Budget as TrainingBudget
from ..training.budget import Examples, Hours
from ..training.execution import Execution
from ..training.rundir import RunDir
from ..training.settings import Settings
from ..training.trainer import Trainer
from ..training.world import World
from .catalog import NAMES
from .compose import compose
from .console import Console
from .doctor import preview_of
from .looking import ReconstructionGrid, SampleGrid
from .progress import listener
from .report import write_report
from .run import Run, best_device

DEFAULT_HOURS = 0.5


@dataclass(frozen=True)
class Budget:
    """What the user allows: hours or examples; half an hour if neither is said."""

    hours: float | None = None
    examples: int | None = None

    def build(self) -> TrainingBudget:
        """The trainer's budget; UsageError for both at once, or for nothing."""
        if self.hours is not None and self.examples is not None:
            raise UsageError("--hours and --examples exclude each other", remedy="Give one of them.")
        try:
            if self.examples is not None:
                return Examples(self.examples)
            return Hours(DEFAULT_HOURS if self.hours is None else self.hours)
        except ValueError as error:
            raise UsageError(str(error), remedy="For example: --hours 0.5, or --examples 100000.") from None

    def to_json(self) -> dict[str, float | int]:
        """{"hours": ...} or {"examples": ...}."""
        return {"examples": self.examples} if self.examples else {"hours": self.hours or DEFAULT_HOURS}


def default_folder(recipe: str, data: str) -> Path:
    """runs/DATA-RECIPE."""
    word = re.sub(r"[^a-z0-9]+", "-", Path(data).stem.lower()).strip("-") or "data"
    return Path("runs") / f"{word}-{recipe}"


def execution_of(precision: str | None) -> Execution | None:
    """The precision the user insists on; None: what pays."""
    if precision is None:
        return None
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"no precision '{precision}'", remedy="Give fp32 or bf16; fp16 is never used.")
    return Execution(bf16=precision == "bf16", channels_last=True)


def train(
    recipe: str,
    data: str,
    *,
    out: Path | str | None = None,
    budget: Budget = Budget(),
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    test: str | None = None,
    held_out: float | None = None,
    options: Mapping[str, Any] | None = None,
    fresh: bool = False,
    console: Console | None = None,
    looks: int = 10,
) -> Run:
    """Train RECIPE on DATA into a run folder, or go on with it; the finished run, read back from disk."""
    plan, asked = budget.build(), Settings(looks=looks, execution=execution_of(precision))
    world = World(best_device(device)) if device else World.find()
    console = (console or Console()) if world.main else Console(silent=True)
    folder = RunDir(Path(out) if out else default_folder(recipe, data))
    console.say(f"Run folder: {folder.path}")
    whole, parts = read_data(data, test, held_out, options or {}, console)
    facts = replace(parts.train.facts, fingerprint=whole.fingerprint)
    tree = compose(recipe, facts, settings or {})
    torch.manual_seed(seed)  # the initial weights; everything later draws by position
    built = build(tree)
    if world.main:
        about: dict[str, Any] = {"recipe": recipe, "data": data, "test": test, "held_out": held_out}
        about |= {"options": given_options(options or {}), "settings": dict(settings or {})}
        about |= {"fingerprint": whole.fingerprint, "budget": budget.to_json(), "seed": seed}
        begin(folder, dump(tree, NAMES), facts, about, parts.train, fresh, console)
    world.wait()
    reporter = listener(console)
    trainer = Trainer(
        built,
        parts.train,
        folder,
        budget=plan,
        seed=seed,
        held_out=parts.held_out,
        probes=(SampleGrid(facts, seed), ReconstructionGrid(facts, parts.held_out)),
        reporter=reporter,
        world=world,
        settings=asked,
    )
    try:
        trainer.fit()
    finally:
        reporter.close()
        if world.main and reporter.warnings:
            folder.tell(notes=reporter.warnings)
    if not world.main:
        sys.exit(0)
    return finish(Run(folder.path, device), trainer.model, console)


def begin(
    folder: RunDir,
    recipe: Any,
    facts: Facts,
    about: Mapping[str, Any],
    data: Dataset,
    fresh: bool,
    console: Console,
) -> None:
    """Describe a new run, or check that the folder holds this very one."""
    if fresh:
        start_again(folder, console)
    software = {
        "command": " ".join(["sfumato", *sys.argv[1:]]),
        "version": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "format": 1,
    }
    with folder.lock():
        new = folder.begin(recipe, facts.to_json(), {**about, **software})
    if new:
        preview = folder.path / "data-preview.png"
        folder.disk.replace(preview, grid.png(preview_of(data, about["seed"])))
        console.say(f"The exact tensors the model will see: {preview}")
    elif folder.names():
        console.say("This run exists with the same recipe and data: going on with it.")


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value not in (None, False)}


def read_data(
    data: str, test: str | None, held_out: float | None, options: Mapping[str, Any], console: Console
) -> tuple[Dataset, Split]:
    """The data, said in words, and its training and held-out parts."""
    chosen = given_options(options)
    whole = open_data(data, progress=_decoding(console), **chosen)
    parts = whole.split(held_out)
    if test is not None:
        parts = Split(whole, open_like(test, whole.facts, progress=_decoding(console), **chosen))
    console.say(*examine(whole, held_out=len(parts.held_out)).lines())
    return whole, parts


def _decoding(console: Console) -> Any:
    """A line every few thousand files."""

    def told(stage: str, done: int, total: int) -> None:
        if done == total or done % 4096 == 0:
            console.say(f"{stage}: {done:,} of {total:,}")

    return told


def start_again(folder: RunDir, console: Console) -> None:
    """Move what is in the folder aside; nothing is deleted. BusyError while another process trains in it."""
    path = folder.path
    if not path.exists():
        return
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}-old{n}").exists())
    aside = path.with_name(f"{path.name}-old{number}")
    with folder.lock():
        folder.disk.guard(lambda: folder.disk.call(path.rename, aside), path, "moving the old run aside")
    console.say(f"The old run is kept in {aside}.")


AGREE = 1e-3  # model units; layouts of weights differ, and with them the rounding of sums


def finish(run: Run, trained: nn.Module, console: Console) -> Run:
    """Sample from the folder and from memory with the same seeds: they must agree. Then the report."""
    if isinstance(run.model, Generator) and isinstance(trained, Generator):
        seeds = list(range(4))
        read, held = (model.sample(4, seeds=seeds).cpu() for model in (run.model, trained))
        same = all(torch.equal(a, b) for a, b in zip(*states(run.model, trained), strict=True))
        if not same or float((read - held).abs().max()) > AGREE:
            raise RefusedError(
                "the model on disk is not the one in memory",
                where=run.path,
                remedy="This must not happen: please report it with the run folder.",
            )
        sheet = grid.grid(SampleGrid(run.facts).draw(run.model), run.facts)
        run.folder.disk.replace(run.path / "samples" / "final.png", grid.png(sheet))
        console.say(f"Samples from the checkpoint on disk: {run.path / 'samples' / 'final.png'}")
    console.say(f"Report: {write_report(run)}")
    return run


def states(*models: nn.Module) -> list[list[torch.Tensor]]:
    """The tensors of models, on the CPU, in order of their names."""
    return [[v.cpu() for _, v in sorted(model.state_dict().items())] for model in models]
