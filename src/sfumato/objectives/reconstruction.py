"""The loss of an autoencoder: the image from its code, and what the code costs.

    loss = -log p(x given h(x~)) + sum_k weight_k penalty_k(h(x~)),      x~ a corruption of x

In nats; under a Gaussian of variance 1/2 the first term is the squared error |x - y|^2 and a constant.
Without corruption and penalties it is the plain autoencoder; models/autoencoder.py lists the kinds.
Reported besides are the mean squared error of a value and the share of units that are not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from torch import Tensor, nn

from ..core.noise import Noise
from ..core.shapes import event_mean
from ..data.dataset import Batch
from ..models.autoencoder import Autoencoder
from .corruption import Clean, Corruption
from .objective import Judge, Loss, Objective
from .penalties import Penalty


@final
class ReconstructionLoss(Objective, Judge):
    """-log p(x given the code of a corrupted x) of an `Autoencoder`, and penalties on the code."""

    def __init__(self, corruption: Corruption | None = None, penalties: tuple[Penalty, ...] = ()) -> None:
        super().__init__()
        self.corruption = corruption if corruption is not None else Clean()
        self.penalties = nn.ModuleList(penalties)
        self.target = 0

    def open(self, model: nn.Module, target: int) -> None:
        """The examples planned, from which the units are told how far training is."""
        self.target = target

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `reconstruction` and one for each penalty; reported: `mse`, `active`, `activation`."""
        if not isinstance(model, Autoencoder):
            raise TypeError(f"a reconstruction loss is for an Autoencoder, not {type(model).__name__}")
        model.units.progress(min(1.0, seen / self.target) if self.target else 1.0)
        x = self.corruption(batch.x, noise=noise)
        trace = replace(model.trace(x, noise=noise), data=batch.x)
        if seen == 0:
            trace.check()
        code = trace.extra["code"]
        terms = {"reconstruction": -trace.log_likelihood()}
        weights = {"reconstruction": 1.0}
        for penalty in self._penalties():
            terms[penalty.name] = penalty(model, x, code, noise=noise)
            weights[penalty.name] = penalty.weight
        terms |= {
            "mse": event_mean((trace.likelihood.mean - batch.x) ** 2).detach(),
            "active": (code != 0).float().mean(1).detach(),
            "activation": code.mean(1).detach(),
        }
        return Loss(terms, weights)

    def sums(self, model: nn.Module) -> tuple[Tensor, ...]:
        """What the penalties keep of the step, which every process needs of all."""
        return tuple(tensor for penalty in self._penalties() for tensor in penalty.sums())

    def after_step(self, model: nn.Module, seen: int) -> None:
        """The step is complete: the penalties take it in."""
        for penalty in self._penalties():
            penalty.commit()

    def _penalties(self) -> list[Penalty]:
        return [penalty for penalty in self.penalties if isinstance(penalty, Penalty)]

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """The loss of unseen images, with always the same corruption of each, and its terms."""
        loss = self(model, batch, noise=noise, seen=0)
        return {"loss": loss.total, **loss.terms}
