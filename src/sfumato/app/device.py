"""Which device computes: the one asked for, else the best that is there."""

from __future__ import annotations

import torch

from ..core.errors import UsageError


def best_device(device: str | None) -> torch.device:
    """The device asked for, else CUDA if it is there; a clear word if it is not."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type == "mps":
            raise UsageError(
                "MPS is not supported yet: noise levels need float64, which it lacks",
                remedy="Use --device cpu.",
            )
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{device}' is not here", remedy="Try --device cpu.") from error
    return chosen
