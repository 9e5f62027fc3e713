"""The loss of a classifier: minus the log-probability of the right class, in nats.

    loss = -log softmax(logits)_y,  or with smoothing s against (1 - s) onehot(y) + s / K

Smoothing keeps the logits finite on data that can be separated (Szegedy et al. 2016, section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.noise import Noise
from ..data.dataset import Batch
from .objective import Judge, Loss, Objective


@final
class CrossEntropy(Objective, Judge):
    """Cross-entropy of logits = model(x); the accuracy is reported."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing lies in [0, 1), not at {smoothing}")
        self.smoothing = smoothing

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `cross_entropy` in nats and `accuracy` (0 or 1 for an image)."""
        logits, label = _predicted(model, batch)
        loss = F.cross_entropy(logits, label, reduction="none", label_smoothing=self.smoothing)
        return Loss({"cross_entropy": loss, "accuracy": _right(logits, label)}, {"cross_entropy": 1.0})

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: cross-entropy without smoothing; `accuracy`."""
        logits, label = _predicted(model, batch)
        return {"loss": F.cross_entropy(logits, label, reduction="none"), "accuracy": _right(logits, label)}


def _predicted(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.label is None:
        raise DataError(
            "a classifier needs labelled data",
            remedy="Put each class into a folder of its own, or give a CSV of labels.",
        )
    return model(batch.x), batch.label


def _right(logits: Tensor, label: Tensor) -> Tensor:
    return (logits.argmax(1) == label).to(logits)
