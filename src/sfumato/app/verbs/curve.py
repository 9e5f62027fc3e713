"""`sfumato curve RUN`: how few steps are enough, by which solver on which grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Console
from ..options import Device, Json, RunPath, Seed

NAME = "curve"


def command(
    run: RunPath,
    solvers: Annotated[
        str, typer.Option("--solvers", help="Words parted by commas; default: ddim,dpm++2m,unipc,heun.")
    ] = "",
    grids: Annotated[
        str,
        typer.Option(
            "--grids", help="As for `sample --grid`, parted by commas; default: the recipe's and optimised."
        ),
    ] = "",
    steps: Annotated[
        str, typer.Option("--steps", help="Numbers parted by commas; default: 4,6,9,14,20,32.")
    ] = "",
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=10, help="Samples a point; default: as `evaluate` draws."),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option("--judge", help="A classifier run; default: one beside this run on the same data."),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure solvers, grids and steps; `sample` then takes what is enough. Stopped, it goes on."""
    from ..curve import curve
    from ..options import numbers, words
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    opened.folder.disk.probe(opened.path)  # now, not after all the drawing
    result = curve(
        opened,
        solvers=words(solvers),
        grids=words(grids),
        steps=numbers("--steps", steps),
        count=count,
        judge=judge,
        seed=seed,
        console=console,
    )
    console.answer(result.to_json(), result.lines()[-2:])
    console.next(f"sfumato sample {run}", f"open {opened.path / 'report.html'}")
