"""`sfumato distill RUN`: a run that samples in one to four network calls, made from a diffusion run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Console
from ..options import Device, Json, Sets, parse_set

NAME = "distill"


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A trained run of diffusion, diffusevae, ddpm, improved-ddpm, vdm, ncsn, dit or jit.",
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="easy, consistency, continuous, shortcut or progressive; the dials of one, for --set: "
            "`sfumato recipes easy`.",
        ),
    ] = "easy",
    out: Annotated[
        Path | None, typer.Option("--out", help="The student's run folder; default: RUN-METHOD.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", help="Budget in hours; default: 0.3 of the teacher's.")
    ] = None,
    examples: Annotated[int | None, typer.Option("--examples", help="Budget in training examples.")] = None,
    settings: Sets = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random in training.")] = 0,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32 or bf16; default: what pays on this device.")
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option("--judge", help="A classifier run; default: one beside RUN on the same data."),
    ] = None,
    judged: Annotated[
        int | None,
        typer.Option("--judged", min=0, help="Samples in the table beside the teacher; 0: no table."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start again in a folder that holds another run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Distil RUN to a few steps. The same command again resumes.

    Every other verb but curve and likelihood takes the student.
    """
    from ..distill import distill
    from ..report import EVALUATION
    from ..step_table import read_steps
    from ..train import Budget

    console = Console(as_json)
    student = distill(
        run,
        method,
        out=out,
        budget=Budget(hours=hours, examples=examples),
        settings=parse_set(settings),
        seed=seed,
        device=device,
        precision=precision,
        judge=judge,
        judged=judged,
        fresh=fresh,
        console=console,
    )
    table = read_steps(student.path)
    console.answer(student.summary() | {"steps": table.to_json()}, [f"Done: {student.path}"])
    beside = [f"sfumato evaluate {run}", f"sfumato compare {run} {student.path}"]
    if not (run / "run.json").exists():
        beside = []  # the teacher is gone
    elif (run / EVALUATION).exists():
        del beside[0]
    console.next(*student.next_commands(), *beside)
