"""How the same mathematics is computed: precision and memory layout.

bfloat16 keeps float32's range with eight bits of precision. Under autocast matrix products and
convolutions run in it; weights, gradients, averages, normalisations and losses stay float32. It is
never float16, whose range would need a loss scale. `channels_last` lays images out with channels
innermost, which convolution kernels prefer. Both are decided by measurement (pilot.py), stored in
the checkpoint, and given up for plain float32 after a divergence.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Execution:
    """bf16: mixed precision; channels_last: layout of image weights."""

    bf16: bool = False
    channels_last: bool = False

    def context(self, device: torch.device) -> AbstractContextManager[object]:
        """The precision of a forward pass."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)

    def prepare(self, module: nn.Module) -> None:
        """Lay out the weights; call before they become views of a vector."""
        if not self.channels_last:
            return
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in module.parameters():
            if parameter.ndim in formats:
                parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])

    def __str__(self) -> str:
        parts = ["bf16" if self.bf16 else "fp32"]
        parts += ["channels-last"] if self.channels_last else []
        return ", ".join(parts)
