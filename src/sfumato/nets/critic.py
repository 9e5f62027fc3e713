"""A network that judges: the class of an image, and features in which sets of images are compared.

    features(x) = tanh(W mean over positions of h(x))      (B, D), bounded, for Frechet distances
    logits(x)   = V features(x)                             (B, classes)

h is a small residual network that halves the size until at most 4 positions per axis remain. With
`noisy` it is told the noise level of its input, as guidance by a classifier needs (Dhariwal and Nichol
2021, section 4); without, its inputs are clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING
from .blocks import ResidualBlock, conv
from .embed import Embedding
from .fused import NormSilu
from .plain import halvings, widths_of


class Classifier(nn.Module):
    """(B, C, *space) -> logits (B, classes), by way of features (B, D)."""

    def __init__(
        self,
        channels: int,
        space: Sequence[int],
        classes: int,
        *,
        width: int = 32,
        features: int = 64,
        noisy: bool = False,
    ) -> None:
        super().__init__()
        dims = len(space)
        self.classes, self.noisy = classes, noisy
        widths = widths_of(len(halvings(space)) - 1, width)
        self.first = conv(dims, channels, width)
        self.strides = nn.ModuleList(conv(dims, a, b, stride=2) for a, b in pairwise([width, *widths]))
        self.blocks = nn.ModuleList(ResidualBlock(dims, w) for w in widths)
        self.parts = [2 * w for w in widths]
        if noisy:
            self.embedding = Embedding(2 * width, 4 * width)
            self.modulation = nn.Linear(4 * width, sum(self.parts))
        self.norm = NormSilu(widths[-1])
        self.project = nn.Linear(widths[-1], features)
        self.last = nn.Linear(features, classes)

    def features(self, x: Tensor, c_noise: Tensor | None = None) -> Tensor:
        """(B, C, *space), (B,) -> (B, D) in (-1, 1); c_noise is given exactly when built with `noisy`."""
        if (c_noise is not None) != self.noisy:
            raise ValueError("the noise level is given exactly to classifiers built with noisy=True")
        parts: Sequence[Tensor | None] = [None] * len(self.parts)
        if c_noise is not None:
            parts = self.modulation(self.embedding(c_noise, NOTHING)).split(self.parts, dim=1)
        h = self.first(x)
        for stride, block, part in zip(self.strides, self.blocks, parts, strict=True):
            h = block(stride(h), part)
        h = self.norm(h).flatten(2).mean(2)
        return torch.tanh(self.project(h)).to(x.dtype)

    def forward(self, x: Tensor, c_noise: Tensor | None = None) -> Tensor:
        """(B, C, *space) -> logits (B, classes)."""
        return self.last(self.features(x, c_noise))
