"""A few trial steps before a stage: how fast is it, in which way of computing, does it fit?

The steps are real ones and are undone: every tensor is put back from a copy, and since randomness is
a function of position nothing else has to be. They answer three questions by measurement: which
execution is fastest here, how many examples fit into a budget of hours, and what micro-batch fits
into memory. Ways of computing are tried one change at a time (layout, compilation, precision, and on a
CPU compilation again, for what bfloat16 does not speed up is more of its time), each kept if it is
clearly faster, so that noise in the clock does not decide; the time it takes to prepare a way is
charged against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .execution import Execution
from .stagerun import StageRun
from .state import Progress

# a change must make training this much faster
MARGIN = 1.05


@dataclass(frozen=True)
class Trial:
    """What trial steps showed.

    speed: examples per second; micro: the micro-batch that fitted (0: the whole batch); ready:
    seconds until the first step was done.
    """

    execution: Execution
    speed: float
    micro: int
    ready: float

    def seconds(self, examples: float) -> float:
        """The time so many examples would take, preparation included."""
        return self.ready + examples / self.speed


def try_steps(
    run: StageRun,
    progress: Progress,
    ids: Tensor,
    poll: Callable[[], None],
    seconds: float,
    ready: float = 0.0,
) -> Trial:
    """Time steps on the examples `ids` for about `seconds` and undo them.

    The first step, which warms up, only counts for `ready`, to which the time spent before is given.
    """
    kept = {file: {n: t.clone() for n, t in part.items()} for file, part in run.tensors().items()}
    trial, device = deepcopy(progress), run.world.device
    rate = run.stage.rate.at(run.stage.batch / 2, 1e9)

    def step() -> None:
        poll()
        run.step(trial, ids, rate, poll, _quiet)
        run.average(run.stage.batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    try:
        start = time.perf_counter()
        step()
        ready += time.perf_counter() - start
        count, start = 0, time.perf_counter()
        while count < 2 or run.world.agree(time.perf_counter() - start) < seconds:
            step()
            count += 1
        elapsed = run.world.agree(time.perf_counter() - start)
    finally:
        with torch.no_grad():
            for file, part in run.tensors().items():
                for name, tensor in part.items():
                    tensor.copy_(kept[file][name])
    return Trial(run.execution, count * run.stage.batch / elapsed, trial.micro, run.world.agree(ready))


def fastest(attempt: Callable[[Execution], Trial], device: torch.device, examples: float) -> list[Trial]:
    """Trials of ways to compute, the best first; `examples`: how many the choice is for (about)."""
    best = attempt(Execution())
    trials = [best]
    bf16 = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported())
    changes = [{"channels_last": True}, {"compiled": True}, *([{"bf16": True}] if bf16 else [])]
    if device.type == "cpu":  # where it costs nothing: what gains little in float32 may gain in bfloat16
        changes.append({"compiled": True})
    for change in changes:
        way = replace(best.execution, **change)
        if any(trial.execution == way for trial in trials):
            continue
        other = attempt(way)
        trials.append(other)
        if other.seconds(examples) * MARGIN < best.seconds(examples):
            best = other
    return [best, *(trial for trial in trials if trial is not best)]


def _quiet(text: str) -> None:
    """What happens in a trial is not told."""
