"""What a model and every later verb must know about the data.

Stored values v (the numbers in the files) and model values x are tied by one linear map,

    x = (v - m) / h,     m = (low + high) / 2,     h = (high - low) / 2,

so that low -> -1 and high -> +1. Grey levels lie on the lattice v = low + k spacing, k = 0 ... levels - 1,
which makes the bin of a likelihood 2 / (levels - 1) wide in model units. Eight-bit files always use
0 ... 255; sixteen-bit and float files use the range of all the data, one range for all channels so that
colours keep their proportions. Range, mean and spread are measured before a part is held out, so that
held-out values lie in [-1, 1] too; held-out data from elsewhere are seen in the range of the training data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..core.errors import RefusedError

KINDS = ("uint8", "uint16", "float32")
BACK = "Bring back data.json as it was written; it is made when a training begins."


@dataclass(frozen=True)
class Facts:
    """The data of a run in numbers; stored as data.json and enough to turn model values back into files.

    space is the shape the model sees: () for points, (L,) signals, (H, W) images, (D, H, W) volumes, and for
    clips (T, H, W) with `time`: T frames in order, a volume to every model that does not ask for frames.
    pad counts the border cells (before, after) added to each axis of space; `size` is space without them.
    mean and std are per channel in model units.
    """

    channels: int
    space: tuple[int, ...]
    kind: str = "uint8"
    low: float = 0.0
    high: float = 255.0
    spacing: float = 1.0  # distance of neighbouring grey levels in stored units; no meaning for float32
    classes: tuple[str, ...] = ()
    count: int = 0
    source: str = ""
    fingerprint: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: tuple[tuple[int, int], ...] = ()
    alpha: bool = False  # the last channel is transparency
    factors: tuple[str, ...] = ()  # names of the known generating factors, if any
    pipeline: str = ""  # the preprocessing in one line
    time: bool = False  # the first axis of space is time

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {KINDS}, not {self.kind!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the range must be finite and not empty, not {self.low} ... {self.high}")
        if self.channels < 1 or any(n < 1 for n in self.space) or self.spacing <= 0:
            raise ValueError("channels, sizes and spacing are positive")
        if self.pad and len(self.pad) != len(self.space):
            raise ValueError("pad has one pair for each axis of space")
        if self.time and not self.space:
            raise ValueError("a clip needs an axis of time")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *space): one example as the model sees it."""
        return (self.channels, *self.space)

    @property
    def size(self) -> tuple[int, ...]:
        """The size of one example as it is stored and written, without padding."""
        if not self.pad:
            return self.space
        return tuple(n - a - b for n, (a, b) in zip(self.space, self.pad, strict=True))

    @property
    def frames(self) -> int:
        """The number of frames of a clip; 0 where the data have no time."""
        return self.space[0] if self.time else 0

    @property
    def frame(self) -> Facts:
        """What is known of one frame of a clip."""
        if not self.time:
            raise ValueError("data without time have no frames")
        return replace(self, space=self.space[1:], pad=self.pad[1:], time=False)

    @property
    def words(self) -> str:
        """Shape and depth in words: 28 x 28, 1 channel, 8-bit; 8 frames of 64 x 64, 3 channels, 8-bit."""
        depth = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}[self.kind]
        size = " x ".join(map(str, self.size)) or "points"
        if self.time:
            size = f"{self.frames} frames of " + (" x ".join(map(str, self.size[1:])) or "points")
        return f"{size}, {self.channels} channel{'s' if self.channels > 1 else ''}, {depth}"

    @property
    def middle(self) -> float:
        """m, the stored value that maps to 0."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """h, the number of stored units in one model unit."""
        return (self.high - self.low) / 2

    @property
    def levels(self) -> int | None:
        """The number of grey levels from low to high; None for floats, whose likelihood is a density."""
        return None if self.kind == "float32" else round((self.high - self.low) / self.spacing) + 1

    @property
    def bin(self) -> float | None:
        """The width of one grey level in model units, 2 / (levels - 1); None for floats."""
        return None if self.levels is None else 2.0 / (self.levels - 1)

    def padded_to(self, multiple: int) -> Facts:
        """The same data with every axis padded up to a multiple, evenly on both sides.

        Training may pad so that a network can halve the size; `pixels.from_model` cuts the border off.
        """
        short = tuple(-n % multiple for n in self.size)
        pad = tuple((s // 2, s - s // 2) for s in short)
        space = tuple(n + s for n, s in zip(self.size, short, strict=True))
        return replace(self, space=space, pad=pad if any(short) else ())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; from_json is the exact inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Facts:
        """Facts from JSON values. A missing, unknown or impossible entry is refused by name."""
        if not isinstance(value, Mapping):
            raise RefusedError("data facts: no object with named entries", where="data.json", remedy=BACK)
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(value) - known)
        missing = sorted({"channels", "space"} - set(value))
        if unknown or missing:
            word = "unknown" if unknown else "missing"
            entry = (unknown or missing)[0]
            raise RefusedError(f"data facts: {word} entry '{entry}'", where="data.json", remedy=BACK)
        try:
            return cls(**{k: _frozen(v) for k, v in value.items()})
        except (TypeError, ValueError) as error:
            raise RefusedError(f"data facts: {error}", where="data.json", remedy=BACK) from None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value
