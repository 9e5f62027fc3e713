"""What a training on given data will take: memory by counting, time by a few real steps.

    memory   weights, gradient, two moments and two averages: 6 numbers of 4 bytes a parameter; besides, for
             every example of a micro-batch, the tensors that wait for the backward pass, each storage once:
             counted at 2 and at 4 examples, and the line through both taken to the batch
    time     forward and backward passes of the recipe's largest stage on the data's own first examples, as
             many of a batch as keep to some room and seconds: photographs in full are not let loose on a
             machine that may not hold a batch of them

Nothing is written, no weights are kept, and where the steps fail the reason takes the place of the numbers.
The trainer measures again, in every way of computing, before it decides; this answers "how long?" before
anyone decides to train.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import SfumatoError
from ..core.memory import free, gigabytes
from ..core.noise import Noise
from ..data.dataset import Dataset
from ..training.execution import Execution
from ..training.stage import Recipe, Stage
from .compose import build_recipe, compose
from .device import best_device

NUMBERS = 6  # a parameter's weight, gradient, two moments of AdamW, two averages
FORECAST = ("vae", "diffusevae")
FEW = (2, 4)  # examples that memory is counted on
ROOM = 1 << 30  # bytes that may wait for the backward pass of a timed step
STEPS, SECONDS = 3, 2.0  # of timing, whichever ends first


@dataclass(frozen=True)
class Forecast:
    """Of one recipe: parameters, bytes at the peak of a step of `batch`, examples per second, data."""

    recipe: str
    parameters: int
    batch: int
    bytes: int
    speed: float
    examples: int

    def line(self) -> str:
        """All in a sentence."""
        passes = self.speed * 1800 / self.examples
        told, speed = (f"{n:,.0f}" if n >= 10 else f"{n:.1f}" for n in (passes, self.speed))
        return (
            f"Estimate for {self.recipe}: {self.parameters / 1e6:.2f} M parameters, about "
            f"{self.bytes / 2**20:,.0f} MB beside the libraries for a batch of {self.batch}, about "
            f"{speed} examples/s here: half an hour is {told} passes over the data."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Unknown:
    """A recipe whose steps fail on the data, and why."""

    recipe: str
    error: str

    def line(self) -> str:
        """All in a sentence."""
        return f"No estimate for {self.recipe}: {self.error}."

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def forecast(
    data: Dataset,
    recipe: str,
    settings: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> Forecast | Unknown:
    """The estimate, or why there is none: it comes before work that it must not stop."""
    try:
        return estimate(data, recipe, settings, device)
    except SfumatoError as error:
        return Unknown(recipe, error.what)
    except Exception as error:  # whatever a step on these data does: too little memory, above all
        first = str(error).strip().partition("\n")[0].rstrip(".")
        return Unknown(recipe, first or type(error).__name__)


def estimate(
    data: Dataset,
    recipe: str = "diffusevae",
    settings: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> Forecast:
    """Time and count a few steps of the stage of a recipe that takes the largest share of a run."""
    device = device or best_device(None)
    least, most = FEW
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        steps = Steps(data, recipe, settings or {}, device)
        batch = min(steps.stage.batch, len(data))
        limit = free(device)
        fewer, more = steps.waiting(least, limit), steps.waiting(most, limit)
        each = (more - fewer) / (most - least)
        seconds, timed = steps.seconds(most), most
        fitting = min(batch, int(most * SECONDS / seconds), int(ROOM / max(each, 1.0)))
        if fitting > most:
            seconds, timed = steps.seconds(fitting), fitting
    waiting = round(fewer + each * (batch - least))
    needed = 4 * NUMBERS * steps.parameters + waiting
    return Forecast(recipe, steps.parameters, batch, needed, timed / seconds, len(data))


class Steps:
    """Forward and backward passes of the largest stage of a recipe, on as many examples as asked for.

    A recipe that is given built (the settings are then not asked) is used up: its parts are frozen in turn.
    """

    def __init__(
        self,
        data: Dataset,
        recipe: str | Recipe,
        settings: Mapping[str, Any],
        device: torch.device,
        way: Execution | None = None,
    ) -> None:
        self.recipe: Recipe = (
            build_recipe(recipe, compose(recipe, data.facts, settings)) if isinstance(recipe, str) else recipe
        )
        self.stages = [stage for stage in self.recipe.stages if isinstance(stage, Stage)]
        self.data, self.device, self.fast = data, device, way or _fast(device)
        self.model = self.recipe.model.to(device).train()
        self._trainable = {id(p) for p in self.model.parameters() if p.requires_grad}
        self.turn_to(max(self.stages, key=lambda stage: stage.share))

    def turn_to(self, stage: Stage) -> None:
        """Take the steps of another stage, as the trainer does: what it does not train is frozen."""
        self.stage = stage
        trained = stage.trained(self.model)
        stage.objective.open(stage.module(self.model), 0)
        stage.objective.to(self.device)
        self.fast.prepare(trained)
        self.fast.prepare(stage.objective)
        inside = {id(p) for p in trained.parameters()}
        for p in self.model.parameters():
            p.grad = None
            p.requires_grad_(id(p) in self._trainable and id(p) in inside)
        self.parameters = sum(p.numel() for p in trained.parameters())

    def step(self, count: int, seed: int = 0) -> None:
        """One pass forward and back."""
        batch = self.data.batch([i % len(self.data) for i in range(count)], self.device)
        noise = Noise(range(seed, seed + count), device=self.device)
        with self.fast.context(self.device):
            loss = self.stage.objective(self.stage.module(self.model), batch, noise=noise, seen=0)
        loss.total.mean().backward()

    def waiting(self, count: int, limit: int | None = None) -> int:
        """The bytes of all that waits for the backward pass beside the weights; MemoryError above a limit."""
        weights = (p for part in (self.model, self.stage.objective) for p in part.parameters())
        held = Held({p.data_ptr() for p in weights}, limit)
        with torch.autograd.graph.saved_tensors_hooks(held, lambda t: t):
            self.step(count)
        return held.total

    def seconds(self, count: int) -> float:
        """The seconds of the fastest of a few steps."""
        times: list[float] = []
        while len(times) < STEPS and sum(times) < SECONDS:
            start = time.perf_counter()
            self.step(count, len(times) + 1)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - start)
        return min(times)


def _fast(device: torch.device) -> Execution:
    """bfloat16 where the hardware has it, in the layout that suits convolutions."""
    if device.type == "cuda":
        return Execution(bf16=torch.cuda.is_bf16_supported(), channels_last=True)
    return Execution(bf16=bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()), channels_last=True)


class Held:
    """The bytes of tensors that wait, each storage once, but for those at some addresses.

    MemoryError above the limit: as long as that can still be said (see core/memory.py).
    """

    def __init__(self, apart: set[int], limit: int | None) -> None:
        self.known, self.limit, self.total = apart, limit, 0

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.known.add(storage.data_ptr())
            self.total += storage.nbytes()
        if self.limit is not None and self.total > self.limit:
            raise MemoryError(f"a few examples take more than the {gigabytes(self.limit)} that are free")
        return tensor
