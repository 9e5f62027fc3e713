"""Options that several verbs share, with one help text each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UsageError

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder made by `sfumato train`.")]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
Seed = Annotated[
    int, typer.Option("--seed", help="Image k is a function of (SEED, k) alone; the batch has no influence.")
]
Count = Annotated[int, typer.Option("-n", "--count", min=1, max=1_000_000, help="How many.")]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Solver steps; default: the recipe's plan.")
]
SolverName = Annotated[
    str | None,
    typer.Option(
        "--solver",
        help="ddim, heun, dpm++2m, unipc, consistency; with noise: ancestral, sde, sde-dpm++2m, sde-heun, "
        "langevin, pc. Default: the recipe's.",
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option("--guidance", help="0 unconditional, 1 conditional, above 1 guided."),
]
GridName = Annotated[
    str | None,
    typer.Option(
        "--grid", help="uniform, quadratic, trailing, karras, log-snr, angle, or optimised for this very run."
    ),
]
Eta = Annotated[
    float | None, typer.Option("--eta", help="Fresh noise in DDIM: 0 deterministic (default), 1 ancestral.")
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval", metavar="LOW,HIGH", help="Guide only between two log-SNRs, e.g. -2,5."
    ),
]
ClassifierRun = Annotated[
    Path | None,
    typer.Option("--classifier", help="Guide by this run of `train classifier --set noisy=true`."),
]
GuideRun = Annotated[
    Path | None,
    typer.Option(
        "--guide", help="Guide away from a worse version: another run, or RUN itself as it was early."
    ),
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="Scale of the first noise (and of the latent).")
]
Start = Annotated[
    float | None,
    typer.Option(
        "--start", help="Refine the first guess from this ratio of noise to signal on (diffusevae), e.g. 1."
    ),
]
Class = Annotated[
    str | None, typer.Option("--class", help="A class by name; default: drawn at random for each image.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Where to write; default: inside the run.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: cuda if it is there.")]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32 (default), or bf16: two to four times as fast where the processor has it.",
    ),
]
Size = Annotated[str | None, typer.Option("--size", help="Image size: 64 or 48x64 (height x width).")]
FitWord = Annotated[str | None, typer.Option("--fit", help="Mixed sizes: crop, pad or stretch.")]
AlphaWord = Annotated[str | None, typer.Option("--alpha", help="Transparency: drop, white, black or keep.")]
Channels = Annotated[int | None, typer.Option("--channels", help="1 for gray, 3 for colour.")]
Layout = Annotated[str | None, typer.Option("--layout", help="Axes of an array by letter, e.g. NHWC.")]
Labels = Annotated[str | None, typer.Option("--labels", help="A CSV with the columns file,label.")]
Quarantine = Annotated[
    bool, typer.Option("--quarantine", help="Leave unusable files out, however many there are.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a dial or a leaf of the recipe; repeatable."),
]

LONGEST = 100  # digits of a number; a float holds 308 of them


def shortened(text: str) -> str:
    """A text as a message can show it."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def words(text: str) -> list[str]:
    """Words parted by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers parted by commas; UsageError for anything else."""
    found = words(text)
    for word in found:
        if not (word.isascii() and word.isdigit() and len(word) <= LONGEST):
            raise UsageError(
                f"{option} takes whole numbers, not '{shortened(word)}'",
                remedy=f"For example: {option} 5,10,20",
            )
    return [int(word) for word in found]


def part(value: float | None) -> float | None:
    """A share of the data below 1, or a whole number of examples; UsageError for what is neither."""
    if value is None or 0.0 <= value < 1.0:
        return value
    if value >= 1.0 and value.is_integer():
        return int(value)
    raise UsageError(
        f"--held-out {value:g} is no part of the data",
        remedy="Give a share below 1, for example 0.2, or a whole number of images, for example 500.",
    )


def parse_set(entries: list[str] | None) -> dict[str, Any]:
    """{key: value} of repeated KEY=VALUE; a value is JSON where it parses as JSON, a word otherwise.

    UsageError for what is no KEY=VALUE, and for numbers that are not finite or have more than LONGEST digits.
    """
    settings: dict[str, Any] = {}
    for entry in entries or []:
        key, equals, text = entry.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                "--set takes KEY=VALUE", where=shortened(entry), remedy="For example: --set width=96"
            )
        settings[key.strip()] = _value(text, shortened(entry))
    return settings


def _value(text: str, where: str) -> Any:
    """The value of a setting; `where` is what a refusal shows."""
    import json

    def refuse(word: str) -> UsageError:
        told = f"'{shortened(word)}' is no number that can be used"
        remedy = f"Give a finite number of at most {LONGEST} digits; a value left out keeps its default."
        return UsageError(told, where=where, remedy=remedy)

    def constant(word: str) -> Any:
        raise refuse(word)

    def whole(word: str) -> int:
        if len(word) > LONGEST:
            raise refuse(word)
        return int(word)

    def real(word: str) -> float:
        if not math.isfinite(number := float(word)):
            raise refuse(word)
        return number

    try:
        return json.loads(text, parse_constant=constant, parse_int=whole, parse_float=real)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)
    except RecursionError:
        raise UsageError(
            "a value is nested too deeply", where=where, remedy="Give a number, a word or a list of them."
        ) from None
