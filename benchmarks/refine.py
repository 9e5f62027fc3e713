"""What a first guess is worth: DiffuseVAE in both formulations against a diffusion of equal network and time.

    .venv/bin/python benchmarks/refine.py TRAIN.parquet --test TEST.parquet [--hours 0.5] [--seed 0]
    .venv/bin/python benchmarks/refine.py ... --examples VAE REFINER DIFFUSION      counts in place of time

Four trainings by the command line, each alone on all cores: `classifier`, which judges; `diffusevae` with
formulation 1 and 2; `diffusion`. The refiner is the network of `diffusion` but for the channels that the
first guess joins to its input; what the VAE takes of DiffuseVAE's time its refiner lacks. Then samples by the
recipe's own solver at each of --steps, in the type of --precision: Frechet distance to the test images,
precision and recall on the judge's features (these two against the first test images, twice as many as
samples), beside those of as many real training images, the floor. A run that is there is gone on with: the
same command after a stop goes on where it stood.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
RUNS = {"form1": ("diffusevae", ["--set", "formulation=1"]),
        "form2": ("diffusevae", ["--set", "formulation=2"]),
        "diffusion": ("diffusion", [])}  # fmt: skip


def sfumato(*words):
    """One command of the command line."""
    subprocess.run([sys.executable, "-m", "sfumato", *map(str, words)], check=True)


def budget(chosen, name):
    """The words of a run's budget: hours, or the stages' examples."""
    if not chosen.examples:
        return ["--hours", chosen.hours]
    vae, refiner, diffusion = chosen.examples
    if name == "diffusion":
        return ["--examples", diffusion]
    shares = {"vae": vae / (vae + refiner), "refiner": refiner / (vae + refiner)}
    sets = [word for stage, share in shares.items() for word in ("--set", f"stages.{stage}.share={share}")]
    return ["--examples", vae + refiner, *sets]


class Judge:
    """Distances on the features of a classifier run, against the test images."""

    def __init__(self, path, test, count):
        from sfumato.app.run import open_run
        from sfumato.evaluation.features import ClassifierFeatures, extract

        run = open_run(path)
        self.features, self.extract = ClassifierFeatures(run.model, run.training.batch([0]).x), extract
        unseen = run.fitting(str(test))
        parts = (range(i, min(i + 500, len(unseen))) for i in range(0, len(unseen), 500))
        self.real = extract(self.features, (unseen.batch(ids).x for ids in parts))
        some = np.random.default_rng(0).permutation(len(run.training))[:count].tolist()
        self.floor = self.distances(run.training.batch(some).x)

    def distances(self, x):
        """Frechet distance, precision and recall of images, each with its spread."""
        from sfumato.evaluation.coverage import coverage
        from sfumato.evaluation.frechet import frechet

        mine = self.extract(self.features, x.split(500))
        far, near = frechet(mine, self.real), coverage(mine, self.real[: 2 * len(mine)])
        found = {"frechet": far, "precision": near.precision, "recall": near.recall}
        return {name: [round(v.value, 4), round(v.spread, 4)] for name, v in found.items()}


def told(summary):
    """What a run says of itself, without the places of its files."""
    return {k: Path(v).name if k == "data" else v for k, v in summary.items() if k != "run"}


def drawn(run, steps, count, bf16):
    """Samples of a run by its own solver, rounded to the depth of the data as files are."""
    from sfumato.training.execution import Execution

    fast = Execution(bf16=bf16, channels_last=True)
    fast.prepare(run.generator)
    with fast.context(run.device):
        plan = dataclasses.replace(run.generator.plan, steps=steps)
        return run.rounded(run.generator.sample(count, plan, seeds=range(count)).float())


def main():
    """Train, judge, one JSON object and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--test", required=True)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--examples", type=int, nargs=3, metavar=("VAE", "REFINER", "DIFFUSION"))
    parser.add_argument("--precision", default=None)
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 5, 10, 25, 50, 100])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge-hours", type=float, default=0.13)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "refine")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    folder, on = chosen.folder / Path(chosen.data).stem, (chosen.data, "--test", chosen.test)
    judge = folder / "judge"
    if not (judge / "report.html").exists():
        sfumato("train", "classifier", *on, "--hours", chosen.judge_hours, "--out", judge)
    for name, (recipe, sets) in RUNS.items():
        precision = ["--precision", chosen.precision] if chosen.precision else []
        words = [*budget(chosen, name), *precision, "--seed", chosen.seed, *sets]
        if not (folder / name / "report.html").exists():
            sfumato("train", recipe, *on, *words, "--out", folder / name)
    from sfumato.app.judges import commit, hardware
    from sfumato.app.run import open_run

    critic = Judge(judge, chosen.test, chosen.count)
    opened, rows = {name: open_run(folder / name) for name in RUNS}, []
    for steps in chosen.steps:  # few first: a stop leaves a table that compares
        for name, run in opened.items():
            x = drawn(run, steps, chosen.count, chosen.precision == "bf16")
            rows.append({"run": name, "steps": steps} | critic.distances(x))
            print(rows[-1], flush=True)
    kept = {
        name: {key: run.about[key] for key in ("budget", "settings", "seed")} | told(run.summary())
        for name, run in opened.items()
    }
    found = {"data": Path(chosen.data).stem, "samples": chosen.count, "reference": len(critic.real)}
    found |= {"judge": critic.features.label, "floor": critic.floor, "precision": chosen.precision or "fp32"}
    found |= {"commit": commit(), "hardware": hardware(run.device), "torch": torch.__version__}
    found |= {"runs": kept, "rows": rows}
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
