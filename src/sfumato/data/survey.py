"""What was found in the files, and the plan that follows from it.

Rules, each stated in the pipeline line of the facts:

    kind       the depth of most files (more bits win a tie); 8 and 16 bits are converted into each other
    channels   gray or colour as most files (colour wins a tie); other channel counts must agree
    size       the common size if at least half of the files share it; else a square whose side is the
               middle one of the short sides; either reduced to at most 128 x 128 pixels unless size is given
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .decode import Header
from .options import Alpha, Fit, Options, Plan

LARGEST_UNASKED = 128 * 128
EXAMPLES = 5
MOST_NAMED = 10_000  # names kept of one oddity; where more files share it, it is the rule
CONSTANT = "constant: every pixel is the same"


@dataclass
class Survey:
    """Counts over the files of a source, and the names of all bad and odd ones; what the doctor reads."""

    source: str = ""
    found: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # "height x width" -> files
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    colours: dict[str, int] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)  # (name, why)
    odd: dict[str, list[str]] = field(default_factory=dict)  # what -> names (at most MOST_NAMED)
    odd_counts: dict[str, int] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    notes: list[str] = field(default_factory=list)  # further remarks of the source

    def remark(self, what: str, name: str) -> None:
        """Count an oddity and keep its name."""
        self.odd_counts[what] = self.odd_counts.get(what, 0) + 1
        names = self.odd.setdefault(what, [])
        if len(names) < MOST_NAMED:
            names.append(name)

    def to_json(self) -> dict[str, Any]:
        """Plain values; from_json is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Survey:
        """A survey from plain values."""
        made = cls(**value)
        made.bad = [(name, why) for name, why in made.bad]
        return made


def count_headers(survey: Survey, headers: Iterable[tuple[str, Header]]) -> list[Header]:
    """Enter the headers of the good files into the survey."""
    kept = []
    tallies: dict[str, Counter[str]] = {
        k: Counter() for k in ("sizes", "modes", "formats", "kinds", "colours")
    }
    for name, header in headers:
        kept.append(header)
        tallies["sizes"][f"{header.height} x {header.width}"] += 1
        tallies["modes"][header.mode] += 1
        tallies["formats"][header.format] += 1
        tallies["kinds"][header.kind] += 1
        tallies["colours"][str(header.colours)] += 1
        if header.orientation in range(2, 9):
            survey.remark("turned upright by EXIF", name)
        if header.alpha:
            survey.remark("with transparency", name)
        if header.frames:
            survey.remark("with several frames or pages, the first is used", name)
        if header.mode == "CMYK":
            survey.remark("CMYK converted to RGB", name)
    for what, tally in tallies.items():
        setattr(survey, what, dict(tally.most_common()))
    return kept


def make_plan(headers: list[Header], options: Options, frames: int = 0) -> Plan:
    """The plan for these files under the user's options; needs at least one header.

    frames: how many stand side by side in a picture of a clip, each of which may be as large as a picture.
    """
    kinds = Counter(h.kind for h in headers)
    width = {"uint8": 1, "uint16": 2, "float32": 3}
    kind = max(kinds, key=lambda k: (kinds[k], width[k]))
    colours = Counter(h.colours for h in headers)
    return Plan(
        kind=options.kind or kind,
        colours=options.channels or max(colours, key=lambda c: (colours[c], c)),
        size=options.size or _size([(h.height, h.width) for h in headers], max(1, frames)),
        fit=options.fit,
        alpha=options.alpha,
        keeps_alpha=options.transparency or (options.alpha is Alpha.KEEP and any(h.alpha for h in headers)),
    )


def _size(sizes: list[tuple[int, int]], frames: int) -> tuple[int, int]:
    size, count = Counter(sizes).most_common(1)[0]
    if 2 * count < len(sizes):
        shorts = sorted(min(s) for s in sizes)
        side = shorts[(len(shorts) - 1) // 2]
        size = (side, side)
    height, width = size
    if height * width <= LARGEST_UNASKED * frames:
        return size
    scale = (LARGEST_UNASKED / (height * width)) ** 0.5
    return max(8, int(height * scale) // 8 * 8), max(8, int(width * scale) // 8 * 8)


def remark_conversions(survey: Survey, name: str, header: Header, plan: Plan) -> None:
    """Note every file that is not used as it is."""
    if header.colours != plan.colours:
        words = {1: "gray", 3: "RGB"}
        was, now = (words.get(c, f"{c}-channel") for c in (header.colours, plan.colours))
        survey.remark(f"{was} converted to {now}", name)
    if header.kind != plan.kind:
        bits = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}
        survey.remark(f"{bits[header.kind]} converted to {bits[plan.kind]}", name)
    down, across = plan.size[0] / header.height, plan.size[1] / header.width
    if max(down, across) > 2:
        survey.remark("tiny, enlarged more than twice", name)
    if max(down, across) < 1 / 16:
        survey.remark("huge, reduced more than 16 times", name)
    if plan.fit is Fit.CROP and min(down, across) < 0.75 * max(down, across):
        survey.remark("of another shape, more than a quarter is cut off", name)


def pipeline(plan: Plan, survey: Survey, high: float, low: float) -> str:
    """The preprocessing in one line."""
    height, width = plan.size
    parts = []
    if any("EXIF" in what for what in survey.odd_counts):
        parts.append("EXIF rotation applied")
    if "with transparency" in survey.odd_counts:
        words = {
            Alpha.DROP: "transparency dropped",
            Alpha.WHITE: "transparency on white",
            Alpha.BLACK: "transparency on black",
            Alpha.KEEP: "transparency kept as a channel",
        }
        parts.append(words[plan.alpha])
    if set(survey.sizes) != {f"{height} x {width}"}:
        words_fit = {
            Fit.CROP: "scaled (Lanczos) and cropped in the middle",
            Fit.PAD: "scaled (Lanczos) and padded by the edge",
            Fit.STRETCH: "stretched (Lanczos)",
        }
        parts.append(f"{words_fit[plan.fit]} to {height} x {width}")
    else:
        parts.append(f"{height} x {width} as it is")
    colour = {1: "gray", 3: "RGB"}.get(plan.colours, f"{plan.colours} channels")
    depth = {"uint8": "8-bit", "uint16": "16-bit", "float32": "float"}[plan.kind]
    parts.append(f"{colour}{' + alpha' if plan.keeps_alpha else ''} {depth}")
    return ", ".join([*parts, f"{low:g} ... {high:g} -> [-1, 1], no augmentation"])
