"""`sfumato traverse RUN`: one latent moved at a time, the one that carries most first."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import Class, Count, Device, Guidance, Json, Out, RunPath, Seed, SolverName, Steps

NAME = "traverse"


def command(
    run: RunPath,
    latents: Annotated[
        int,
        typer.Option(
            "--latents",
            min=1,
            help="How many latents (of a ladder levels, of codes directions), the foremost.",
        ),
    ] = 8,
    count: Count = 9,
    reach: Annotated[
        float,
        typer.Option(
            "--reach",
            help="From -REACH to +REACH standard deviations, of the prior or of an autoencoder's own unit; "
            "a ladder's level goes towards another draw of itself and arrives at 2.5.",
        ),
    ] = 2.5,
    seed: Seed = 0,
    steps: Steps = None,
    solver: SolverName = None,
    class_name: Class = None,
    guidance: Guidance = None,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write a row for each latent, by the KL it carries (nats), or by its spread in an autoencoder.

    Of a ladder a row for each level, and a second picture: samples level by level, finer ones at their means.
    Of discrete codes a row for each direction in which their embeddings spread, rounded to the nearest codes.
    """
    from ..pictures import ready, write_rows
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    ready(opened, out)
    asked = {"steps": steps, "solver": solver, "guidance": guidance}
    result = opened.traverse(latents, count, reach=reach, seed=seed, class_name=class_name, **asked)
    grid = write_rows(opened, result.rows, out, "traverse")
    drawn = {"grid": str(grid)}
    if result.levels:
        drawn["levels"] = str(write_rows(opened, result.levels, out, "levels"))
    name = "kl" if result.word == "nats" else result.word
    console.answer({**drawn, name: dict(result.carried)}, [*result.lines(), *drawn.values()])
