"""What is minimised: a named sum of losses, and in which turns.

    total_b = sum_k weight_k * term_k,b        per example b; the trainer averages over the examples

An objective is handed a model and a batch and answers with a `Loss`: every term is kept per
example and by name (nats where it is a likelihood), so that a sum never hides its parts. It owns
what is needed to compute the loss and nothing else has (a teacher, a critic, a running statistic):
it is a module, its parameters that require a gradient are trained with the model's, and its state
is saved with the run.

A gradient step is made of one or more *phases*. Nearly every objective has one. Adversarial
training has two (critic, then generator), and the trainer takes a step of its own optimizer for
each, in order. The trainer knows nothing else about the objective.

An objective that can say more about unseen data than its training loss (the loss at fixed noise
levels, with fixed noise) is also a `Judge`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..core.noise import Noise


@dataclass(frozen=True, slots=True)
class Loss:
    """Named terms per example and the weights that make them one number.

    terms   {name: (B,)}; a term without a weight is reported and not trained
    weights {name: float}; each must name a term
    notes   {name: tensor}, detached means over the batch of any shape for the diagnosis in words
            (for instance "kl_per_unit" (D,), in nats)
    """

    terms: Mapping[str, Tensor]
    weights: Mapping[str, float]
    notes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A weight without a term, or none at all, is a programming error."""
        if not self.weights or not self.weights.keys() <= self.terms.keys():
            raise ValueError(f"weights {sorted(self.weights)} do not match the terms {sorted(self.terms)}")

    @property
    def total(self) -> Tensor:
        """(B,): the weighted sum, the quantity that is minimised."""
        parts = [
            self.terms[name] if weight == 1.0 else weight * self.terms[name]
            for name, weight in self.weights.items()
        ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


# forward(model, batch, *, noise, seen) -> Loss; a phase may put another function in its place
LossOf: TypeAlias = Callable[..., Loss]


@dataclass(frozen=True, slots=True)
class Phase:
    """One turn of a gradient step: what it minimises, and the modules whose parameters it moves.

    name     unique within the objective; keys the optimizer's state in a checkpoint
    loss     loss(model, batch, *, noise, seen) -> Loss
    modules  their parameters that require a gradient are trained by this phase's own optimizer
    """

    name: str
    loss: LossOf
    modules: tuple[nn.Module, ...]


class Objective(nn.Module, ABC):
    """What to minimise on a model; see the module for the terms."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Any, *, noise: Noise, seen: int) -> Loss:
        """The loss of a batch (`Batch` of data/loader.py).

        noise: the only source of randomness, one draw per row; seen: examples seen in this stage
        before this step (for warm-ups, which must depend on nothing else).
        """

    def open(self, model: nn.Module, target: int) -> None:
        """Called before a stage steps, on the model as it stands, with the examples planned (0: unknown).

        What an objective keeps of the model (a teacher) is made here and saved with its state; a resumed
        stage is opened first and then given that state.
        """

    def phases(self, model: nn.Module, trained: nn.Module) -> tuple[Phase, ...]:
        """One phase over the trained part of the model and the objective's own parameters.

        model: what forward is given; trained: the part of it this stage trains (often all of it).
        """
        return (Phase("main", self.forward, (trained, self)),)

    def sums(self, model: nn.Module) -> tuple[Tensor, ...]:
        """What processes added up during a step and after_step needs summed over all of them, in place."""
        return ()

    def after_step(self, model: nn.Module, seen: int) -> None:
        """Called after each update with the examples seen by then (a moving target, a restart)."""


class Judge(ABC):
    """An objective that can judge unseen examples at fixed difficulty, for a smooth curve.

    decides: whether a lower value also means a better model, so that a stage may end at an earlier state
    that had it. A denoising loss does not decide: it is best long before the samples are.
    settled: whether what is learned from stands still. Where the model itself makes the target a rise of the
    loss says nothing: easy answers, all alike, would have the least.
    """

    decides: bool = True
    settled: bool = True

    @abstractmethod
    def judge(self, model: nn.Module, batch: Any, *, noise: Noise) -> Mapping[str, Tensor]:
        """Values per example, {name: (B,)}, of which "loss" (smaller is better) ranks checkpoints.

        Denoising gives, besides "loss", one value per fixed noise level, for instance
        "loss_at_log_snr_-4". Called without gradients; noise is the same at each call.
        """
