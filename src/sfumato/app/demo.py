"""`demo`: the whole story on the built-in digits.

A classifier that will judge, a VAE that paints the coarse picture, a diffusion model that refines it,
samples, reconstructions, paths between samples, latents one at a time, and a report of how good it all
is. A third of the digits is held out: the judgement rests on 599 images that no model has seen.
"""

from __future__ import annotations

from pathlib import Path

from .console import Console
from .evaluate import Evaluation, evaluate
from .pictures import write_rows
from .run import open_run
from .train import Budget, train

HELD_OUT = 1 / 3
EPOCHS = 250  # of the refiner: on a fast machine more would only copy (docs/log.md)
SHARES = {"judge": 0.05, "model": 0.82}  # of the minutes; the rest is for judging and pictures


def demo(out: Path, *, minutes: float = 8.5, seed: int = 0, console: Console | None = None) -> Evaluation:
    """Train, sample and judge on digits within about `minutes`; the evaluation of the DiffuseVAE."""
    console = console or Console()
    console.say("1 of 3: a classifier, to judge by later")
    judge = out.with_name(f"{out.name}-judge")
    train(
        "classifier",
        "digits",
        out=judge,
        budget=Budget(hours=minutes * SHARES["judge"] / 60),
        seed=seed,
        held_out=HELD_OUT,
        console=console,
        looks=4,
    )
    console.say("", "2 of 3: DiffuseVAE, both stages")
    train(
        "diffusevae",
        "digits",
        out=out,
        budget=Budget(hours=minutes * SHARES["model"] / 60),
        settings={"stages.refiner.epochs": EPOCHS},
        seed=seed,
        held_out=HELD_OUT,
        console=console,
    )
    console.say("", "3 of 3: pictures and judgement")
    run = open_run(out)
    write_rows(run, run.reconstruct(count=12, seed=seed).rows, None, "reconstruct")
    write_rows(run, run.interpolate(seed=seed, to_seed=seed + 1), None, "interpolate")
    write_rows(run, run.traverse(6, seed=seed).rows, None, "traverse")
    return evaluate(run, judge=judge, seed=seed, console=console)
