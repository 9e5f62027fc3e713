"""How a training is looked after: nothing here changes what is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .execution import Execution


@dataclass(frozen=True)
class Settings:
    """Intervals, and how steps are computed.

    save_minutes    between checkpoints; the first comes after `first_minutes`
    save_examples   besides, every so many examples (0: by time only)
    looks           held-out losses and probes in each stage, evenly spaced
    judged          held-out examples that are judged
    lines           most lines of metrics.jsonl for each stage
    micro           micro-batch per process to start with (0: the whole batch)
    fits            {stage: the largest micro-batch that memory allows}, of stages where it is not the batch
    execution       how to compute; None: the fastest by trial
    """

    save_minutes: float = 5.0
    first_minutes: float = 1.0
    save_examples: int = 0
    looks: int = 10
    judged: int = 512
    lines: int = 250
    micro: int = 0
    execution: Execution | None = None
    fits: Mapping[str, int] = field(default_factory=dict)

    def micro_of(self, stage: str) -> int:
        """The micro-batch that a stage starts with."""
        return min((m for m in (self.micro, self.fits.get(stage, 0)) if m), default=0)
