"""What a first guess is worth: DiffuseVAE in both formulations against a diffusion of equal network and time.

    .venv/bin/python benchmarks/refine.py TRAIN.parquet --test TEST.parquet [--hours 0.5] [--seed 0]
    .venv/bin/python benchmarks/refine.py ... --examples VAE REFINER DIFFUSION      counts in place of time

Four trainings by the command line, each alone on all cores: `classifier`, which judges; `diffusevae` with
formulation 1 and 2; `diffusion`. The refiner is the network of `diffusion` but for the channels that the
first guess joins to its input; what the VAE takes of DiffuseVAE's time its refiner lacks. Then `evaluate` by
the recipe's own solver at each of --steps: Frechet distance with its floor (as many real training images),
precision and recall on the judge's features. A run that is there is gone on with: the same command after a
stop goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNS = {"form1": ("diffusevae", ["--set", "formulation=1"]),
        "form2": ("diffusevae", ["--set", "formulation=2"]),
        "diffusion": ("diffusion", [])}  # fmt: skip
TOLD = ("Frechet distance", "precision", "recall", "memorised")


def sfumato(*words, answer=False):
    """One command of the command line; its JSON answer if asked for."""
    line = [sys.executable, "-m", "sfumato", *map(str, words), *(["--json"] if answer else [])]
    done = subprocess.run(line, check=True, text=True, stdout=subprocess.PIPE if answer else None)
    return json.loads(done.stdout.strip().splitlines()[-1]) if answer else None


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


def judged(run, judge, steps, count, seed):
    """A row of the table: what `evaluate` says of a run at so many steps."""
    words = ["--judge", judge, "--steps", steps, "-n", count, "--seed", seed]
    metrics = sfumato("evaluate", run, *words, answer=True)["metrics"]
    row = {"steps": steps}
    for metric in metrics:
        protocol = metric["protocol"]
        if not protocol["features"].startswith("classifier") or metric["name"] not in TOLD:
            continue
        row |= {"plan": protocol["plan"], "samples": protocol["samples"]}
        row[metric["name"]] = [round(metric["value"], 4), round(metric["spread"], 4)]
        if metric["name"] == TOLD[0]:
            row["floor"] = round(metric["floor"], 4)
            about = {key: protocol[key] for key in ("data", "features", "reference", "hardware", "commit")}
    return row, about


def main():
    """Train, judge, one JSON object and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--test", required=True)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--examples", type=int, nargs=3, metavar=("VAE", "REFINER", "DIFFUSION"))
    parser.add_argument("--precision", default=None)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 50, 100])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge-hours", type=float, default=0.13)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "refine")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    folder, on = chosen.folder / Path(chosen.data).stem, (chosen.data, "--test", chosen.test)
    judge = folder / "judge"
    if not (judge / "report.html").exists():
        sfumato("train", "classifier", *on, "--hours", chosen.judge_hours, "--out", judge)
    found, rows = {}, []
    for name, (recipe, sets) in RUNS.items():
        run = folder / name
        precision = ["--precision", chosen.precision] if chosen.precision else []
        words = [*budget(chosen, name), *precision, "--seed", chosen.seed, *sets]
        if not (run / "report.html").exists():
            sfumato("train", recipe, *on, *words, "--out", run)
        about = json.loads((run / "run.json").read_text())
        for steps in chosen.steps:
            row, protocol = judged(run, judge, steps, chosen.count, chosen.seed)
            rows.append({"run": name} | row)
            found |= protocol
            print(rows[-1], flush=True)
        found.setdefault("runs", {})[name] = {
            key: about[key] for key in ("budget", "settings", "seed", "torch")
        }
    found = {"set": Path(chosen.data).stem} | found | {"rows": rows}
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
