"""The loss of a classifier: minus the log-probability of the right class, in nats.

    loss = -log softmax(logits)_y,  or with smoothing s against (1 - s) onehot(y) + s / K

Smoothing keeps the logits finite on data that can be separated (Szegedy et al. 2016, section 7).

A classifier that is to guide sampling is trained on what sampling shows it, images noised to a level drawn
from a distribution of levels (Dhariwal & Nichol 2021, sec. 4): its loss is the same at x_t.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.noise import Noise
from ..data.dataset import Batch
from ..diffusion.times import Times
from ..models.classifier import NoisyClassifier
from .denoising import JUDGED
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


@final
class NoisyCrossEntropy(Objective, Judge):
    """Cross-entropy of a `NoisyClassifier` at levels drawn from `times`; accuracy is over all levels."""

    def __init__(self, times: Times, smoothing: float = 0.0) -> None:
        super().__init__()
        self.times, self.clean = times, CrossEntropy(smoothing)

    def open(self, model: nn.Module, target: int) -> None:
        """UsageError for a schedule that has none of the levels to draw."""
        self.times.check(_noisy(model).schedule)

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """The terms of `CrossEntropy` at one level for each example."""
        log_snr = self.times.draw(_noisy(model).schedule, noise, len(batch))
        return self.clean(_At(_noisy(model), log_snr, noise), batch, noise=noise, seen=seen)

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss` and `accuracy` over fixed quantiles of the training levels, and the loss at each of them."""
        found: dict[str, Tensor] = {}
        right = []
        quantiles = (torch.arange(JUDGED, dtype=torch.float64, device=batch.x.device) + 0.5) / JUDGED
        for log_snr in self.times.quantile(_noisy(model).schedule, quantiles):
            at = _At(_noisy(model), log_snr.expand(len(batch)), noise)
            values = self.clean.judge(at, batch, noise=noise)
            found[f"loss_at_log_snr_{float(log_snr):.1f}"] = values["loss"]
            right.append(values["accuracy"])
        return {
            "loss": torch.stack(list(found.values())).mean(0),
            "accuracy": torch.stack(right).mean(0),
        } | found


class _At(nn.Module):
    """A noisy classifier as one of clean images: it adds the noise of given levels (B,) itself."""

    def __init__(self, classifier: NoisyClassifier, log_snr: Tensor, noise: Noise) -> None:
        super().__init__()
        self.classifier, self.log_snr, self.noise = classifier, log_snr, noise

    def forward(self, x: Tensor) -> Tensor:
        level = self.classifier.schedule.path.level(self.log_snr)
        return self.classifier(level.mix(x, self.noise.normal(x.shape, x.dtype)), level)


def _noisy(model: nn.Module) -> NoisyClassifier:
    if not isinstance(model, NoisyClassifier):
        raise TypeError("this loss is for a NoisyClassifier")
    return model


def _predicted(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.label is None:
        raise DataError(
            "a classifier needs labelled data",
            remedy="Put each class into a folder of its own, or give a CSV of labels.",
        )
    return model(batch.x), batch.label


def _right(logits: Tensor, label: Tensor) -> Tensor:
    return (logits.argmax(1) == label).to(logits)
