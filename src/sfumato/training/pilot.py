"""A few trial steps before a stage: how fast is it, in which way of computing, does it fit?

The steps are real ones and are undone: every tensor is put back from a copy, and since randomness is
a function of position nothing else has to be. They answer three questions by measurement: which
execution (float32 or bfloat16, memory layout) is fastest here, how many examples fit into a budget
of hours, and what micro-batch fits into memory. A candidate replaces the plain one only if it is
clearly faster, so that noise in the clock does not decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from .execution import Execution
from .stagerun import StageRun
from .state import Progress

# a candidate must be this much faster than the plain way
MARGIN = 1.05
# seconds of timed steps for each candidate, at least two steps
SECONDS = 1.0


@dataclass(frozen=True)
class Trial:
    """What trial steps showed: examples per second and the micro-batch that fitted (0: any)."""

    execution: Execution
    speed: float
    micro: int


def try_steps(
    run: StageRun,
    progress: Progress,
    ids: Tensor,
    poll: Callable[[], None],
    *,
    seconds: float = SECONDS,
) -> Trial:
    """Time steps on the examples `ids` and undo them. The first one, which warms up, is not counted."""
    device = run.world.device
    kept = {file: {n: t.clone() for n, t in part.items()} for file, part in run.tensors().items()}
    trial = deepcopy(progress)
    rate = progress.rate_scale * run.stage.rate.at(run.stage.batch / 2, 1e9)
    try:
        run.step(trial, ids, rate, poll, lambda text: None)
        _settle(device)
        count, start = 0, time.perf_counter()
        while count < 2 or run.world.agree(time.perf_counter() - start) < seconds:
            poll()
            run.step(trial, ids, rate, poll, lambda text: None)
            run.average(run.stage.batch)
            _settle(device)
            count += 1
        elapsed = run.world.agree(time.perf_counter() - start)
    finally:
        with torch.no_grad():
            for file, part in run.tensors().items():
                for name, tensor in part.items():
                    tensor.copy_(kept[file][name])
    return Trial(run.execution, count * run.stage.batch / elapsed, trial.micro)


def fastest(trials: Sequence[Trial]) -> Trial:
    """The first (plain) trial unless another is clearly faster."""
    best = max(trials, key=lambda trial: trial.speed)
    return best if best.speed > MARGIN * trials[0].speed else trials[0]


def candidates(device: torch.device, axes: int) -> list[Execution]:
    """Ways to compute worth trying on a device, the plain one first. axes: of the images (2: H, W)."""
    bf16 = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported())
    layouts = (False, True) if axes in (2, 3) else (False,)
    return [
        Execution(bf16=b, channels_last=c) for b in ((False, True) if bf16 else (False,)) for c in layouts
    ]


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
