"""The networks of a hierarchical VAE: bottom-up features, and a ladder of latents from coarse to fine.

    up      f_s = rows of residual blocks on x, halved from scale to scale        features of every scale
    down    h <- 0;  where a scale begins, h <- h brought to its size + b_s, learned;  at each rung l
            (m_l, log s_l, r) = conv(silu(norm h))      p(z_l given z_<l) = N(m_l, s_l^2);   h <- h + r
            (dm, log ds) = conv_0(silu(conv(silu(norm(W_1 h + W_2 f)))))          the residual posterior
            h <- h + W_z z_l
    out     conv_0(silu(norm(block(h))))

The posterior is told relative to the prior, q(z_l given x, z_<l) = N(m_l + s_l dm, (s_l ds)^2), so that its
KL is that of N(dm, ds^2) against N(0, 1), whatever the prior (Vahdat and Kautz 2020, eq. 2; there dm is not
scaled by s_l). What keeps ten and more levels stable:

    q starts as p         conv_0 is zero: every KL is 0 at the first step and grows from there
    1 / sqrt(levels)      r and W_z start that much smaller, so that h keeps its scale however many rungs
                          add to it (Child 2021, section 4.1)
    bounded log-std       L tanh(. / L), L = 3 for the prior and 5 for the posterior's share of it
    group norm            per sample: no statistics of a batch, nothing to drift
    clipped gradient      by the trainer (Stage.clip), which also leaves out steps that are not finite

The scales are the size of the data (in patches), halved until at most 4 positions a side are left, and at the
top a single position, a global latent. Between that one and the grid below it a linear map of all values
leads either way: a mean over the grid, or one value copied to all of it, could neither see nor set where a
thing is. The biases b_s, one number a channel and position, serve the same end. Levels are dealt to the
scales in proportion 1 : 2 : 3 ..., the finest most, because most bits of an image are detail.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from .blocks import (
    ResidualBlock,
    conv,
    crop_to,
    depth_to_space,
    pad_to,
    resize_to,
    space_to_depth,
)
from .fused import NormSilu

COARSE = 4  # positions a side at which halving ends; the next scale is a single position
PRIOR_LIMIT, POSTERIOR_LIMIT = 3.0, 5.0
# (level, state h, prior mean, prior log-std) -> z of that level
Choose = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def scales_of(space: Sequence[int], patch: int = 1) -> list[tuple[int, ...]]:
    """Sizes from fine to coarse: the patches of the data, halved to at most 4 a side, then one position."""
    sizes = [tuple(math.ceil(n / patch) for n in space)]
    while max(sizes[-1]) > COARSE:
        sizes.append(tuple(math.ceil(n / 2) for n in sizes[-1]))
    return sizes if max(sizes[-1]) == 1 else [*sizes, (1,) * len(space)]


def dealt(levels: int, scales: int) -> list[int]:
    """How many levels each scale gets, coarse to fine: in proportion 1 : 2 : 3 ..., at least one each."""
    if levels < scales:
        raise ValueError(f"{levels} levels for {scales} scales: each scale needs at least one")
    counts = [1] * scales
    for _ in range(levels - scales):
        # the scale furthest below its share gets the next one
        at = min(range(scales), key=lambda s: ((counts[s] + 0.5) / (s + 1), -s))
        counts[at] += 1
    return counts


def shapes_of(space: Sequence[int], *, levels: int, latent: int, patch: int = 1) -> list[tuple[int, ...]]:
    """The latents of a ladder, coarse to fine, each (latent, *size)."""
    sizes = scales_of(tuple(space) or (1,), patch)[::-1]
    counts = dealt(levels, len(sizes))
    return [(latent, *size) for size, count in zip(sizes, counts, strict=True) for _ in range(count)]


def latents(space: Sequence[int], *, levels: int, latent: int, patch: int = 1) -> int:
    """The number of units of a ladder, over all levels."""
    return sum(math.prod(shape) for shape in shapes_of(space, levels=levels, latent=latent, patch=patch))


def bounded(x: Tensor, limit: float) -> Tensor:
    """limit * tanh(x / limit): x near zero, never beyond the limit."""
    return limit * torch.tanh(x / limit)


def smaller(module: nn.Module, factors: Sequence[float]) -> nn.Module:
    """The convolution with each of its output channels scaled."""
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(torch.tensor(factors).reshape(-1, *(1,) * (p.ndim - 1)))
    return module


@final
class Whole(nn.Module):
    """(B, width, *before) -> (B, width, *after) by one linear map of all values."""

    def __init__(self, width: int, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        self.shape = (width, *after)
        self.map = nn.Linear(width * math.prod(before), math.prod(self.shape))

    def forward(self, h: Tensor) -> Tensor:
        """All values mapped."""
        return self.map(h.flatten(1)).reshape(-1, *self.shape)


class BottomUp(nn.Module):
    """x (B, C, *space) -> features of every scale, fine to coarse, each (B, width, *size)."""

    def __init__(
        self, channels: int, space: Sequence[int], *, width: int = 48, blocks: int = 1, patch: int = 1
    ) -> None:
        super().__init__()
        self.patch, self.point = patch, not space
        dims = len(space) or 1
        self.sizes = scales_of(tuple(space) or (1,), patch)
        self.first = conv(dims, channels * patch**dims, width)
        self.rows = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(dims, width) for _ in range(blocks))) for _ in self.sizes
        )
        halved = [b for a, b in pairwise(self.sizes) if max(a) > COARSE]
        ways = [conv(dims, width, width, stride=2) for _ in halved]
        if len(self.sizes) > 1:
            ways.append(Whole(width, self.sizes[-2], self.sizes[-1]))
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features, fine to coarse."""
        h = x.unsqueeze(-1) if self.point else x
        h = self.first(space_to_depth(pad_to(h, self.patch), self.patch))
        features = []
        for i, row in enumerate(self.rows):
            h = row(self.ways[i - 1](h) if i else h)
            features.append(h)
        return features


