"""Does a training fit into memory, and how many examples at a time? Asked before there is anything to lose.

    held      4 bytes a number: the model; of what a stage trains also gradient, two moments, averages
    copied    at a save, and while ways of computing are tried: all of it again but the gradient
kept      what objectives have of their own: a critic, which is trained too, or a teacher
    waiting   for the backward pass: a + b m for a micro-batch of m, counted on a few real examples

Held and copied are counted on a model without weights (its parameters are on the `meta` device), so that one
which is too large is refused and not built. Where the batch does not fit beside them the micro-batch is the
largest of batch, batch/2, batch/4 ... that does: the batch, and with it what is learned, stays the same.
Stages that are done ask for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core import memory
from ..core.errors import OutOfMemoryError, SfumatoError
from ..core.launch import neighbours
from ..core.lazy import build
from ..core.memory import gigabytes
from ..data.dataset import Dataset
from ..data.facts import Facts
from ..objectives.distiller import Distiller
from ..training.execution import Execution
from ..training.rundir import RunDir
from ..training.stage import Recipe, Stage
from ..training.stagerun import out_of_memory
from ..training.world import World
from .compose import build_recipe, compose, describe, recipe_names
from .estimate import FEW, Steps

MARGIN = 1.25  # gradients of the maps and what kernels work in, beside what waits
LEAST_WIDTH = 8
STUDENT = "Distil a smaller teacher, or close other programs."
REMEDY = "Use a smaller network ({0}), smaller images (--size), or close other programs."


class Weightless(TorchFunctionMode):
    """While a model is built under it, what layers allocate for weights has a shape and no memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            return func(*args, **{**kwargs, "device": "meta"})
        name = getattr(func, "__name__", "")
        changes = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if changes and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]  # to initialise nothing takes no time either
        return func(*args, **kwargs)


def held(recipe: Recipe, stage: Stage) -> tuple[int, int]:
    """Bytes (held, copied) of a stage; see the module. Of teachers those count that are there already."""
    whole = _numbers(recipe.model) + _numbers(stage.objective)
    beside = (s.objective for s in recipe.stages if isinstance(s, Stage) and s is not stage)
    moved = sum(p.numel() for p in stage.trained(recipe.model).parameters())
    moved += sum(p.numel() for p in stage.objective.parameters() if p.requires_grad)
    kept = 2 + len(stage.lengths)
    copied = whole + moved * kept
    return 4 * (copied + moved + sum(map(_numbers, beside))), 4 * copied


def _numbers(module: nn.Module) -> int:
    return sum(t.numel() for part in (module.parameters(), module.buffers()) for t in part)


def finished(folder: RunDir, fresh: bool) -> frozenset[str]:
    """The stages of a run that are done; of one that starts again, or has not begun, none."""
    begun = not fresh and bool(folder.names())
    return frozenset(folder.read("run.json").get("stages_done", ()) if begun else ())


def is_done(tree: Any, done: Container[str]) -> bool:
    """Whether every stage of a postponed recipe is among those that are done."""
    return all(stage.arguments.get("name") in done for stage in tree.arguments["stages"])


def least(tree: Any, done: Container[str] = ()) -> int | None:
    """Bytes without which the stages of a postponed recipe that are not done cannot be trained.

    None where it cannot be built.
    """
    if is_done(tree, done):
        return 0
    try:
        with torch.random.fork_rng([]), Weightless():
            recipe = build(tree)
            stages = [s for s in recipe.stages if isinstance(s, Stage) and s.name not in done]
            for stage in stages:
                if isinstance(stage.objective, Distiller):
                    stage.objective.open(stage.module(recipe.model), 0)
        return max((sum(held(recipe, s)) for s in stages), default=0)
    except Exception:  # the real one will say what is wrong
        return None


