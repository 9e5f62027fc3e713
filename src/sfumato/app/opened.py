"""What of an opened run its helpers read: they plan and guide its sampling, and it calls them.

The class itself is app/run.Run; this is its face towards the files it imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..data.facts import Facts
from ..models.density import Plan
from ..models.generator import Generator
from ..models.given import Given
from ..training.rundir import RunDir
from ..training.stage import Recipe
from .weights import Weights


class Opened(Protocol):
    """A run folder with its model in memory."""

    path: Path
    folder: RunDir
    about: dict[str, Any]
    facts: Facts
    recipe: Recipe
    device: torch.device
    weights: Weights
    model: nn.Module

    def __init__(self, path: Path, device: str | None = None) -> None: ...

    @property
    def generator(self) -> Generator:
        """The model as something that can be sampled; UsageError where it is not."""
        ...

    def given(self, count: int, class_name: str | None, plan: Plan | None = None) -> Given:
        """The class asked for, as labels."""
        ...