class Rung(nn.Module):
    """One latent z (B, latent, *size): its prior given the state h above, its posterior, its way into h."""

    def __init__(self, dims: int, width: int, latent: int, size: tuple[int, ...], levels: int) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        small = 1.0 / math.sqrt(levels)
        self.norm = NormSilu(width)
        # mean, log-std and the step r of the state by one convolution; the prior starts near N(0, 1)
        self.head = smaller(conv(dims, width, 2 * latent + width), [0.1] * 2 * latent + [small] * width)
        self.from_state, self.from_data = conv(dims, width, width, 1), conv(dims, width, width, 1)
        self.norm_in, self.norm_out = NormSilu(width), NormSilu(width)
        self.inner = conv(dims, width, width)
        self.last = conv(dims, width, 2 * latent, 1, zero=True)
        self.into = smaller(conv(dims, latent, width, 1, bias=False), [small] * width)

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log-std of p(z given h), and h moved on."""
        a, h = self.norm.fork(h)
        mean, log_std, step = self.head(a).split([self.latent, self.latent, h.shape[1]], 1)
        return mean.float(), bounded(log_std.float(), PRIOR_LIMIT), step + h  # in the step's layout

    def residual(self, h: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(dm, log ds) of the posterior relative to the prior."""
        a = self.inner(self.norm_in(self.from_state(h) + self.from_data(feature)))
        mean, log_std = self.last(self.norm_out(a)).float().chunk(2, 1)
        return mean, bounded(log_std, POSTERIOR_LIMIT)

    def absorb(self, h: Tensor, z: Tensor) -> Tensor:
        """h with z in it."""
        return h + self.into(z)


class Ladder(nn.Module):
    """From the coarsest latent to the output (B, outputs, *space); see the module.

    shapes   of the latents, coarse to fine, each (latent, *size)
    """

    def __init__(
        self,
        outputs: int,
        space: Sequence[int],
        *,
        levels: int = 10,
        latent: int = 8,
        width: int = 48,
        patch: int = 1,
    ) -> None:
        super().__init__()
        dims = len(space) or 1
        self.space, self.patch = tuple(space), patch
        self.shapes = shapes_of(self.space, levels=levels, latent=latent, patch=patch)
        sizes = scales_of(self.space or (1,), patch)
        self.feature_of = [sizes.index(shape[1:]) for shape in self.shapes]
        self.places = nn.ParameterList(nn.Parameter(torch.zeros(1, width, *size)) for size in sizes)
        self.spread = Whole(width, sizes[-1], sizes[-2]) if len(sizes) > 1 else nn.Identity()
        self.rungs = nn.ModuleList(Rung(dims, width, latent, shape[1:], levels) for shape in self.shapes)
        self.block, self.norm = ResidualBlock(dims, width), NormSilu(width)
        self.last = conv(dims, width, outputs * patch**dims, zero=True)

    def forward(self, choose: Choose, count: int) -> Tensor:
        """The output (count, outputs, *space) at the latents that `choose` gives, rung after rung."""
        h = self.places[-1].expand(count, *self.places[-1].shape[1:])
        for level, rung in enumerate(self.rungs):
            assert isinstance(rung, Rung)
            mean, log_std, h = rung.prior(self._at_scale(h, level))
            h = rung.absorb(h, choose(level, h, mean, log_std))
        h = depth_to_space(self.last(self.norm(self.block(h))).to(self.places[-1].dtype), self.patch)
        return crop_to(h, self.space).contiguous() if self.space else h.squeeze(-1)

    def _at_scale(self, h: Tensor, level: int) -> Tensor:
        """The state at the size of a level: where its scale begins, brought there and told its places."""
        scale, above = self.feature_of[level], self.feature_of[max(level - 1, 0)]
        if scale == above:
            return h
        first = above == len(self.places) - 1  # below the single position
        return (self.spread(h) if first else resize_to(h, self.shapes[level][1:])) + self.places[scale]

    def residual(self, level: int, h: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(dm, log ds) of a level's posterior from the state and the features, fine to coarse."""
        rung = self.rungs[level]
        assert isinstance(rung, Rung)
        return rung.residual(h, features[self.feature_of[level]])