def check_weights(
    name: str,
    tree: Any,
    facts: Facts,
    settings: Mapping[str, Any],
    world: World,
    done: Container[str] = (),
) -> None:
    """OutOfMemoryError if the weights and what training keeps for each do not fit; before they are built.

    name: a recipe's, or else a student's method, whose network is as wide as its teacher's.
    """
    room, needed = _room(world, swap=True), least(tree, done)
    if room is None or needed is None or needed <= room:
        return
    raise OutOfMemoryError(
        f"needs {gigabytes(needed)} for weights, optimizer, averages and a copy to save them; "
        f"{gigabytes(room)} free",
        where=f"recipe {name}",
        remedy=REMEDY.format(_narrower(name, facts, settings, room)) if name in recipe_names() else STUDENT,
    )


def _narrower(name: str, facts: Facts, settings: Mapping[str, Any], room: int) -> str:
    """The setting of half the width, or of half of that ..., that fits."""
    dials = {dial["name"]: dial["default"] for dial in describe(name)["dials"]}
    width = settings.get("width", dials.get("width"))
    while isinstance(width, int) and width >= 2 * LEAST_WIDTH:
        width //= 2
        try:
            needed = least(compose(name, facts, {**settings, "width": width}))
        except SfumatoError:
            continue
        if needed is not None and needed <= room:
            return f"--set width={width} fits"
    return "for example --set width=..." if "width" in dials else "see its dials: sfumato recipes"


def micro_batches(
    data: Dataset,
    name: str,
    tree: Any,
    world: World,
    execution: Execution | None,
    done: Container[str] = (),
) -> dict[str, int]:
    """{stage: examples at a time} of the stages to come whose whole batch does not fit into memory.

    tree: the postponed recipe, which is built once more and dropped.
    OutOfMemoryError where a single example does not fit.
    """
    room = _room(world)
    if room is None or is_done(tree, done):
        return {}
    try:
        with torch.random.fork_rng([world.device] if world.device.type == "cuda" else []):
            recipe = build_recipe(name, tree)
            steps = Steps(data, recipe, {}, world.device, execution or Execution())
            return dict(_fitted(steps, [s for s in steps.stages if s.name not in done], room, world.size))
    except SfumatoError:
        raise
    except Exception as error:  # it comes before work that it must not stop
        if out_of_memory(error):
            raise OutOfMemoryError(
                f"a single example does not fit into the {gigabytes(room)} that are free",
                where=f"recipe {name}",
                remedy=REMEDY.format("--set width=...") if name in recipe_names() else STUDENT,
            ) from None
        return {}


def _fitted(steps: Steps, stages: Sequence[Stage], room: int, processes: int) -> Iterator[tuple[str, int]]:
    """(stage, examples at a time) of those of the stages whose batch does not fit."""
    for stage in stages:
        steps.turn_to(stage)
        rows = -(-stage.batch // processes)
        micro = most(steps.waiting, room - sum(held(steps.recipe, stage)), rows)
        if micro < rows:
            yield stage.name, micro


def most(waiting: Callable[[int, int], int], room: int, rows: int) -> int:
    """The largest of rows, rows/2, rows/4 ... (at least 1) for which waiting(1 ... m) fits into the room.

    waiting(count, limit): the bytes that wait for the backward pass; MemoryError above the limit.
    """
    limit = max(0, room)
    fewer = more = 0
    few, many = FEW
    try:
        fewer = waiting(few, limit)
        more = waiting(many, limit)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    if not fewer:
        fewer, few = waiting(1, limit), 1
    each = (more - fewer) / (many - few) if more else fewer / few
    micro = rows
    while micro > 1 and MARGIN * (fewer + each * (micro - few)) > room:
        micro //= 2
    return micro


def told(found: Mapping[str, int], stages: Mapping[str, int], world: World) -> list[str]:
    """One sentence that says the micro-batches, where there are any; stages: their batches by name."""
    if not found:
        return []
    parts = ", ".join(f"{micro} of {stages.get(name, micro)} ({name})" for name, micro in found.items())
    free = gigabytes(_room(world) or 0)
    return [
        f"Examples at a time to keep within the {free} of free memory: {parts}; the batch stays the same."
    ]


def _room(world: World, *, swap: bool = False) -> int | None:
    """What this process may take of the free memory; processes on one machine share what its CPU has."""
    free = memory.free(world.device, swap=swap)
    return free // neighbours(world.size) if free is not None and world.device.type == "cpu" else free
