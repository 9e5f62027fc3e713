"""Time to quality: the Frechet distance of ours after a third of the time the best peer is given.

    .venv/bin/python benchmarks/quality.py digits [--peer $(benchmarks/peers.sh)] [--minutes 10]
    .venv/bin/python benchmarks/quality.py TRAIN.parquet --test TEST.parquet [--peer PYTHON] [...]

Both sides train on the same images and are judged by one classifier, trained here first on the training
images: Frechet distance of its features between 1,000 samples and the test images. Beside it the floor: as
many real training images. What our trainings choose by held-out images (the average of the weights), they
choose by a twentieth of the training images, set aside; the test images do nothing but judge.

Ours is `sfumato train diffusion` with a third of the minutes and what it picks by itself; its clock runs over
the whole command, data, trials of precision, sample grids and report included. The peer (quality_peer.py) is
azula's loop as its README has it, with its EDM-style denoiser, gradient clipping and an average of the
weights; its clock runs over training steps alone. Each runs by itself, one after the other, on --threads
cores. Digits: every third image is a test image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ASIDE = 0.05  # of the training images, for what a training of ours chooses by


def data_of(source, test, folder):
    """Training and test images as .npz files of uint8, which both sides read."""
    from sfumato.data.sources import open_data

    whole = open_data(source)
    if test is None:
        order = np.arange(len(whole))
        parts = {"train": whole.take(order[order % 3 != 0]), "test": whole.take(order[order % 3 == 0])}
    else:
        parts = {"train": whole, "test": open_data(test)}
    for name, part in parts.items():
        stored = part.rows_of(np.arange(len(part)))
        stored = stored if stored.shape[-1] in (1, 3) else np.moveaxis(stored, 1, -1)
        np.savez(folder / f"{name}.npz", images=stored, labels=part.label_ids)
    return folder / "train.npz", folder / "test.npz"


def judge_of(train, test, folder, examples):
    """Features of a classifier trained on the training images; what measures a set of images."""
    from sfumato.app.train import Budget
    from sfumato.app.train import train as fit
    from sfumato.evaluation.features import ClassifierFeatures, extract
    from sfumato.evaluation.frechet import frechet

    run = fit(
        "classifier", str(train), held_out=ASIDE, out=folder / "judge", budget=Budget(examples=examples)
    )
    unseen = run.fitting(str(test))
    features = ClassifierFeatures(run.model, run.training.batch([0]).x)
    real = extract(features, [unseen.batch(range(len(unseen))).x])

    def distance(x):
        return frechet(extract(features, [x]), real).value

    some = torch.from_numpy(np.random.default_rng(0).permutation(len(run.training))[:1000])
    return distance, distance(run.training.batch(some).x), run.facts


def ours(train, folder, minutes, seed, distance):
    """`sfumato train diffusion` for so long; its distance and seconds."""
    from sfumato.app.train import Budget
    from sfumato.app.train import train as fit

    start = time.perf_counter()
    run = fit("diffusion", str(train), held_out=ASIDE, out=folder / f"ours-{seed}", seed=seed,
              budget=Budget(hours=minutes / 60))  # fmt: skip
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    x = run.rounded(run.generator.sample(1000, seeds=range(1000)))
    rate = 1000 / (time.perf_counter() - start)
    million = sum(p.numel() for p in run.model.parameters()) / 1e6
    done = run.summary()
    return {"net": "sfumato", "seed": seed, "seconds": round(seconds), "frechet": round(distance(x), 3),
            "samples_per_s": round(rate, 1), "parameters_M": round(million, 2),
            "examples": done.get("examples")}  # fmt: skip


def peer(python, train, folder, minutes, seed, threads, distance, size):
    """The peer in its own Python; a row for each mark of its clock."""
    out = folder / f"azula-{seed}"
    out.mkdir(exist_ok=True)
    marks = [round(minutes * 60 * part) for part in (0.1, 0.2, 0.5, 1.0)]
    command = [python, str(HERE / "quality_peer.py"), str(train), str(out), "--size", size]
    command += ["--threads", str(threads), "--seed", str(seed), "--marks", *map(str, marks)]
    subprocess.run(command, check=True)
    rows = json.loads((out / "rows.json").read_text())
    for row in rows:
        x = torch.from_numpy(np.load(out / f"{row['seconds']}.npy")).float() / 127.5 - 1
        row["frechet"] = round(distance(x), 3)
    return rows


def main():
    """Judge, ours, peer; a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--test")
    parser.add_argument("--peer", help="the Python of the peers' environment")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", choices=["tiny", "micro"], help="the peer's network")
    parser.add_argument("--judge-examples", type=int, default=120_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "quality")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    folder = chosen.folder / Path(chosen.data).stem
    folder.mkdir(parents=True, exist_ok=True)
    train, test = data_of(chosen.data, chosen.test, folder)
    distance, floor, facts = judge_of(train, test, folder, chosen.judge_examples)
    size = chosen.size or ("tiny" if max(facts.space) <= 16 else "micro")
    rows = []
    for seed in chosen.seeds:
        rows.append(ours(train, folder, chosen.minutes / 3, seed, distance))
        if chosen.peer:
            rows += peer(chosen.peer, train, folder, chosen.minutes, seed, chosen.threads, distance, size)
    from sfumato.app.judges import commit, hardware

    about = {"commit": commit(), "hardware": hardware(torch.device("cpu")), "torch": torch.__version__}
    found = {"data": Path(chosen.data).stem, "floor": round(floor, 3), "threads": chosen.threads} | about
    found["rows"] = rows
    print(json.dumps(found, indent=1))
    best = statistics.mean(r["frechet"] for r in rows if r["net"] == "sfumato")
    print(f"ours after {chosen.minutes / 3:.1f} min: {best:.3f}; floor {floor:.3f}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
