"""How a network is told the noise level and the condition: one vector per sample, one extra image.

    emb = MLP(fourier(c_noise)) + label + W vector        (B, dim)
    fourier(c)_k = (cos 2 pi f_k c, sin 2 pi f_k c),      f_k geometric from 1/64 to 2 cycles per unit

The input is c_noise = log(sigma/alpha)/4 within [-3, 3] (diffusion/scaling.py): the fastest wave (period
1/2) resolves it, and the slowest (period 64) is nearly a line over it, so that no two levels look alike.

Every slot of a Condition has a null, and a sample whose `present` is False, or a slot left empty, gets
it, whatever the slot holds:

    label    a learned row of the table (index n_classes)
    vector   a learned vector of the same length
    concat   zeros, and an added presence channel that is 1 where the image is present and 0 where not
             (so that a black image and no image differ)
    tokens   one learned token, repeated: attention over equal tokens does not depend on their number

Vaswani et al. 2017 (sinusoids); Ho and Salimans 2022 (one network, with and without its condition).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..core.condition import Condition
from ..core.shapes import per_sample_mask

LOWEST, HIGHEST = 1 / 64, 2.0  # cycles per unit of c_noise


class Fourier(nn.Module):
    """cos and sin of 2 pi f_k c for dim/2 geometric frequencies: (B,) -> (B, dim)."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"an embedding has an even number of at least 4 features, not {dim}")
        steps = torch.linspace(0.0, 1.0, dim // 2, dtype=torch.float64)
        waves = 2 * math.pi * LOWEST * (HIGHEST / LOWEST) ** steps
        self.register_buffer("frequencies", waves.float(), persistent=False)

    def forward(self, c_noise: Tensor) -> Tensor:
        """(B,) -> (B, dim); computed in float32, since phases need their digits."""
        phase = c_noise.float()[:, None] * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], dim=1)


def present_or_null(value: Tensor | None, null: Tensor, cond: Condition) -> Tensor:
    """value (B, ...) where the condition is present and null (...) elsewhere; null (1, ...) if empty."""
    if value is None:
        return null[None]
    if cond.present is None:
        return value
    return torch.where(per_sample_mask(cond.present, value), value, null.to(value.dtype))


class Embedding(nn.Module):
    """Noise level, label and vector as one activated vector (B, dim) that modulates every block.

    features: number of Fourier features; classes, vector_dim: 0 leaves the slot out.
    A c_noise of shape (1,) serves a whole batch at one level.
    """

    def __init__(self, features: int, dim: int, *, classes: int = 0, vector_dim: int = 0) -> None:
        super().__init__()
        self.classes, self.vector_dim = classes, vector_dim
        self.fourier = Fourier(features)
        self.level = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))
        if classes:
            self.label = nn.Embedding(classes + 1, dim)
        if vector_dim:
            self.vector = nn.Linear(vector_dim, dim)
            self.null_vector = nn.Parameter(torch.zeros(vector_dim))

    def forward(self, c_noise: Tensor, cond: Condition) -> Tensor:
        """(B,) or (1,) -> (B, dim) or (1, dim)."""
        refuse_unknown(cond, label=self.classes, vector=self.vector_dim)
        emb = self.level(self.fourier(c_noise))
        if self.classes:
            null = torch.full((), self.classes, dtype=torch.int64, device=emb.device)
            emb = emb + self.label(present_or_null(cond.label, null, cond))
        if self.vector_dim:
            emb = emb + self.vector(present_or_null(cond.vector, self.null_vector, cond))
        return nn.functional.silu(emb)


def refuse_unknown(cond: Condition, **sizes: int) -> None:
    """A condition in a slot that the network was built without would be ignored in silence: refuse it."""
    for slot, size in sizes.items():
        if getattr(cond, slot) is not None and not size:
            raise ValueError(f"this network was built without the condition slot '{slot}'")


def with_concat(x: Tensor, cond: Condition, channels: int) -> Tensor:
    """(B, C, *space) joined with the concat slot and its presence channel: (B, C + channels + 1, *space)."""
    refuse_unknown(cond, concat=channels)
    if not channels:
        return x
    shape = (x.shape[0], channels + 1, *x.shape[2:])
    if cond.concat is None:
        return torch.cat([x, x.new_zeros(shape)], dim=1)
    if cond.concat.shape[1:] != (channels, *x.shape[2:]):
        given, wanted = tuple(cond.concat.shape), (x.shape[0], channels, *x.shape[2:])
        raise ValueError(f"the concat slot holds a tensor of shape {given} where {wanted} fits")
    image = torch.cat([cond.concat.to(x.dtype), torch.ones_like(x[:, :1])], dim=1)
    if cond.present is not None:
        # where, not a product: what a dropped sample holds (even NaN) must not matter
        image = torch.where(per_sample_mask(cond.present, x), image, 0.0)
    return torch.cat([x, image], dim=1)
