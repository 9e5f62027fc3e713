"""`sfumato sample RUN`: pictures out of a trained run; the run folder is the only model argument."""

from __future__ import annotations

from ..console import Console
from ..options import (
    Class,
    Count,
    Device,
    Guidance,
    Json,
    Out,
    RunPath,
    Seed,
    SolverName,
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
    class_name: Class = None,
    guidance: Guidance = None,
    temperature: Temperature = None,
    batch: int = 64,
    out: Out = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write images, a grid, and a JSON file with seeds and labels. Image k depends on (SEED, k) alone."""
    from ..pictures import write_samples
    from ..run import open_run

    console = Console(as_json)
    opened = open_run(run, device=device)
    images = opened.sample(
        count,
        seed=seed,
        steps=steps,
        solver=solver,
        class_name=class_name,
        guidance=guidance,
        temperature=temperature,
        batch=batch,
    )
    plan = opened.describe_plan(steps=steps, solver=solver, guidance=guidance, temperature=temperature)
    told = {"seed": seed, "class": class_name, "plan": plan}
    written = write_samples(opened, images, out, told, opened.origin(count, seed=seed, class_name=class_name))
    console.answer(written, [f"{count} images in {written['folder']}, the grid in {written['grid']}"])
    console.next(f"sfumato evaluate {run}", f"sfumato interpolate {run}")
