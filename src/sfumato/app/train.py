"""Training from the user's words to a finished run.

    look at the data -> compose the recipe -> begin (or find) the run folder -> train every stage
    -> open the folder as a stranger would, sample from what is on disk, compare, report

The same words again find the folder, check that nothing differs, and go on where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import DataError, RefusedError, SfumatoError, UsageError
from ..core.launch import processes
from ..core.lazy import dump
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
from ..training.stage import Recipe, Stage
from ..training.stagerun import out_of_memory
from ..training.trainer import Trainer
from ..training.world import World
from .begin import begin, lasting
from .catalog import NAMES
from .compose import build_recipe, compose, known_recipe, unused_classes
from .console import Console
from .device import best_device
from .estimate import forecast
from .fitting import check_weights, finished, micro_batches, told
from .looking import ReconstructionGrid, SampleGrid, quick
from .probabilities import check_probabilities
from .progress import listener
from .report import write_report
from .run import Run
from .weights import WORDS

DEFAULT_HOURS = 0.5
FEWEST = 8  # training examples
LEAST_SPREAD = 1e-6  # model units; what rounding leaves of the spread of a constant lies far below


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
    """runs/DATA-RECIPE; of the folder one stands in, by its own name."""
    stem = Path(data).stem if Path(data).stem.strip(".") else Path(data).resolve().stem
    word = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "data"
    return Path("runs") / f"{word}-{recipe}"


def execution_of(precision: str | None) -> Execution | None:
    """The precision the user insists on; None: what pays."""
    if precision is None:
        return None
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"no precision '{precision}'", remedy="Give fp32 or bf16; fp16 is never used.")
    return Execution(bf16=precision == "bf16", channels_last=True)


def check_seed(seed: int) -> None:
    """UsageError for a seed that neither a checkpoint nor torch can hold."""
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed of {seed}", remedy="Give a whole number from 0 to 2^63 - 1, e.g. --seed 3.")


def world_of(device: str | None) -> World:
    """This process among those launched, on its own device; several take what they find, or all the CPU."""
    if processes() == 1:
        return World(best_device(device))
    if device not in (None, "cpu"):
        raise UsageError(
            f"--device {device} with {processes()} processes",
            remedy="Leave --device out: each process takes a GPU of its own; or give --device cpu.",
        )
    return World.find(cpu=device == "cpu")


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
    """Train RECIPE on DATA into a run folder, or go on with it; the finished run, read back from disk.

    Under a launcher every process calls this; the main one writes and reports, all return the run.
    """
    check_seed(seed)
    known_recipe(recipe)  # a wrong word is told before the data are read
    plan, asked = budget.build(), Settings(looks=looks, execution=execution_of(precision))
    world = world_of(device)
    console = (console or Console()) if world.main else Console(silent=True)
    folder = RunDir(Path(out) if out else default_folder(recipe, data))
    folder.refuse_foreign(WORDS)  # before the data are read; again before anything is written
    console.say(f"Run folder: {folder.path}")
    begun = bool(folder.names()) and not fresh
    whole, parts = read_data(data, test, held_out, options or {}, console, begun)
    facts = replace(parts.train.facts, fingerprint=whole.fingerprint)
    tree = compose(recipe, facts, settings or {})
    done = finished(folder, fresh)
    check_weights(recipe, tree, facts, settings or {}, world, done)
    torch.manual_seed(seed)  # the initial weights; everything later draws by position
    built = build_recipe(recipe, tree)
    check_probabilities(built.model, parts.held_out)
    if world.main:
        about: dict[str, Any] = {"recipe": recipe, "data": lasting(data), "test": lasting(test)}
        about |= {"held_out": held_out, "options": lasting_options(options or {})}
        about |= {"settings": dict(settings or {}), "fingerprint": whole.fingerprint}
        about |= {"budget": budget.to_json(), "seed": seed}
        if not console.silent and (fresh or not folder.names()):
            console.say(forecast(parts.train, recipe, settings, world.device).line())
        begin(folder, dump(tree, NAMES), facts, about, parts, fresh, console)
        console.say(*unused_classes(recipe, facts, settings or {}))
    fits = micro_batches(parts.train, recipe, tree, world, asked.execution, done)
    world.wait()
    asked = replace(asked, fits=agreed(folder, fits, built, world, console))
    return carry_out(
        built, facts, parts, folder, budget=plan, seed=seed, world=world, settings=asked, console=console
    )


def agreed(
    folder: RunDir, fits: Mapping[str, int], recipe: Recipe, world: World, console: Console
) -> dict[str, int]:
    """The micro-batches a run began with, or smaller ones where less memory is free now; kept in run.json.

    A run whose later stages are planned after a resume takes the same as one nobody disturbed. Processes
    measure each for itself and take the smallest: one exchange for each gradient stage, in every process,
    and all have read run.json before the main one writes it.
    """
    before = folder.read("run.json").get("micro") or {}
    batches = {stage.name: stage.batch for stage in recipe.stages if isinstance(stage, Stage)}
    both = {}
    for name, batch in batches.items():
        part = -int(world.agree(-min([d[name] for d in (before, fits) if name in d], default=batch)))
        if part < batch:
            both[name] = part
    if world.main:
        console.say(*told(both, batches, world))
        if not folder.names():
            folder.tell(**({"micro": both} if both else {}))
        elif both != before:
            text = "Less memory is free than when this run began: it goes on, not equal to the bit."
            console.say(text)
            with suppress(SfumatoError):
                add_notes(folder, [text])
    return both


def carry_out(
    recipe: Recipe,
    facts: Facts,
    parts: Split,
    folder: RunDir,
    *,
    budget: TrainingBudget,
    seed: int,
    world: World,
    settings: Settings,
    console: Console,
) -> Run:
    """Train a recipe in a folder that was begun, or go on where it stands; the finished run, read back."""
    reporter = listener(console)
    trainer = Trainer(
        recipe,
        parts.train,
        folder,
        budget=budget,
        seed=seed,
        held_out=parts.held_out,
        probes=(SampleGrid(facts, seed), ReconstructionGrid(facts, parts.held_out)),
        reporter=reporter,
        world=world,
        settings=settings,
    )
    try:
        trainer.fit()
    finally:
        reporter.close()
        if world.main and reporter.warnings:
            with suppress(SfumatoError):  # what ended the training is the news, not that a note was lost
                add_notes(folder, reporter.warnings)
    run = Run(folder.path, str(world.device))
    if world.main:
        finish(run, trainer.model, console)
    world.wait()
    return run


def add_notes(folder: RunDir, texts: Sequence[str]) -> None:
    """Append to the warnings of earlier sessions, each once."""
    folder.tell(notes=list(dict.fromkeys([*folder.read("run.json").get("notes", []), *texts])))


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None and value is not False}


def lasting_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as a later verb from another folder understands them."""
    given = given_options(options)
    return given | ({"labels": lasting(given["labels"])} if "labels" in given else {})


