"""`sfumato sample RUN`: pictures out of a trained run; the run folder is the only model argument."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import (
    Class,
    ClassifierRun,
    Count,
    Device,
    Eta,
    GridName,
    Guidance,
    GuidanceInterval,
    GuideRun,
    Json,
    Out,
    Precision,
    RunPath,
    Seed,
    SolverName,
    Start,
    Steps,
    Temperature,
)

NAME = "sample"


def command(
    run: RunPath,
    count: Count = 64,
    seed: Seed = 0,
    steps: Steps = None,
    solver: SolverName = None,
    grid: GridName = None,
    eta: Eta = None,
    start: Start = None,
    class_name: Class = None,
    guidance: Guidance = None,
    guidance_interval: GuidanceInterval = None,
    classifier: ClassifierRun = None,
    guide: GuideRun = None,
    temperature: Temperature = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Images at a time on a GPU; on a CPU it has no influence.")
    ] = 64,
    precision: Precision = None,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write images, a grid, and a JSON file with seeds and labels. Image k depends on (SEED, k) alone."""
    from ..names import plan_line
    from ..pictures import ready
    from ..planning import plan_origin
    from ..run import open_run
    from ..samples import Order, write_samples

    console = Console(as_json)
    opened = open_run(run, device=device)
    ready(opened, out)
    asked = {"steps": steps, "solver": solver, "grid": grid, "eta": eta, "start": start}
    asked |= {"guidance": guidance, "interval": guidance_interval, "temperature": temperature}
    asked |= {"precision": precision}
    plan = opened.plan(classifier=classifier, guide=guide, **asked)
    opened.given(1, class_name, plan)  # refuses a class that is none before anything is replaced
    line = plan_line(opened.generator, plan)
    console.say(f"Plan: {line}{plan_origin(opened, classifier=classifier, guide=guide, **asked)}")
    told = {"seed": seed, "class": class_name, "plan": line}
    words = asked | {"classifier": classifier, "guide": guide, "batch": batch}
    order = Order(count, seed, class_name, plan, told, words, batch)
    written = write_samples(opened, order, out, console)
    console.answer(written, [f"{count} images in {written['folder']}, the grid in {written['grid']}"])
    console.next(f"sfumato evaluate {run}", f"sfumato interpolate {run}")
