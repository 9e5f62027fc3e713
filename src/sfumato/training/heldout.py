"""The loss on examples that are not trained on, always the same ones with the same noise.

The training loss of a diffusion model hardly moves while the pictures improve: almost all of its
variance comes from which noise levels were drawn. With the examples and every draw fixed, what
changes from one value to the next is the model alone, so the curve is smooth, small gains can be
seen, and memorising shows as a rise. Judged are the averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..core.noise import Noise, seed_of
from ..data.loader import Dataset
from ..objectives.objective import Judge, Objective
from .draws import seed_networks
from .execution import Execution
from .stagerun import halved, out_of_memory

CHUNK = 64
SEED = 1
WORTH = 20  # training examples to each judged one: judging costs little beside the training itself


class HeldOutLoss:
    """Means over the first `count` held-out examples; the seed of each is a function of its place.

    wanted: how many they were before they were fitted to a short stage.
    """

    def __init__(self, data: Dataset, count: int, device: torch.device) -> None:
        self.data, self.count, self.device = data, min(count, len(data)), device
        self.chunk, self.wanted = CHUNK, self.count

    def within(self, target: int) -> HeldOutLoss:
        """A judge in proportion to a stage of `target` examples: halved till that is WORTH times its own."""
        fitting = HeldOutLoss(self.data, self.count, self.device)
        while fitting.count > CHUNK and target < WORTH * fitting.count:
            fitting.count = max(CHUNK, fitting.count // 2)
        fitting.wanted = self.wanted
        return fitting

    @torch.no_grad()
    def __call__(
        self,
        objective: Objective,
        module: nn.Module,
        execution: Execution,
        seen: int,
        poll: Callable[[], None],
        micro: int = 0,
    ) -> dict[str, float]:
        """{name: mean}, of which "loss" ranks; the module is in evaluation mode and keeps its weights.

        seen: examples of the training so far, for objectives that warm up and are no Judge. micro: no more
        at a time than this (0: CHUNK); half as many, from then on, where memory runs out: OutOfMemoryError
        at one.
        """
        self.chunk = min(self.chunk, micro or self.chunk)
        sums: dict[str, Tensor] = {}
        start = 0
        while start < self.count:
            poll()
            rows = range(start, min(start + self.chunk, self.count))
            try:
                values = self._chunk(objective, module, execution, rows, seen)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                why = str(error).partition("\n")[0]
            else:
                for name, value in values.items():
                    sums[name] = sums.get(name, torch.zeros(())) + value
                start = rows.stop
                continue
            self.chunk = halved(self.chunk, why, _quiet)  # outside the handler, which holds what did not fit
        return {name: float(total) / self.count for name, total in sums.items()}

    def _chunk(
        self, objective: Objective, module: nn.Module, execution: Execution, rows: range, seen: int
    ) -> dict[str, Tensor]:
        """Sums over some of the examples."""
        batch = self.data.batch(list(rows), self.device)
        noise = Noise.keyed("held-out", SEED, at=rows, device=self.device)
        seed_networks(seed_of("held-out", SEED, rows.start), self.device)
        with execution.context(self.device):
            values = self._values(objective, module, batch, noise, seen)
        return {name: value.double().sum().cpu() for name, value in values.items()}

    @staticmethod
    def _values(
        objective: Objective, module: nn.Module, batch: object, noise: Noise, seen: int
    ) -> Mapping[str, Tensor]:
        if isinstance(objective, Judge):
            return objective.judge(module, batch, noise=noise)
        loss = objective(module, batch, noise=noise, seen=seen)
        return {**loss.terms, "loss": loss.total}


def _quiet(text: str) -> None:
    """Fewer at a time change the judgement by rounding at most: nothing to tell."""
