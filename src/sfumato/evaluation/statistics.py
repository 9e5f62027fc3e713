"""Features without a network: what a scientist would measure on an image, for any size and depth.

Of an image x (C, *space) in [-1, 1], one to three axes of space:

    levels       share of pixels in each of 16 ranges of grey, per channel
    moments      mean and standard deviation per channel; correlation between channels
    spectrum     log10 of the power |FFT(x - mean)|^2 / N^2 averaged over shells of equal frequency
    two-point    corr(r) = mean f(u) f(u + r e_a) / var f at distances r = 1, 2, 4, 8 along each axis
    edges        mean |f(u + e_a) - f(u)| along each axis
    roughness    standard deviation within 3-pixel patches: mean, and 10 % and 90 % quantiles over patches
    layout       mean over the cells of a 4 x ... x 4 division of the image

Points (no axes of space) are their own features. Porosity, texture scale, anisotropy, tint, blur,
noise and misplaced mass all move one of these; that a digit is no digit moves none by much.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from .features import Features, adaptive_mean, fingerprint_of

VERSION = "1"  # part of the fingerprint: raise it whenever a number changes
LEVELS, SHELLS, DISTANCES, CELLS = 16, 8, (1, 2, 4, 8), 4
MANY = 4  # channels above which grey levels and layout are pooled over channels
Named = tuple[list[str], Tensor]  # names of k components, and their values (B, k)


@final
class ImageStatistics(Features):
    """Download-free statistics of images of a given shape; `names` says what each component is."""

    name = "statistics"
    tells = (
        "Sees grey levels, colour, power at each scale, two-point correlation, edges and the rough layout. "
        "Blind to meaning: an image of the wrong thing with the right texture looks right to it."
    )

    def __init__(self, channels: int, space: tuple[int, ...]) -> None:
        if len(space) > 3:
            raise ValueError(f"images have at most three axes of space, not {len(space)}")
        self.shape = (channels, *space)
        self.names = tuple(name for names, _ in _parts(torch.zeros(1, *self.shape)) for name in names)
        self.dimension = len(self.names)
        self.fingerprint = fingerprint_of(VERSION, repr(self.shape), *self.names)

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"statistics of {self.shape} images cannot read a batch {tuple(x.shape)}")
        return torch.cat([values for _, values in _parts(x.double())], dim=1)


def _parts(x: Tensor) -> list[Named]:
    if x.ndim == 2:
        return [([f"coordinate {i}" for i in range(x.shape[1])], x)]
    centred = x - x.flatten(2).mean(2).reshape(x.shape[:2] + (1,) * (x.ndim - 2))
    whole: list[Callable[[Tensor], Named]] = [_levels, _moments, _edges, _layout]
    free: list[Callable[[Tensor], Named]] = [_between_channels, _spectrum, _two_point, _roughness]
    return [part(x) for part in whole] + [part(centred) for part in free]


def _levels(x: Tensor) -> Named:
    x = x.flatten(2) if x.shape[1] <= MANY else x.flatten(1)[:, None]
    place = ((x + 1) * (LEVELS / 2)).floor().clamp(0, LEVELS - 1).long()
    ones = torch.ones_like(x) / x.shape[2]
    shares = x.new_zeros(*x.shape[:2], LEVELS).scatter_add_(2, place, ones)
    edges = [-1 + 2 * i / LEVELS for i in range(LEVELS + 1)]
    ranges = [f"{a:+.2f}..{b:+.2f}" for a, b in itertools.pairwise(edges)]
    names = [f"share of grey in {r}, channel {c}" for c in range(x.shape[1]) for r in ranges]
    return names, shares.flatten(1)


def _moments(x: Tensor) -> Named:
    flat, channels = x.flatten(2), range(x.shape[1])
    names = [f"mean of channel {c}" for c in channels] + [f"contrast of channel {c}" for c in channels]
    return names, torch.cat([flat.mean(2), flat.std(2, correction=0)], dim=1)


def _between_channels(f: Tensor) -> Named:
    pairs = list(itertools.combinations(range(min(f.shape[1], 8)), 2))
    flat = F.normalize(f.flatten(2), dim=2)
    values = [(flat[:, a] * flat[:, b]).sum(1) for a, b in pairs]
    names = [f"correlation of channels {a} and {b}" for a, b in pairs]
    return names, torch.stack(values, dim=1) if pairs else f.new_zeros(len(f), 0)


def _spectrum(f: Tensor) -> Named:
    space = f.shape[2:]
    shells = min(SHELLS, min(space) // 2)
    if shells == 0:
        return [], f.new_zeros(len(f), 0)
    axes = tuple(range(2, f.ndim))
    power = (torch.fft.fftn(f, dim=axes).abs() ** 2 / math.prod(space) ** 2).mean(1).flatten(1)
    squares = [torch.fft.fftfreq(n, device=f.device, dtype=f.dtype) ** 2 for n in space]
    radius = torch.stack(torch.meshgrid(*squares, indexing="ij")).sum(0).sqrt().flatten()
    shell = (
        (radius * 2 * shells).ceil().long().clamp(0, shells)
    )  # 0: the mean, removed; corners join the last
    total = f.new_zeros(len(f), shells + 1).index_add_(1, shell, power)
    number = torch.bincount(shell, minlength=shells + 1).clamp_min(1)
    names = [
        f"log power at {i / 2 / shells:.2f}..{(i + 1) / 2 / shells:.2f} cycles/pixel" for i in range(shells)
    ]
    return names, torch.log10((total / number)[:, 1:] + 1e-8)


def _two_point(f: Tensor) -> Named:
    variance = (f**2).flatten(2).mean(2).clamp_min(1e-12)
    names: list[str] = []
    values = [f.new_zeros(len(f), 0)]
    for axis, size in enumerate(f.shape[2:]):
        for r in (r for r in DISTANCES if r < size):
            here, there = f.narrow(axis + 2, 0, size - r), f.narrow(axis + 2, r, size - r)
            product = (here * there).flatten(2).mean(2)
            values.append((product / variance).mean(1, keepdim=True))
            names.append(f"correlation at distance {r} along axis {axis}")
    return names, torch.cat(values, dim=1)


def _edges(x: Tensor) -> Named:
    axes = range(x.ndim - 2)
    values = [x.diff(dim=a + 2).abs().flatten(1).mean(1) for a in axes if x.shape[a + 2] > 1]
    names = [f"edges along axis {a}" for a in axes if x.shape[a + 2] > 1]
    return names, torch.stack(values, dim=1) if values else x.new_zeros(len(x), 0)


def _pool(x: Tensor) -> Callable[..., Tensor]:
    return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]


def _roughness(f: Tensor) -> Named:
    size = tuple(min(3, n) for n in f.shape[2:])
    pool = _pool(f)
    local = (pool(f**2, size, 1) - pool(f, size, 1) ** 2).clamp_min(0).sqrt().flatten(1)
    ends = torch.quantile(local, torch.tensor([0.1, 0.9], dtype=f.dtype, device=f.device), dim=1).T
    names = ["mean roughness", "roughness of the smoothest tenth", "roughness of the roughest tenth"]
    return names, torch.cat([local.mean(1, keepdim=True), ends], dim=1)


def _layout(x: Tensor) -> Named:
    x = x if x.shape[1] <= MANY else x.mean(1, keepdim=True)
    cells = tuple(min(CELLS, n) for n in x.shape[2:])
    places = itertools.product(range(x.shape[1]), *(range(n) for n in cells))
    names = [f"brightness of cell {place}, channel {c}" for c, *place in places]
    return names, adaptive_mean(x, cells).flatten(1)
