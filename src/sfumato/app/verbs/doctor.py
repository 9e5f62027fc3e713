"""`sfumato doctor [DATA]`: look at the data, or at this machine, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Console
from ..options import AlphaWord, Channels, FitWord, Json, Labels, Layout, Size

NAME = "doctor"


def command(
    data: Annotated[
        str | None, typer.Argument(help="What `train` would take; none: look at the machine.")
    ] = None,
    size: Size = None,
    fit: FitWord = None,
    alpha: AlphaWord = None,
    channels: Channels = None,
    layout: Layout = None,
    labels: Labels = None,
    preview: Annotated[
        Path | None, typer.Option("--preview", help="Where to write the preview picture.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Counts, sizes, ranges, duplicates, bad files by name, memory and time; and data-preview.png."""
    from ...data.inspect import examine
    from ...data.listing import PREVIEW_NAME
    from ..doctor import machine, opened, train_command, write_preview
    from ..estimate import FORECAST, forecast
    from ..train import untrainable

    console = Console(as_json)
    if data is None:
        facts = machine()
        console.answer(facts, [f"{key}: {value}" for key, value in facts.items()])
        return
    options = {"size": size, "fit": fit, "alpha": alpha, "channels": channels, "layout": layout}
    options |= {"labels": labels}
    found = opened(data, options)
    report = examine(found)
    console.say(*report.lines())  # before the steps of the forecast, which may take all memory there is
    console.say(*write_preview(found, preview or Path(PREVIEW_NAME)))
    if (refusal := untrainable(found.split().train, data)) is not None:
        console.answer(report.to_json() | {"estimates": []}, [f"Training would refuse: {refusal.what}."])
        return
    needs = [forecast(found, recipe) for recipe in FORECAST]
    console.answer(
        report.to_json() | {"estimates": [one.to_json() for one in needs]}, [one.line() for one in needs]
    )
    console.next(train_command(data, options, report))
