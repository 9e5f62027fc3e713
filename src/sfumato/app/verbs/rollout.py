"""`sfumato rollout RUN [DATA]`: the future of clips, step by step and at once, beside the truth."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import Count, Device, Json, Out, RunPath, Seed

NAME = "rollout"


def command(
    run: RunPath,
    data: Annotated[str | None, typer.Argument(help="Clips; default: held-out ones of the run.")] = None,
    count: Count = 4,
    seen: Annotated[
        int | None, typer.Option("--seen", min=1, help="Frames the model sees; default: all but one jump.")
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Draw futures instead of taking the mean.")] = False,
    seed: Seed = 0,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write what came over what was predicted, by single steps and by jumps; errors, times, and certainty."""
    from ..pictures import ready
    from ..rollout import rollout, write_rollout
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    ready(opened, out)
    found = rollout(opened, data, count, seen=seen, seed=seed, draw=draw)
    path = write_rollout(opened, found, out)
    console.answer({"grid": str(path), **found.to_json()}, [*found.lines(), str(path)])
