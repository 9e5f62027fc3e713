"""How much to train: so many examples, or so many hours, shared out over the stages.

Everything in training is a function of the number of examples seen, so a budget in hours is turned
into examples once, at the start of each stage: examples = speed * time, where speed was measured by
a few pilot steps whose effect is undone. That number is written into the checkpoint. From then on
the stage is the same whatever the clock does, and a resumed run finishes the same stage. A stage
that took longer than planned takes from the later ones, because the time that remains is shared out
anew at each start:

    hours of stage s = (hours - elapsed) * share_s / sum of the shares from s on
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

# part of the time kept back for probes, saves and held-out losses
RESERVE = 0.08


class Budget(ABC):
    """What a run may spend."""

    #: whether the speed of training must be known to plan a stage
    timed: bool

    @abstractmethod
    def examples(self, shares: Sequence[float], elapsed: float, speed: float) -> int:
        """Examples of the first of the stages that remain.

        shares: of the remaining gradient stages; elapsed: seconds used so far; speed: examples per
        second, measured for the stage (0 where `timed` is False).
        """


MOST = 10**15  # examples: beyond any training, and whole as a float


@dataclass(frozen=True)
class Examples(Budget):
    """So many examples over all stages; a stage gets its share of the whole."""

    count: int
    timed = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a budget is at least one example, not {self.count}")
        if self.count > MOST:
            raise ValueError(f"a budget is at most {MOST:,} examples")

    def examples(self, shares: Sequence[float], elapsed: float, speed: float) -> int:
        """count * share (shares are fractions of one over the whole run)."""
        return max(1, round(self.count * shares[0]))


@dataclass(frozen=True)
class Hours(Budget):
    """So many hours over all stages, from the start of the first run to the end of the last."""

    hours: float
    timed = True

    def __post_init__(self) -> None:
        if not (self.hours > 0 and math.isfinite(self.hours)):
            raise ValueError(f"a budget is a positive number of hours, not {self.hours}")

    def examples(self, shares: Sequence[float], elapsed: float, speed: float) -> int:
        """The stage's part of the time that remains, times the speed; at least one example."""
        remains = max(0.0, self.hours * 3600 - elapsed) * (1 - RESERVE)
        return max(1, round(remains * shares[0] / sum(shares) * speed))
