"""A number and the conditions it was measured under, which never part.

    Protocol    which data and which part of it, how many images on either side, which features (with
                the fingerprint of their weights), how images were resized, and, for the record, the
                seed, the plan of the sampler, the precision, the machine and the commit
    Metric      name, value, spread, Protocol
    comparable  None, or the reason why two metrics must not be ranked against each other

What decides comparability is what changes the number by itself: data, split, counts, features,
resizing. The sampler's plan, the seed and the machine are properties of what is being compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..core.errors import RefusedError, UsageError

AGAIN = "The file was changed or damaged: measure again, or restore it from a copy."
DECIDING = ("data", "split", "samples", "reference", "features", "resize")
SMALL = 2048  # images below which the Frechet distance is mostly bias


@dataclass(frozen=True, slots=True)
class Protocol:
    """The conditions of a measurement. Everything is text or a count, so that it can be read and stored."""

    data: str  # fingerprint of the data set
    split: str  # "train", "held-out", or both, as the reference
    samples: int  # images judged
    reference: int  # real images they are judged by
    features: str  # name@fingerprint, "" where no features are used
    resize: str = "none"
    seed: str = "0"
    plan: str = ""  # solver, steps, guidance; empty for real images
    precision: str = "float64"
    hardware: str = ""
    commit: str = ""

    def line(self) -> str:
        """The conditions on one line: n=10,000 vs 4,213 train | features classifier@ab12 | seed 0."""
        parts = [f"n={self.samples:,} vs {self.reference:,} {self.split}"]
        parts += [f"features {self.features}"] if self.features else []
        parts += [f"resize {self.resize}"] if self.resize != "none" else []
        parts += [self.plan] if self.plan else []
        parts += [self.precision, f"seed {self.seed}"]
        return " | ".join(parts)


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured number. `floor` is the same number for real images in the samples' place, where it exists.

    lower: whether smaller is better; None where neither direction is. debiased: without the bias of
    finite samples, where an estimate exists. note: what a reader must know to read it rightly. parts: what
    the value is the sum of, one number a unit, where it is one.
    """

    name: str
    value: float
    spread: float
    protocol: Protocol
    lower: bool | None = True
    unit: str = ""
    floor: float | None = None
    floor_spread: float = 0.0
    debiased: float | None = None
    note: str = ""
    parts: tuple[float, ...] = ()

    def line(self) -> str:
        """One line that can stand alone: Frechet 12.3 ± 0.4 (real 3.1) | n=10,000 vs 4,213 train | ..."""
        return f"{self.headline()} | {self.protocol.line()}"

    def headline(self) -> str:
        """Name, value, spread and floor, without the protocol."""
        unit = f" {self.unit}" if self.unit else ""
        floor = f" (real {self.shown_floor})" if self.floor is not None else ""
        return f"{self.name} {self.shown_value} ± {self.shown_spread}{unit}{floor}"

    @property
    def shown_value(self) -> str:
        """The value with as many digits as its spread allows."""
        return show(self.value, decimals_of(self.value, self.spread))

    @property
    def shown_spread(self) -> str:
        """The spread with the value's decimals, or where that is nothing with two digits of its own."""
        text = show(self.spread, decimals_of(self.value, self.spread))
        return text if text.strip("0.") else show(self.spread, decimals_of(self.spread, self.spread))

    @property
    def shown_floor(self) -> str:
        """The real images' value with as many digits as its own spread allows; a dash where there is none."""
        if self.floor is None:
            return "–"
        return show(self.floor, decimals_of(self.floor, self.floor_spread or self.spread))

    @property
    def times_floor(self) -> float | None:
        """The value over the real images' one, where both are sizes and that one is more than chance."""
        if not self.lower or self.floor is None or self.value < 0 or self.floor <= 2 * self.floor_spread:
            return None
        return self.value / self.floor if self.floor > 0 and math.isfinite(self.value) else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; numbers that are not finite become text, because JSON has none."""
        return {k: _pack(v) for k, v in asdict(self).items()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Metric:
        """The metric of to_json; anything else is refused with the field at fault."""
        protocol = _read(Protocol, value.get("protocol") if isinstance(value, Mapping) else None, "protocol")
        return _read(Metric, {**value, "protocol": protocol}, "metric")


def show(value: float, decimals: int) -> str:
    """A number with so many decimals, thousands parted; in powers of ten where that says nothing."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:,.{decimals}f}" if decimals <= 6 else f"{value:.2e}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def decimals_of(value: float, spread: float) -> int:
    """Decimals that carry news: two digits of the spread, yet at most four of a larger value."""
    if not math.isfinite(value) or not math.isfinite(spread):
        return 3
    if spread == 0 and value == round(value):
        return 0  # a count
    size = spread or abs(value) / 100
    news = 1 - math.floor(math.log10(size))
    if abs(value) > size:
        news = min(news, 3 - math.floor(math.log10(abs(value))))
    return max(0, news)


