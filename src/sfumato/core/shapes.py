"""The shape operations everything else needs.

A scalar per sample, shape (B,), meets a batch of any rank, shape (B, ...), in one place; and a
log-probability per element, shape (B, ...), is summed over its event to one per sample, shape (B,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .stable import Scalar


def per_sample(value: Scalar, x: Tensor) -> Scalar:
    """A float as it is; a (B,) tensor as (B, 1, ..., 1) in x's type, ready to multiply x (B, ...)."""
    if not isinstance(value, Tensor):
        return value
    value = value.to(x.dtype)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) if value.ndim else value


def per_sample_mask(mask: Tensor, x: Tensor) -> Tensor:
    """A boolean (B,) as (B, 1, ..., 1), ready to choose whole samples of x (B, ...)."""
    return mask.reshape(-1, *(1,) * (x.ndim - 1))


def rows_at_once(shape: Sequence[int]) -> int:
    """How many examples (C, *space) to hold at a time in evaluation: 4 million values, 1 to 256 examples."""
    return max(1, min(256, 2**22 // math.prod(shape)))


def event_sum(x: Tensor) -> Tensor:
    """(B, ...) -> (B,): sum over everything but the batch."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def event_mean(x: Tensor) -> Tensor:
    """(B, ...) -> (B,): mean over everything but the batch."""
    return x.flatten(1).mean(1) if x.ndim > 1 else x
