"""The choices that are the user's, and the plan that follows from them and from the files.

Every conversion is chosen here and stated in the pipeline line; nothing is done silently. Defaults: alpha
is laid on white, mixed sizes are scaled to cover the target and cropped in the middle (the aspect is kept),
depth and channels are those of most files, EXIF rotation is applied, nothing is flipped or augmented.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from ..core.errors import UsageError, did_you_mean


class Fit(Enum):
    """How a picture of another size meets the target."""

    CROP = "crop"  # scale to cover, cut the middle out: aspect kept, borders lost
    PAD = "pad"  # scale to fit inside, repeat the edge outwards: aspect kept, nothing lost
    STRETCH = "stretch"  # scale each side by itself: nothing lost, aspect changed


class Alpha(Enum):
    """What becomes of transparency."""

    DROP = "drop"  # ignore it: hidden colours show
    WHITE = "white"  # lay on white
    BLACK = "black"  # lay on black
    KEEP = "keep"  # a channel of its own, generated like the others


@dataclass(frozen=True)
class Options:
    """What the user asked for; None means: as the files show."""

    size: tuple[int, int] | None = None  # (height, width)
    fit: Fit = Fit.CROP
    alpha: Alpha = Alpha.WHITE
    channels: int | None = None  # 1 gray or 3 colours; transparency comes on top with Alpha.KEEP
    layout: str | None = None  # axes of an array by letter, e.g. NHWC
    labels: str | None = None  # a CSV file,label[,numbers]
    kind: str | None = None  # depth of an earlier data set that this one must match
    transparency: bool = False  # a channel for it even if no file has any, to match an earlier data set
    quarantine: bool = False  # go on although more than 5 % of the files are bad

    def to_json(self) -> dict[str, Any]:
        """Plain values, part of the key of the cache: all that changes what is stored."""
        values = asdict(self) | {"fit": self.fit.value, "alpha": self.alpha.value}
        del values["quarantine"]
        return values


def options(
    *,
    size: int | str | tuple[int, int] | None = None,
    fit: Fit | str = Fit.CROP,
    alpha: Alpha | str = Alpha.WHITE,
    channels: int | None = None,
    layout: str | None = None,
    labels: str | None = None,
    quarantine: bool = False,
) -> Options:
    """Options from what was typed: size 64 (a square), "48x64" (height x width) or a pair; else words."""
    if channels not in (None, 1, 3):
        raise UsageError(
            f"channels is 1 (gray) or 3 (colour), not {channels}",
            remedy="Give --channels 1 or 3, or leave it out: as most files are.",
        )
    fits, alphas = _word(Fit, fit, "fit"), _word(Alpha, alpha, "alpha")
    return Options(_size(size), fits, alphas, channels, layout, labels, quarantine=quarantine)


def _size(value: int | str | tuple[int, int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            parts = [int(p) for p in value.lower().split("x")]
        else:
            parts = [value, value] if isinstance(value, int) else list(value)
        height, width = parts if len(parts) == 2 else parts * 2
    except (ValueError, TypeError):
        raise UsageError(
            f"size {value!r} is no size", remedy="Give 64, or 48x64 as height x width."
        ) from None
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise UsageError(f"size {height} x {width} is out of reach", remedy="Each side is from 1 to 4096.")
    return height, width


def _word(kind: type[Any], value: Any, name: str) -> Any:
    if isinstance(value, kind):
        return value
    known = [k.value for k in kind]
    if value not in known:
        raise UsageError(f"{name} '{value}' is unknown", remedy=did_you_mean(str(value), known))
    return kind(value)


@dataclass(frozen=True)
class Plan:
    """What every picture of a data set is turned into: (C, H, W) of one kind."""

    kind: str  # uint8 | uint16 | float32
    colours: int  # channels without transparency
    size: tuple[int, int]
    fit: Fit = Fit.CROP
    alpha: Alpha = Alpha.WHITE
    keeps_alpha: bool = False  # some file has transparency and it is kept

    @property
    def channels(self) -> int:
        """All channels of the stored values."""
        return self.colours + self.keeps_alpha

    @property
    def bytes(self) -> int:
        """The size of one stored example."""
        width = {"uint8": 1, "uint16": 2, "float32": 4}[self.kind]
        return self.channels * self.size[0] * self.size[1] * width

    def to_json(self) -> dict[str, Any]:
        """Plain values; from_json is the inverse."""
        return asdict(self) | {"fit": self.fit.value, "alpha": self.alpha.value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """The plan of plain values (sent to the decoding processes)."""
        plan = cls(**(value | {"fit": Fit(value["fit"]), "alpha": Alpha(value["alpha"])}))
        return replace(plan, size=(plan.size[0], plan.size[1]))
