"""`sfumato demo`: the whole story on the built-in digits, in minutes on a laptop's processor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Console
from ..options import Json

NAME = "demo"


def command(
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option("--minutes", help="Training and judging together.")] = 8.5,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Train a judge and a DiffuseVAE on digits, sample, measure, and write report.html."""
    from ..demo import demo

    console = Console(as_json)
    result = demo(out, minutes=minutes, seed=seed, console=console)
    console.answer(result.to_json(), result.lines())
    console.next(
        f"open {out / 'report.html'}",
        f"sfumato sample {out} -n 64 --seed 1",
        f"sfumato interpolate {out}",
        "sfumato train diffusevae FOLDER_OF_YOUR_IMAGES",
    )
