"""Looking at a model while it trains, without touching it.

A probe is called at step 0, within the first minutes, at regular positions and at the end of a
stage, in the process that writes. It may compute anything with the model and must draw its
randomness from seeds of its own, so training goes on exactly as if nobody had looked: the trainer
puts weights, modes and the global generator back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import nn

from .rundir import RunDir


@dataclass(frozen=True)
class Moment:
    """Where a training stands when a probe is called.

    model     the whole model, in evaluation mode, with the raw weights
    averaged  `with moment.averaged():` the model computes with the averaged weights
    on        path of the sub-module this stage works on ("" for the whole model)
    seen      examples of this stage so far, of `target`; total: of all stages
    poll      call it between pieces of long work: it raises when the user asked to stop
    """

    model: nn.Module
    averaged: Callable[[], AbstractContextManager[None]]
    run: RunDir
    stage: str
    on: str
    seen: int
    target: int
    total: int
    poll: Callable[[], None]


@dataclass(frozen=True)
class Finding:
    """What a probe saw: numbers for metrics.jsonl, and sentences for the user."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Probe(ABC):
    """Looks at a model; see the module for when."""

    @abstractmethod
    def look(self, moment: Moment) -> Finding:
        """Look, write what it likes into the run's samples/ folder, and tell."""
