"""What images are compared by: a map from an image to a vector, with a name and a fingerprint.

A distance between sets of images is a distance between their features, and sees only what those
see. So features say in words what they can tell, and carry a fingerprint of everything that decides
their values: two distances may be compared only if both fingerprints agree.

    ClassifierFeatures    the last hidden layer of a classifier trained on the data at hand
    InceptionFeatures     photographs' objects and textures (inception.py)
    ImageStatistics       grey levels, spectrum, correlations, edges; nothing to train (statistics.py)
    Pixels                the image itself, made smaller (memorisation)
    Standardised          any features in units of their spread over real images
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from .spread import Rows

FAR = 100  # standard deviations beyond which their number says nothing


class Features(ABC):
    """A map from images x (B, C, *space) in [-1, 1] to vectors (B, dimension), float64."""

    name: str
    dimension: int
    fingerprint: str
    tells: str  # in words, what a distance in these features can and cannot tell
    resize: str = "none"
    names: tuple[str, ...] = ()  # what each component is, where it can be said

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The features of a batch."""

    @property
    def label(self) -> str:
        """name@fingerprint, as it stands in a protocol."""
        return f"{self.name}@{self.fingerprint}"


def extract(features: Features, batches: Iterable[Tensor]) -> Rows:
    """The features (n, dimension) of all batches of images, on the CPU in float64."""
    with torch.inference_mode():
        parts = [features(x).to("cpu", torch.float64).numpy() for x in batches]
    return np.concatenate(parts) if parts else np.empty((0, features.dimension))


def departures(names: tuple[str, ...], samples: Rows, real: Rows, count: int = 5) -> list[str]:
    """The components whose mean over samples departs most from the real images', in words.

    samples (n, d), real (m, d); in standard deviations over the real images. Left out are components
    within three standard errors, which chance explains, and those that differ by less than 0.1.
    """
    deviation = np.maximum(real.std(axis=0, ddof=1), 1e-9)
    units = (samples.mean(axis=0) - real.mean(axis=0)) / deviation
    own = samples.std(axis=0, ddof=1) / deviation
    chance = np.maximum(0.1, 3.0 * np.sqrt(own**2 / len(samples) + 1.0 / len(real)))
    order = np.argsort(-np.abs(units), kind="stable")[:count]
    return [f"{names[i]} {_deviations(units[i])}" for i in order if abs(units[i]) > chance[i]]


def _deviations(units: float) -> str:
    """+0.6 sd; without a number where real images hardly vary, and every difference is many deviations."""
    if abs(units) < FAR:
        return f"{units:+.1f} sd"
    return f"{'higher' if units > 0 else 'lower'} by over {FAR} sd: real images hardly vary in it"


def fingerprint_of(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits that name a content."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:12]


def fingerprint_of_module(module: nn.Module) -> str:
    """The fingerprint of a network's weights and buffers, by name, type, shape and bytes."""
    parts: list[str | bytes] = []
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", raw]
    return fingerprint_of(*parts)


@final
class ClassifierFeatures(Features):
    """The last hidden layer of a classifier trained on the same kind of images."""

    name = "classifier"
    tells = (
        "Sees what distinguishes the classes it was trained on: shape, identity, missing kinds. "
        "Blind to what its training taught it to ignore, such as faint noise or a shift of brightness."
    )

    def __init__(self, module: nn.Module, probe: Tensor) -> None:
        """module: a network with features(x); probe (B, C, *space): any images, to learn the dimension."""
        self.module = module.eval()
        self.fingerprint = fingerprint_of_module(module)
        with torch.inference_mode():
            self.dimension = int(self(probe[:1]).shape[1])

    def __call__(self, x: Tensor) -> Tensor:
        place = next(self.module.parameters()).device
        hidden = self.module.features(x.to(place))  # type: ignore[operator]
        return hidden.flatten(1).double()


@final
class Pixels(Features):
    """The image itself, averaged over cells until at most `most` numbers are left."""

    name = "pixels"
    tells = "Sees copies and near copies, and nothing else: a shift by one pixel looks like another image."

    def __init__(self, shape: tuple[int, ...], most: int = 4096) -> None:
        """shape: (C, *space)."""
        self.shape, space = shape, shape[1:]
        cell = 1
        while shape[0] * math.prod(-(-n // cell) for n in space) > most and cell < max(space, default=1):
            cell += 1
        self.cells = tuple(-(-n // cell) for n in space)
        self.dimension = shape[0] * math.prod(self.cells)
        self.resize = "none" if cell == 1 else "x".join(map(str, self.cells)) + " area"
        self.fingerprint = fingerprint_of(repr(shape), repr(self.cells))

    def __call__(self, x: Tensor) -> Tensor:
        return adaptive_mean(x.double(), self.cells).flatten(1)


def adaptive_mean(x: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Means of x (B, C, *space) over a division of space into (about equal) cells, (B, C, *cells)."""
    for axis, (size, wanted) in enumerate(zip(x.shape[2:], cells, strict=True), start=2):
        if wanted != size:
            parts = [slice(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]
            means = [x.narrow(axis, p.start, p.stop - p.start).mean(axis, keepdim=True) for p in parts]
            x = torch.cat(means, dim=axis)
    return x


@final
class Standardised(Features):
    """Features minus their mean over real images, in units of their standard deviation there.

    Needed where components have unlike units. A component that hardly varies over the real images is
    measured in units of `least` instead, so that a trace of noise there does not outweigh all else.
    """

    def __init__(self, inner: Features, mean: Rows, std: Rows) -> None:
        self.inner, self.name, self.dimension = inner, inner.name, inner.dimension
        self.tells, self.resize, self.names = inner.tells, inner.resize, inner.names
        self.mean, self.std = torch.from_numpy(mean), torch.from_numpy(std)
        self.fingerprint = fingerprint_of(inner.fingerprint, mean.tobytes(), std.tobytes())

    @staticmethod
    def on(inner: Features, real: Iterable[Tensor], least: float = 0.02) -> Standardised:
        """Standardised by batches of real training images."""
        rows = extract(inner, real)
        if len(rows) < 2:
            raise ValueError("two real images are the fewest that have a spread")
        return Standardised(inner, rows.mean(axis=0), np.maximum(rows.std(axis=0, ddof=1), least))

    def __call__(self, x: Tensor) -> Tensor:
        inner = self.inner(x)
        return (inner - self.mean.to(inner.device)) / self.std.to(inner.device)
