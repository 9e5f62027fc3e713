"""The model of a run, for every verb after `train`: its weights as they should be used.

A finished run holds its model as it is. A run in the middle of a stage holds raw weights and their
averages, and it is the averages one wants to see; they replace the weights of the part in training
unless the raw ones are asked for. The folder may have been moved; nothing outside it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..core.errors import RefusedError
from .keeper import MODEL, STATE
from .rundir import RunDir
from .state import DONE, Progress, unpack
from .watcher import AVERAGES


@dataclass(frozen=True)
class Loaded:
    """What was loaded: the checkpoint, the state it holds, and why newer ones were passed over."""

    checkpoint: str
    progress: Progress
    averaged: bool
    passed_over: Mapping[str, str]

    @property
    def finished(self) -> bool:
        """Whether the training reached its end."""
        return self.progress.stage_name == DONE


@torch.no_grad()
def load_weights(run: RunDir, model: nn.Module, *, checkpoint: str = "", raw: bool = False) -> Loaded:
    """Put a run's weights into its model, strictly, and the model into evaluation mode.

    checkpoint: a folder under checkpoints/ (by default the newest valid one); raw: the weights
    themselves where the default is their average. RefusedError names what does not fit.
    """
    found = run.load(checkpoint) if checkpoint else run.newest()
    if found is None:
        raise RefusedError(
            "the run has no checkpoint yet", where=run.path, remedy="Train it first: `sfumato train`."
        )
    progress = Progress.from_bytes(found.file(STATE), found.name)
    expected = model.state_dict()
    tensors = unpack(found.file(MODEL), expected, MODEL)
    averaged = AVERAGES in found.files and not raw and progress.seen > 0
    if averaged:
        tensors |= _averages(found.file(AVERAGES), tensors)
    for name, tensor in expected.items():
        tensor.copy_(tensors[name])
    model.eval()
    return Loaded(found.name, progress, averaged, found.passed_over)


def _averages(data: bytes, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The averages of the first length that belong to the model (the objective's stay out)."""
    stored = unpack(data, None, AVERAGES)
    first = {name.removeprefix("0/"): tensor for name, tensor in stored.items() if name.startswith("0/")}
    found = {name: tensor for name, tensor in first.items() if name in tensors}
    for name, tensor in found.items():
        if tensor.shape != tensors[name].shape or tensor.dtype != tensors[name].dtype:
            raise RefusedError(f"{AVERAGES} holds '{name}' in another shape or type than the model")
    return found
