"""A recipe for training: a model and the stages that make it.

    Stage   minimises an objective by gradient steps
    Fit     computes a part in closed form from encoded data, for instance a mixture over a VAE's
            latents (ex-post density estimation, Ghosh et al. 2020)
    Recipe  model + stages, in order

The parts of a model are named by module paths ("conditioner.first.codec"; "" is the whole). All
parameters outside the trained part keep their bits during a stage and their modules are in
evaluation mode. When a gradient stage ends, the chosen average of its weights becomes the weights,
and later stages build on it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from torch import nn

from ..core.errors import UsageError, did_you_mean
from ..objectives.objective import Objective
from .rates import Cosine, Rate

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MOST_BATCH = 1 << 20  # more examples than any published step; a slip of the keyboard beyond


@dataclass(frozen=True)
class Stage:
    """A stage of gradient steps.

    name       lower-case words joined by "-"; names checkpoints and metrics
    objective  what is minimised: objective(model.get_submodule(on), batch, noise=..., seen=...)
    on         path of the sub-module handed to the objective
    train      path, from `on`, of the part whose parameters are trained
    rate       learning rate over the stage
    batch      examples in one step, over all processes and micro-batches
    share      part of the run's budget, relative to the other stages
    epochs     most passes over the data, whatever the budget (0: no limit); of a budget by hours
               later stages get what is left
    lengths    relative lengths of the averages that are kept (ema.py); the first is shown meanwhile
    clip       largest norm of the gradient; longer ones are scaled down to it
    betas      decay of AdamW's two moments;  decay: its weight decay
    """

    name: str
    objective: Objective
    on: str = ""
    train: str = ""
    rate: Rate = field(default_factory=Cosine)
    batch: int = 128
    share: float = 1.0
    epochs: float = 0.0
    lengths: tuple[float, ...] = (0.10, 0.05)
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values no training can have, naming them."""
        _check_name(self.name)
        legal = {
            "batch": 1 <= self.batch <= MOST_BATCH,
            "share": self.share > 0 and math.isfinite(self.share),
            "epochs": self.epochs >= 0 and math.isfinite(self.epochs),
            "clip": self.clip > 0,
            "decay": self.decay >= 0,
            "lengths": len(self.lengths) > 0 and all(0 < length < 0.28 for length in self.lengths),
            "betas": len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
        }
        for key, fits in legal.items():
            if not fits:
                raise UsageError(
                    f"{key} = {getattr(self, key)} is no legal value",
                    where=f"stage '{self.name}'",
                    remedy=f"Leave out what sets stages.{self.name}.{key}, or give a value as in the recipe.",
                )

    def most(self, examples: int, data: int) -> int:
        """The examples of the stage on so many data: what the budget gives, at most `epochs` passes."""
        return min(examples, max(1, round(self.epochs * data))) if self.epochs else examples

    def module(self, model: nn.Module) -> nn.Module:
        """The sub-module the objective is given."""
        return model.get_submodule(self.on)

    def trained(self, model: nn.Module) -> nn.Module:
        """The sub-module whose parameters move."""
        return self.module(model).get_submodule(self.train)


@dataclass(frozen=True)
class Fit:
    """A closed-form stage: model.get_submodule(on).fit(codes, labels or None, seed=...).

    codes     encode(x, noise=...) by the codec at `through` of up to `examples` training examples
    name, on  as in Stage
    """

    name: str
    on: str
    through: str
    examples: int = 20_000

    def __post_init__(self) -> None:
        """Refuse a name or a count that cannot be."""
        _check_name(self.name)
        if self.examples < 1:
            raise UsageError(
                f"examples = {self.examples} is no legal value",
                where=f"stage '{self.name}'",
                remedy="Give 1 or more.",
            )


@dataclass(frozen=True)
class Recipe:
    """A model and the stages that train it, in order; shares are made to sum to one."""

    model: nn.Module
    stages: tuple[Stage | Fit, ...]

    def __post_init__(self) -> None:
        """Stage names are unique and their paths exist in the model."""
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise UsageError(
                f"a recipe has stages with different names, not {names}",
                remedy="Give each a name of its own.",
            )
        known = {name for name, _ in self.model.named_modules()}
        for stage in self.stages:
            second = stage.through if isinstance(stage, Fit) else f"{stage.on}.{stage.train}".strip(".")
            for path in (stage.on, second):
                if path not in known:
                    raise UsageError(
                        f"the model has no part '{path}'",
                        where=f"stage '{stage.name}'",
                        remedy=did_you_mean(path, known - {""}),
                    )

    def shares(self, index: int) -> list[float]:
        """Shares of the gradient stages from `index` on, as fractions of the whole run."""
        total = sum(stage.share for stage in self.stages if isinstance(stage, Stage))
        return [stage.share / total for stage in self.stages[index:] if isinstance(stage, Stage)]


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no name for a stage", remedy="Use lower-case words joined by '-'.")
