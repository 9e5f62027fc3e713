"""How the same mathematics is computed: what a training remembers of nets/compute.py's choices.

bfloat16 keeps float32's range with eight bits of precision. Under autocast matrix products and
convolutions run in it; weights, gradients, averages, normalisations and losses stay float32. It is
never float16, whose range would need a loss scale. The layout with channels innermost suits
convolution kernels; `compiled` takes the fused kernel on a CPU and compiles blocks elsewhere. All are decided
by measurement (pilot.py), stored in the checkpoint, and bfloat16 is given up after a divergence.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..nets.compute import Compute


@dataclass(frozen=True)
class Execution:
    """bf16: mixed precision; channels_last: layout of weights; compiled: the fused kernel or blocks."""

    bf16: bool = False
    channels_last: bool = False
    compiled: bool = False

    @property
    def compute(self) -> Compute:
        """The same choice, as the networks understand it."""
        return Compute(
            torch.bfloat16 if self.bf16 else torch.float32,
            torch.channels_last if self.channels_last else torch.contiguous_format,
            self.compiled,
        )

    def context(self, device: torch.device) -> AbstractContextManager[object]:
        """The precision of a forward pass."""
        return self.compute.context(device)

    def prepare(self, module: nn.Module) -> Execution:
        """Lay out the weights (call before they become views of a vector); the way that is now in use."""
        if next(module.parameters(), None) is None:
            return self
        return replace(self, compiled=self.compute.prepare(module).compiled)

    def __str__(self) -> str:
        return str(self.compute)
