"""What of an opened run its helpers read: they plan and guide its sampling, and it calls them.

The class itself is app/run.Run; this is its face towards the files it imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..data.facts import Facts
from ..models.density import Plan
from ..models.generator import Generator
from ..models.given import Given
from ..models.trace import LatentVariableModel
from ..training.rundir import RunDir
from ..training.stage import Recipe
from .rows import Images
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

    def latent(self) -> tuple[Generator, LatentVariableModel]:
        """The generator that owns a small latent z, and its model; UsageError where there is none."""
        ...

    def images(self, x: Tensor) -> Images:
        """Model values (n, C, *space) as images in the depth of the training data."""
        ...
