"""Stored values <-> model values.

    to_model     x = (v - m) / h, then the border is padded by repeating the edge
    from_model   v = m + h x, the border cut off, integers rounded to their lattice and clipped to [low, high]

Both keep the layout (B, C, *space). Integers survive the round trip exactly: in float32 the error of
(v - m) / h is below 1e-7 in model units, while half a grey level of 16 bits is 1.5e-5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .facts import Facts

Array = NDArray[Any]


def to_model(stored: Tensor | Array, facts: Facts) -> Tensor:
    """Stored (B, C, *size), any dtype and device -> float32 (B, C, *space) with low -> -1, high -> +1."""
    if not isinstance(stored, Tensor):
        stored = torch.from_numpy(np.ascontiguousarray(stored))
    x = stored.to(torch.float32, copy=True).sub_(facts.middle).div_(facts.half)
    return _pad(x, facts.pad) if facts.pad else x


def from_model(x: Tensor, facts: Facts) -> Array:
    """Model values (B, C, *space) -> stored values (B, C, *size) of dtype facts.kind, on the CPU.

    A value that is not finite becomes `low`; whoever must notice looks at x.
    """
    v = _unpad(x, facts).detach().to("cpu", torch.float64).mul(facts.half).add_(facts.middle)
    if facts.kind == "float32":
        return v.to(torch.float32).numpy()
    v = torch.nan_to_num(v, nan=facts.low).sub_(facts.low).div_(facts.spacing).round_()
    v = v.mul_(facts.spacing).add_(facts.low).clamp_(facts.low, facts.high)
    return v.numpy().astype(facts.kind)


def viewable(stored: Array, facts: Facts) -> NDArray[np.uint8]:
    """Stored values as eight bits for a screen: as they are, or low ... high spread over 0 ... 255.

    A matter of looking only; never used for training.
    """
    if facts.kind == "uint8":
        return stored.astype(np.uint8)
    share = (np.nan_to_num(stored.astype(np.float64), nan=facts.low) - facts.low) / (facts.high - facts.low)
    return np.round(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)


def _unpad(x: Tensor, facts: Facts) -> Tensor:
    """Cut the border off again."""
    for axis, (n, (before, _)) in enumerate(
        zip(facts.size, facts.pad, strict=False), start=x.ndim - len(facts.pad)
    ):
        x = x.narrow(axis, before, n)
    return x


def _pad(x: Tensor, pad: tuple[tuple[int, int], ...]) -> Tensor:
    """Repeat the edge cells outwards, axis by axis."""
    first = x.ndim - len(pad)
    for axis, (before, after) in enumerate(pad, start=first):
        if before or after:
            at = torch.arange(-before, x.shape[axis] + after, device=x.device)
            x = x.index_select(axis, at.clamp_(0, x.shape[axis] - 1))
    return x