def _pack(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, tuple):
        return [_pack(v) for v in value]
    return {k: _pack(v) for k, v in value.items()} if isinstance(value, dict) else value


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "bool | None": (bool, type(None)),
    "tuple[float, ...]": (tuple,),
    "Protocol": (Protocol,),
}


def _read(kind: type, value: Any, where: str) -> Any:
    """A dataclass from a mapping: every key known, every required field there, every type right."""
    if not isinstance(value, Mapping):
        raise RefusedError(f"{where} is missing or no table", where=where, remedy=AGAIN)
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(value) - set(known)):
        raise RefusedError(f"unknown field '{unknown[0]}'", where=where, remedy=AGAIN)
    made = {k: _unpack(v, str(known[k].type)) for k, v in value.items()}
    for name, item in made.items():
        legal = _KINDS[str(known[name].type)]
        if not isinstance(item, legal) or (isinstance(item, bool) and bool not in legal):
            raise RefusedError(f"field '{name}' holds {item!r:.60}", where=where, remedy=AGAIN)
    try:
        return kind(**made)
    except TypeError as error:
        raise RefusedError(str(error).replace("__init__() ", ""), where=where, remedy=AGAIN) from None


def _unpack(value: Any, kind: str) -> Any:
    if kind.startswith("tuple"):
        numbers = [_unpack(v, "float") for v in value] if isinstance(value, list) else [None]
        return tuple(numbers) if all(type(v) is float for v in numbers) else value
    if kind.startswith("float") and value in ("inf", "-inf", "nan"):
        return float(value)
    return float(value) if kind.startswith("float") and type(value) is int else value


_WORDS = {
    "data": "measured on different data",
    "split": "judged by different parts of the data",
    "samples": "measured on different numbers of samples",
    "reference": "judged by different numbers of real images",
    "features": "computed from different features",
    "resize": "computed from differently resized images",
}


def comparable(a: Metric, b: Metric) -> str | None:
    """None if the two may be ranked, else the reason, naming the field and both values."""
    if a.name != b.name or a.unit != b.unit:
        return f"{a.name} and {b.name} are different quantities"
    for name in DECIDING:
        x, y = getattr(a.protocol, name), getattr(b.protocol, name)
        if x != y:
            return f"{_WORDS[name]} ({name}: {_value(x)} and {_value(y)})"
    return None


def _value(x: str | int) -> str:
    return f"{x:,}" if isinstance(x, int) else (x or "none")


def ranked(metrics: Sequence[Metric]) -> list[Metric]:
    """The metrics from best to worst, those that tie in value in the order given; unlike ones are refused."""
    for other in metrics[1:]:
        if reason := comparable(metrics[0], other):
            raise UsageError(
                f"the {other.name} of these runs cannot be ranked: {reason}",
                remedy="Evaluate both runs again with the same data, features and counts.",
            )
    if metrics and metrics[0].lower is None:
        raise UsageError(f"{metrics[0].name} has no better or worse", remedy="Rank by another metric.")
    return sorted(metrics, key=lambda m: m.value if m.lower else -m.value)


def apart(a: Metric, b: Metric, errors: float = 2.0) -> bool:
    """Whether two comparable metrics differ by more than `errors` joint standard errors."""
    return abs(a.value - b.value) > errors * math.hypot(a.spread, b.spread)


def ordered(metrics: Sequence[Metric]) -> list[Metric]:
    """The order to read them in: below 2,048 images the kernel distance first, its note saying why."""
    small = [
        m.name == "kernel distance" and min(m.protocol.samples, m.protocol.reference) < SMALL for m in metrics
    ]
    first = [replace(m, note=_reason(m)) for m, s in zip(metrics, small, strict=True) if s]
    return first + [m for m, s in zip(metrics, small, strict=True) if not s]


def _reason(m: Metric) -> str:
    n = min(m.protocol.samples, m.protocol.reference)
    return (
        f"first, because with {n:,} images (fewer than {SMALL:,}) the Frechet distance is mostly "
        "bias, while the kernel distance has none"
    )
