"""`sfumato reconstruct RUN [DATA]`: images through the latent and back, beside the originals."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import Class, Count, Device, Guidance, Json, Out, RunPath, Seed, SolverName, Start, Steps

NAME = "reconstruct"


def command(
    run: RunPath,
    data: Annotated[str | None, typer.Argument(help="Images; default: held-out ones of the run.")] = None,
    count: Count = 16,
    seed: Seed = 0,
    steps: Steps = None,
    solver: SolverName = None,
    start: Start = None,
    class_name: Class = None,
    guidance: Guidance = None,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write originals over their reconstructions, and the mean squared error."""
    from ..pictures import ready, write_rows
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    ready(opened, out)
    asked = {"steps": steps, "solver": solver, "start": start, "guidance": guidance}
    result = opened.reconstruct(data, count, seed=seed, class_name=class_name, **asked)
    console.say(*result.notes)
    grid = write_rows(opened, result.rows, out, "reconstruct")
    console.answer(
        {"grid": str(grid), "mse": result.mse, "rows": list(result.rows)},
        [
            f"Mean squared error {result.mse:.4f} (values scaled to [-1, 1]); rows: {', '.join(result.rows)}",
            str(grid),
        ],
    )
