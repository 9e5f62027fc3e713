"""Reading numbers from a training that does not wait for its readers.

On an accelerator, asking for the loss stops the queue of kernels until it is empty. So values are
added up where they are made, copied out in the background, and read one interval later, when they
have long arrived. On a CPU they are read at once.
"""

from __future__ import annotations

import math
import time
from collections import deque

import torch
from torch import Tensor

from .stagerun import Outcome


class Meter:
    """Sums of an interval of steps; `close` hands out the means of an interval, perhaps a former one."""

    def __init__(self, lagging: bool) -> None:
        self.lagging = lagging
        self._names: list[str] = []
        self._sums: Tensor | None = None
        self._streak: Tensor | None = None
        self._notes: dict[str, Tensor] = {}
        self._waiting: tuple[int, list[str], Tensor, object] | None = None

    def add(self, outcome: Outcome) -> None:
        """Take in a step. Steps left out count in "skipped" and in no mean; a NaN counts in no mean."""
        self._names = [*outcome.terms, "norm"]
        values = torch.stack([*(v.double() for v in outcome.terms.values()), outcome.norm.double()])
        good = 1.0 - outcome.bad.double()
        counts = (~values.isnan()).double() * good
        sums = torch.nan_to_num(values, 0.0, 0.0, 0.0) * good
        row = torch.cat([sums, counts, (1.0 - good)[None]])
        self._sums = row if self._sums is None else self._sums + row
        streak = outcome.bad if self._streak is None else (self._streak + 1.0) * outcome.bad
        self._streak = streak
        self._notes = outcome.notes

    def streak(self) -> int:
        """Steps left out in a row; waits for them."""
        return 0 if self._streak is None else int(self._streak)

    def close(self, seen: int) -> tuple[int, dict[str, float]] | None:
        """End an interval at `seen`: (seen, means) of this one, or of the former one when lagging."""
        if self._sums is None:
            return None
        row, self._sums = self._sums, None
        event = None
        if self.lagging and row.is_cuda:
            row = row.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        interval = (seen, self._names, row, event)
        if not self.lagging:
            return _read(interval)
        former, self._waiting = self._waiting, interval
        return None if former is None else _read(former)

    def notes(self) -> dict[str, Tensor]:
        """The objective's notes of the latest step, on the CPU."""
        return {name: note.float().cpu() for name, note in self._notes.items()}


def _read(interval: tuple[int, list[str], Tensor, object]) -> tuple[int, dict[str, float]]:
    seen, names, row, event = interval
    if isinstance(event, torch.cuda.Event):
        event.synchronize()
    *values, skipped = row.tolist()
    sums, counts = values[: len(names)], values[len(names) :]
    means = {name: total / n for name, total, n in zip(names, sums, counts, strict=True) if n}
    return seen, {k: v for k, v in means.items() if math.isfinite(v)} | {"skipped": skipped}


class Clock:
    """Speed in examples per second over the last half minute or so, and the share of waiting."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, float]] = deque(maxlen=256)
        self._start = time.monotonic()
        self._seen, self._waited = 0, 0.0
        self._latest = 0.0, 0.0

    def tick(self, examples: int, waited: float) -> None:
        """A step ended."""
        self._seen += examples
        self._waited += waited
        now = time.monotonic()
        self._marks.append((now, self._seen, self._waited))
        while len(self._marks) > 2 and now - self._marks[0][0] > 30:
            self._marks.popleft()

    def pause(self) -> None:
        """Something else than training took time: forget the marks."""
        self._marks.clear()

    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._start

    def speed(self) -> float:
        """Examples per second; 0 before it is known."""
        return self._rate()[0]

    def data_wait(self) -> float:
        """Fraction of the time spent waiting for data."""
        return self._rate()[1]

    def _rate(self) -> tuple[float, float]:
        if len(self._marks) > 1:
            (t0, seen0, wait0), (t1, seen1, wait1) = self._marks[0], self._marks[-1]
            if t1 > t0:
                self._latest = (seen1 - seen0) / (t1 - t0), (wait1 - wait0) / (t1 - t0)
        return self._latest
