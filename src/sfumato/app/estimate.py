"""What a training on given data will take: memory by counting, time by a few real steps.

    memory   weights, gradient, two moments and two averages: 6 numbers of 4 bytes a parameter; besides, for
             every example of a micro-batch, the tensors that wait for the backward pass, each storage once
    time     forward and backward passes of the recipe's largest stage on the data's own first examples

Nothing is written and no weights are kept. The trainer measures again, in every way of computing, before it
decides; this answers "how long?" before anyone decides to train.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.noise import Noise
from ..data.dataset import Dataset
from ..data.sources import open_data
from ..training.execution import Execution
from ..training.stage import Recipe, Stage
from .compose import build_recipe, compose

NUMBERS = 6  # a parameter's weight, gradient, two moments of AdamW, two averages
FORECAST = ("vae", "diffusevae")
STEPS, SECONDS = 3, 2.0  # of timing, whichever ends first


@dataclass(frozen=True)
class Estimate:
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
        told = f"{passes:,.0f}" if passes >= 10 else f"{passes:.1f}"
        return (
            f"Estimate for {self.recipe}: {self.parameters / 1e6:.2f} M parameters, about "
            f"{self.bytes / 2**20:,.0f} MB beside the libraries for a batch of {self.batch}, about "
            f"{self.speed:,.0f} examples/s here: half an hour is {told} passes over the data."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def forecast(data: str, options: Mapping[str, Any]) -> list[Estimate]:
    """What training on the data takes by the recipes most begin with."""
    chosen = {key: value for key, value in options.items() if value is not None}
    found = open_data(data, **chosen | {"quarantine": True})
    return [estimate(found, recipe) for recipe in FORECAST]


def estimate(
    data: Dataset,
    recipe: str = "diffusevae",
    settings: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
) -> Estimate:
    """Time and count a few steps of the stage of a recipe that takes the largest share of a run."""
    device = device or torch.device("cpu")
    built: Recipe = build_recipe(recipe, compose(recipe, data.facts, settings or {}))
    stages = [stage for stage in built.stages if isinstance(stage, Stage)]
    stage = max(stages, key=lambda stage: stage.share)
    model = built.model.to(device).train()
    fast = _fast(device)
    fast.prepare(stage.trained(model))
    count = min(stage.batch, len(data))
    batch = data.batch(list(range(count)), device)
    held: dict[int, int] = {}

    def step(seed: int) -> None:
        with fast.context(device):
            loss = stage.objective(
                stage.module(model), batch, noise=Noise(range(seed, seed + count), device=device), seen=0
            )
        loss.total.mean().backward()

    with torch.autograd.graph.saved_tensors_hooks(lambda t: _held(t, held), lambda t: t):
        step(0)
    weights = {p.data_ptr() for p in model.parameters()}
    waiting = sum(size for at, size in held.items() if at not in weights)
    seconds = _timed(step, device)
    parameters = sum(p.numel() for p in stage.trained(model).parameters())
    return Estimate(recipe, parameters, count, 4 * NUMBERS * parameters + waiting, count / seconds, len(data))


def _fast(device: torch.device) -> Execution:
    """bfloat16 where the hardware has it, in the layout that suits convolutions."""
    if device.type == "cuda":
        return Execution(bf16=torch.cuda.is_bf16_supported(), channels_last=True)
    return Execution(bf16=bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()), channels_last=True)


def _held(tensor: Tensor, held: dict[int, int]) -> Tensor:
    storage = tensor.untyped_storage()
    held[storage.data_ptr()] = storage.nbytes()
    return tensor


def _timed(step: Callable[[int], None], device: torch.device) -> float:
    """Seconds of the fastest of a few steps."""
    times: list[float] = []
    while len(times) < STEPS and sum(times) < SECONDS:
        start = time.perf_counter()
        step(len(times) + 1)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
