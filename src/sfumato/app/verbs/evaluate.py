"""`sfumato evaluate RUN`: how good are the samples, beside what real data would score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Console
from ..options import (
    ClassifierRun,
    Device,
    Eta,
    GridName,
    Guidance,
    GuidanceInterval,
    GuideRun,
    Json,
    Precision,
    RunPath,
    Seed,
    SolverName,
    Start,
    Steps,
)

NAME = "evaluate"


def command(
    run: RunPath,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=10, help="Samples; default: as many as held out, at least 1,000."),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option("--judge", help="A classifier run; default: one beside this run on the same data."),
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Held-out data; default: the run's own.")] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws", min=1, max=5000, help="Draws of the importance-weighted bound, to 5,000; default 16."
        ),
    ] = None,
    bound: Annotated[
        str | None, typer.Option("--bound", help="Also bits/dim under a diffusion: ode or vlb.")
    ] = None,
    seed: Seed = 0,
    steps: Steps = None,
    solver: SolverName = None,
    grid: GridName = None,
    eta: Eta = None,
    start: Start = None,
    guidance: Guidance = None,
    guidance_interval: GuidanceInterval = None,
    classifier: ClassifierRun = None,
    guide: GuideRun = None,
    precision: Precision = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Fréchet and kernel distance, precision and recall, memorisation, bits/dim; each with its protocol."""
    from ..evaluate import evaluate
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    opened.folder.disk.probe(opened.path)  # now, not after all the drawing
    result = evaluate(
        opened,
        count=count,
        judge=judge,
        test=test,
        draws=draws,
        bound=bound,
        seed=seed,
        steps=steps,
        solver=solver,
        grid=grid,
        eta=eta,
        start=start,
        guidance=guidance,
        interval=guidance_interval,
        classifier=classifier,
        guide=guide,
        precision=precision,
        console=console,
    )
    console.answer(result.to_json(), result.lines())
    console.next(f"open {opened.path / 'report.html'}", f"sfumato compare {run} OTHER_RUN")
