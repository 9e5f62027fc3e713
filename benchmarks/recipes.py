"""Every autoencoder recipe by its command, on several data sets: one table, and the grids side by side.

    .venv/bin/python benchmarks/recipes.py digits mnist cifar10 odd --data FOLDER [--recipes ae vae ...]

digits is built in; NAME is FOLDER/NAME-train.parquet with FOLDER/NAME-test.parquet for judging; `odd` is a
folder made here of 400 drawings of FOLDER/noto-emoji-train.parquet with everything that folders have: gray,
RGBA and 16-bit files, EXIF rotations, other shapes, upper-case extensions, one truncated file.

For each data set a `classifier` judges (of `odd` the library's plain statistics do); then `train`, `evaluate`
on 1,000 samples. Frechet distance with that of as many real images, mean squared error of reconstructions
of held-out images (model units), SSIM, bits/dim of held-out images where the model has a bound, and seconds
of processor time for training all stages. One seed, EXAMPLES images a training; no recipe was tuned.
A run that is there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
RECIPES = ["ae", "denoising-ae", "sparse-ae", "k-sparse-ae", "contractive-ae"]
RECIPES += ["vae", "beta-vae", "hvae", "vq-vae", "vq-vae-2"]
EXAMPLES = {"digits": 100_000, "odd": 12_000, "mnist": 60_000, "fashion-mnist": 60_000, "cifar10": 40_000}
DEAR = {"hvae": 4, "vq-vae": 2, "vq-vae-2": 2}  # an example of these costs so many times as much
ODD = 400


def processor_seconds():
    """Of all finished children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sfumato(*words):
    """One command of the command line: what it printed for --json, and its processor time."""
    before = processor_seconds()
    command = [sys.executable, "-m", "sfumato", *map(str, words), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout), processor_seconds() - before


def odd_folder(source, folder):
    """Drawings as a folder holds them that grew over years; the images are the same each time."""
    import numpy as np
    import pyarrow.parquet as parquet
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rows = parquet.read_table(source, columns=["image"]).column("image").slice(0, ODD).to_pylist()
    for i, row in enumerate(rows):
        image, path = Image.open(BytesIO(row["image"]["bytes"])).convert("RGB"), folder / f"{i:03d}"
        match i % 8:
            case 0:
                image.convert("L").save(path.with_suffix(".png"))
            case 1:
                image.putalpha(Image.eval(image.convert("L"), lambda v: 255 if v < 250 else 0))
                image.save(path.with_suffix(".png"))
            case 2:
                deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
                Image.fromarray(deep).save(path.with_suffix(".TIFF"))
            case 3:
                exif = image.getexif()
                exif[0x0112] = 6  # shown turned by a quarter to the right
                image.rotate(90).save(path.with_suffix(".jpg"), exif=exif, quality=95)
            case 4:
                image.resize((96, 64)).save(path.with_suffix(".PNG"))
            case 5:
                image.resize((48, 80)).save(path.with_suffix(".webp"), lossless=True)
            case _:
                image.save(path.with_suffix(".png"))
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:200])
    return folder


def places(name, chosen):
    """The words that name the data of a training."""
    if name == "digits":
        return ["digits"]
    if name == "odd":
        made = odd_folder(chosen.data / "noto-emoji-train.parquet", chosen.folder / "odd-images")
        return [made, "--size", 32, "--fit", "pad", "--alpha", "white", "--channels", 3]
    return [chosen.data / f"{name}-train.parquet", "--test", chosen.data / f"{name}-test.parquet"]


def row(recipe, name, words, judge, chosen):
    """Train one recipe, evaluate it: a row of the table."""
    out = chosen.folder / f"{name}-{recipe}"
    kept = out / "benchmark.json"
    if kept.exists():
        return json.loads(kept.read_text())
    examples = EXAMPLES[name] // DEAR.get(recipe, 1)
    _, seconds = sfumato("train", recipe, *words, "--examples", examples, "--out", out)
    judged = ["--judge", judge] if judge else []
    answer, judging = sfumato("evaluate", out, *judged, "-n", chosen.count)
    found = {"data": name, "recipe": recipe, "examples": examples, "seconds": round(seconds, 1)}
    found |= {"evaluating": round(judging, 1), "metrics": answer["metrics"]}
    kept.write_text(json.dumps(found, indent=1))
    return found


def figures(found):
    """The columns of a row: name -> (value, spread, floor)."""
    features = "classifier" if found["data"] != "odd" else "statistics"
    wanted = {"Frechet distance", "reconstruction error", "SSIM", "ELBO (VAE)"}
    columns = {}
    for m in found["metrics"]:
        of = m["protocol"].get("features")
        if m["name"] in wanted and (of is None or of.startswith(features)):
            columns[m["name"]] = [m["value"], m["spread"], m["floor"]]
    return columns


def contact_sheet(rows, folder, path):
    """The grids of final samples: a row per recipe, a column per data set."""
    from PIL import Image

    names, recipes = (
        sorted({r["data"] for r in rows}),
        [r for r in RECIPES if any(r == q["recipe"] for q in rows)],
    )
    side = 330
    sheet = Image.new("RGB", (side * len(names), side * len(recipes)), "white")
    for i, recipe in enumerate(recipes):
        for j, name in enumerate(names):
            picture = folder / f"{name}-{recipe}" / "samples" / "final.png"
            if picture.exists():
                image = Image.open(picture).convert("RGB")
                image.thumbnail((side - 10, side - 10))
                sheet.paste(image, (j * side + 5, i * side + 5))
    sheet.save(path)


def main():
    """Train, evaluate, print; one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(EXAMPLES), metavar="NAME")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "recipes")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    from sfumato.app.judges import commit, hardware

    rows = []
    for name in chosen.names:
        words, judge = places(name, chosen), None
        if name != "odd":
            judge = chosen.folder / f"{name}-judge"
            if not (judge / "report.html").exists():
                sfumato("train", "classifier", *words, "--examples", EXAMPLES[name], "--out", judge)
        for recipe in chosen.recipes:
            rows.append(row(recipe, name, words, judge, chosen))
            print(name, recipe, rows[-1]["seconds"], figures(rows[-1]), flush=True)
    contact_sheet(rows, chosen.folder, chosen.folder / "samples.png")
    table = [{k: v for k, v in r.items() if k != "metrics"} | figures(r) for r in rows]
    found = {"samples": chosen.count, "commit": commit(), "hardware": hardware(torch.device("cpu"))}
    found |= {"torch": torch.__version__, "rows": table}
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
