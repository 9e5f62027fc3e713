"""`sfumato train RECIPE DATA`: look at the data, train every stage, sample from what was written, report.

The same command again continues a run that was stopped, and changes nothing about one that is done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...core.errors import UsageError
from ..console import Console
from ..options import (
    AlphaWord,
    Channels,
    Device,
    FitWord,
    Json,
    Labels,
    Layout,
    Quarantine,
    Sets,
    Size,
    parse_set,
    part,
)

NAME = "train"


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="See `sfumato recipes`.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="digits, shapes, swiss-roll, moving-digits, a folder, zip, .npy, .npz, Parquet file, or "
            "hub:owner/name.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder; default: runs/DATA-RECIPE.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", help="Budget in hours; default: half an hour.")
    ] = None,
    examples: Annotated[int | None, typer.Option("--examples", help="Budget in training examples.")] = None,
    settings: Sets = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random in training.")] = 0,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32 or bf16; default: what pays on this device.")
    ] = None,
    test: Annotated[
        str | None,
        typer.Option("--test", help="Held-out data; default: a tenth of DATA is held out (few: more)."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option("--held-out", help="Held out of DATA: a share such as 0.2, or a number of images."),
    ] = None,
    size: Size = None,
    fit: FitWord = None,
    alpha: AlphaWord = None,
    channels: Channels = None,
    layout: Layout = None,
    labels: Labels = None,
    quarantine: Quarantine = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start again in a folder that holds another run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train RECIPE on DATA. The same command again resumes."""
    from ..train import Budget, train

    console = Console(as_json)
    if test is not None and held_out is not None:
        raise UsageError("--test and --held-out exclude each other", remedy="Give one of them.")
    options = {"size": size, "fit": fit, "alpha": alpha, "channels": channels, "layout": layout}
    options |= {"labels": labels, "quarantine": quarantine}
    run = train(
        recipe,
        data,
        out=out,
        budget=Budget(hours=hours, examples=examples),
        settings=parse_set(settings),
        seed=seed,
        device=device,
        precision=precision,
        test=test,
        held_out=part(held_out),
        options=options,
        fresh=fresh,
        console=console,
    )
    console.answer(run.summary(), [f"Done: {run.path}"])
    console.next(*run.next_commands())
