"""What a training tells whoever listens: plain records, one method to receive them.

The command line draws a progress bar from them, a notebook a plot, a test a list. Every event is a
frozen dataclass of numbers and words; `as_json` gives it as a dictionary with its kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; see the subclasses."""

    def as_json(self) -> dict[str, Any]:
        """The event as {"event": kind, ...its fields}."""
        return {"event": type(self).__name__.lower()} | asdict(self)


@dataclass(frozen=True, slots=True)
class StageStarted(Event):
    """A stage begins, or goes on after a resume: number `index` (from 0) of `count`.

    seen of target examples (0 of 0 for a closed-form stage); parameters: how many are trained.
    """

    stage: str
    index: int
    count: int
    seen: int = 0
    target: int = 0
    batch: int = 0
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class Stepped(Event):
    """A step ended. Loss and terms are the latest that were read (no step waits for them).

    speed in examples per second; remaining: seconds to the end of the stage (nan at the start);
    data_wait: fraction of the time spent waiting for data; lag: |EMA - raw| / |raw|.
    """

    stage: str
    seen: int
    target: int
    loss: float
    rate: float
    speed: float
    remaining: float
    data_wait: float
    lag: float
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldOut(Event):
    """The averaged weights were judged on held-out examples; best: no earlier value was lower."""

    stage: str
    seen: int
    values: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class Saved(Event):
    """A checkpoint is on disk."""

    name: str
    stage: str
    seen: int
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A sentence the user should read; warning: something to act on."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class StageEnded(Event):
    """A stage is done; length: of the average that became the weights (0: the raw weights)."""

    stage: str
    seen: int
    seconds: float
    length: float = 0.0


class Reporter(ABC):
    """Receives events, in order, in the process that writes."""

    @abstractmethod
    def report(self, event: Event) -> None:
        """Take in one event; must not raise and should return at once."""


class Silent(Reporter):
    """Listens to nothing."""

    def report(self, event: Event) -> None:
        """Do nothing."""


class Recorder(Reporter):
    """Keeps every event in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        """Append the event."""
        self.events.append(event)