def read_data(
    data: str,
    test: str | None,
    held_out: float | None,
    options: Mapping[str, Any],
    console: Console,
    begun: bool = False,
) -> tuple[Dataset, Split]:
    """The data, said in words, and its training and held-out parts; begun: by options that a run has."""
    chosen = given_options(options)
    whole = open_data(data, progress=_decoding(console), stored=begun, **chosen)
    parts = whole.split(held_out)
    if (refusal := untrainable(parts.train, data)) is not None:
        raise refusal
    if test is not None:
        other = open_like(test, whole.facts, progress=_decoding(console), **chosen)
        parts = Split(whole, other.mixed())
    console.say(*examine(whole, held_out=len(parts.held_out)).lines())
    return whole, parts


def untrainable(part: Dataset, data: str) -> DataError | None:
    """Why nothing can be learned from a training part; None where something can."""
    if len(part) < FEWEST:
        return DataError(
            f"{len(part)} example{'s' * (len(part) != 1)} to train on",
            where=data,
            remedy=f"A model needs at least {FEWEST}; with fewer than some hundred it learns them by heart.",
        )
    if max(part.facts.std, default=1.0) < LEAST_SPREAD:
        return DataError(
            "every example is the same constant: there is nothing to learn from it",
            where=data,
            remedy=f"Look at what was read: sfumato doctor {data} writes data-preview.png.",
        )
    return None


def _decoding(console: Console) -> Any:
    """A line every few thousand files."""

    def told(stage: str, done: int, total: int) -> None:
        if done == total or done % 4096 == 0:
            console.say(f"{stage}: {done:,} of {total:,}")

    return told


FEWER = "sfumato sample {} -n 1 --batch 1"
AGREE = 1e-3  # model units; layouts of weights differ, and with them the rounding of sums


def finish(run: Run, trained: nn.Module, console: Console) -> None:
    """The model on disk must be the one in memory, tensor by tensor; then samples and the report.

    Samples of both are compared as well, but they may differ where kernels do: that is only said.
    """
    if not all(torch.equal(a, b) for a, b in zip(*states(run.model, trained), strict=True)):
        raise RefusedError(
            "the model on disk is not the one in memory",
            where=run.path,
            remedy="This must not happen: please report it with the run folder.",
        )
    try:
        last_look(run, trained, console)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        lost = f"The last samples did not fit into memory: the training is done, draw fewer: {FEWER}"
        console.say(lost.format(run.path))
        with suppress(SfumatoError):
            add_notes(run.folder, [lost.format(run.path)])
    console.say(f"Report: {write_report(run)}")


def last_look(run: Run, trained: nn.Module, console: Console) -> None:
    """Samples of both models compared, and a sheet of those from disk."""
    if not (isinstance(run.model, Generator) and isinstance(trained, Generator)):
        return
    plan, seeds = quick(run.model.plan), list(range(4))
    read, held = (model.sample(4, plan, seeds=seeds).cpu() for model in (run.model, trained))
    apart = float((read - held).abs().max())
    if not apart <= AGREE:
        console.say(
            f"Samples of the model on disk and of the same weights in memory differ by {apart:.2g} "
            "(images go from -1 to 1): this machine computes them in two ways."
        )
    sheet = SampleGrid(run.facts).sheet(run.model)
    run.folder.disk.replace(run.path / "samples" / "final.png", grid.png(sheet))
    console.say(f"Samples from the checkpoint on disk: {run.path / 'samples' / 'final.png'}")


def states(*models: nn.Module) -> list[list[torch.Tensor]]:
    """The tensors of models, on the CPU, in order of their names."""
    return [[v.cpu() for _, v in sorted(model.state_dict().items())] for model in models]
