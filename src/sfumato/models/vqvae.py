"""The vector-quantised autoencoder, with one level of codes or more.

    one level     z = W h(x),  c = nearest code of z,  x_hat = D(e_c)            (van den Oord et al. 2017)
    more levels   h_l from h_{l-1}, coarser and coarser; then from the top down
                  z_l = W [h_l, s_{l+1}],  s_l = blocks(U e_{c_l} + s_{l+1}),  x_hat = D(s_1)
                                                                          (Razavi et al. 2019, VQ-VAE-2)

s_{l+1} (resized) is all that the levels above say: the codes of a level describe what those leave open. The
code of an image is the integers of all levels in one row (B, N), coarsest level first, each level in raster
order, so that any first part of it is a meaningful one and a prior can continue it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..nets.blocks import ResidualBlock, conv, resize_to
from ..nets.fused import NormSilu
from ..nets.quantize import Coded, Quantizer, ScalarQuantizer
from ..nets.spatial import SpatialEncoder, grid_of
from .codec import Codec, Pixels

FIT_AT_ONCE = 64  # images encoded at a time to start the codebooks


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model makes of images: the decoder's output (B, C, *space), and each level's codes."""

    decoded: Tensor
    levels: tuple[Coded, ...]  # coarsest first


@final
class CodeLevel(nn.Module):
    """One level of codes: its encoder from the features below, its quantiser, and its part of the decoder.

    encoder   (B, C or width, ...) -> (B, width, *grid)
    dims      spatial dimensions;  above: whether there is a coarser level
    blocks    residual blocks between the embeddings and what the level hands down
    """

    def __init__(
        self, encoder: SpatialEncoder, quantizer: Quantizer, dims: int, above: bool = False, blocks: int = 1
    ) -> None:
        super().__init__()
        self.encoder, self.quantizer, width = encoder, quantizer, encoder.width
        self.norm = NormSilu(width)
        self.to_code = conv(dims, width * (2 if above else 1), quantizer.dim, 1)
        self.from_code = conv(dims, quantizer.dim, width, 1)
        self.down = conv(dims, width, width) if above else None
        self.blocks = nn.Sequential(*(ResidualBlock(dims, width) for _ in range(blocks)))

    def project(self, h: Tensor, above: Tensor | None) -> Tensor:
        """z (B, dim, *grid) of the level's features and what the level above handed down."""
        h = self.norm(h)
        return self.to_code(h if above is None else torch.cat([h, resize_to(above, tuple(h.shape[2:]))], 1))

    def hand_down(self, values: Tensor, above: Tensor | None) -> Tensor:
        """s (B, width, *grid) of the level's embeddings and what the level above handed down."""
        s = self.from_code(values)
        if above is not None and self.down is not None:
            s = s + self.down(resize_to(above, tuple(s.shape[2:])))
        return self.blocks(s)


@final
class VqVae(Codec):
    """levels from the finest to the coarsest; decoder (B, width, *grid of the finest) -> (B, C, *space)."""

    def __init__(self, levels: Sequence[CodeLevel], decoder: nn.Module, space: Sequence[int]) -> None:
        super().__init__()
        if not levels:
            raise ValueError("a model of codes has at least one level")
        self.levels, self.decoder = nn.ModuleList(levels), decoder
        self.images = Pixels()  # what the codebooks are started from: see `fit`
        grids, grid = [], tuple(space)
        for level in levels:
            grid = grid_of(grid, level.encoder.halvings)
            grids.append(grid)
        self.grids = tuple(reversed(grids))  # coarsest first, as codes are

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """One for each level, coarsest first."""
        return tuple(level.quantizer for level in self._down())

    @property
    def scalar(self) -> bool:
        """Whether codes are rounded numbers, which have no codebook to collapse."""
        return isinstance(self.quantizers[0], ScalarQuantizer)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Codes of one image on each level, coarsest first."""
        return tuple(math.prod(grid) for grid in self.grids)

    def read(self, x: Tensor, *, noise: Noise | None = None) -> Reading:
        """Encode and decode images (B, C, *space); the gradient passes straight through the codes."""
        coded, above = self._code(self._features(x), noise)
        return Reading(self.decoder(above), coded)

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The codes (B, N) int64 of images, coarsest level first."""
        with torch.autocast(x.device.type, enabled=False):  # the same codes in every precision
            coded, _ = self._code(self._features(x))
        return torch.cat([c.codes.flatten(1) for c in coded], 1)

    def decode(self, z: Tensor) -> Tensor:
        """The images of codes (B, N), cut to [-1, 1]."""
        above = None
        for level, codes, grid in zip(self._down(), z.split(self.lengths, 1), self.grids, strict=True):
            values = level.quantizer.lookup(codes.reshape(-1, *grid))
            above = level.hand_down(values, above)
        return self.decoder(above).clamp(-1.0, 1.0)

    def embed(self, codes: Tensor) -> Tensor:
        """The embeddings of codes (B, N), those of all places and levels in one row (B, M)."""
        parts = zip(self.quantizers, codes.split(self.lengths, 1), strict=True)
        return torch.cat([quantizer.lookup(part).flatten(1) for quantizer, part in parts], 1)

    def nearest(self, values: Tensor) -> Tensor:
        """The codes (B, N) of the embeddings nearest to values (B, M) at each place: embed's inverse."""
        sizes = [q.dim * length for q, length in zip(self.quantizers, self.lengths, strict=True)]
        parts = zip(self.quantizers, values.split(sizes, 1), strict=True)
        return torch.cat([q.nearest(part.unflatten(1, (q.dim, -1))) for q, part in parts], 1)

    @torch.no_grad()
    def fit(self, x: Tensor, label: Tensor | None = None, *, seed: int = 0) -> None:
        """Start every codebook by k-means over the vectors of images x (M, C, *space), from the top down.

        DataError where a level has more codes than the images have vectors.
        """
        for k, quantizer in enumerate(self.quantizers):
            found = [self._vectors(part, k) for part in x.split(FIT_AT_ONCE)]
            quantizer.fit(torch.cat(found), seed=seed + k)

    def _vectors(self, x: Tensor, number: int) -> Tensor:
        """The vectors (M, dim) that level `number` (0: the coarsest) would quantise."""
        features = self._features(x)
        _, above = self._code(features[:number])
        z = tuple(self._down())[number].project(features[number], above)
        return z.movedim(1, -1).reshape(-1, z.shape[1])

    def _code(
        self, features: Sequence[Tensor], noise: Noise | None = None
    ) -> tuple[tuple[Coded, ...], Tensor | None]:
        """The codes of as many levels as there are features, coarsest first, and what the last hands down."""
        coded, above = [], None
        for level, h in zip(self._down(), features, strict=False):
            coded.append(level.quantizer(level.project(h, above), noise))
            above = level.hand_down(coded[-1].values, above)
        return tuple(coded), above

    def _down(self) -> Iterator[CodeLevel]:
        """The levels from the coarsest to the finest."""
        return (level for level in reversed(self.levels) if isinstance(level, CodeLevel))

    def _features(self, x: Tensor) -> list[Tensor]:
        """Each level's features, coarsest first."""
        found: list[Tensor] = []
        for level in reversed(list(self._down())):
            x = level.encoder(x)
            found.insert(0, x)
        return found
