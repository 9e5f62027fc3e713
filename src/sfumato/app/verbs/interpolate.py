"""`sfumato interpolate RUN`: a path between two samples: in z, in x_T or in both by slerp, or in codes."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import Class, Count, Device, Guidance, Json, Out, RunPath, Seed, SolverName, Start, Steps

NAME = "interpolate"


def command(
    run: RunPath,
    between: Annotated[
        str, typer.Option("--between", help="z (structure), x_T (detail), codes, or all: one row of each.")
    ] = "all",
    count: Count = 9,
    seed: Seed = 0,
    to_seed: Annotated[
        int | None, typer.Option("--to-seed", help="Seed of the far end; default SEED + 1.")
    ] = None,
    steps: Steps = None,
    solver: SolverName = None,
    start: Start = None,
    class_name: Class = None,
    guidance: Guidance = None,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write a row for each space: the images from one sample's to another's, everything else held fixed."""
    from ..pictures import ready, write_rows
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    ready(opened, out)
    rows = opened.interpolate(
        count,
        between=between,
        seed=seed,
        to_seed=seed + 1 if to_seed is None else to_seed,
        steps=steps,
        solver=solver,
        start=start,
        class_name=class_name,
        guidance=guidance,
    )
    grid = write_rows(opened, rows, out, "interpolate")
    console.answer({"grid": str(grid), "rows": list(rows)}, [f"Rows: {', '.join(rows)}", str(grid)])
