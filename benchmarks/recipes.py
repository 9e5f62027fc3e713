"""Every autoencoder recipe by its command, on several data sets: one table, and the grids side by side.

    .venv/bin/python benchmarks/recipes.py digits mnist cifar10 odd moving-digits gtsrb-tracks lpc-walk \\
        --data FOLDER [--recipes ae vae ...] [--json FILE]

digits and moving-digits are built in; NAME is FOLDER/NAME-train.parquet with FOLDER/NAME-test.parquet for
judging; `odd` is a folder made here of 400 drawings of FOLDER/noto-emoji-train.parquet with everything that
folders have: gray, RGBA and 16-bit files, EXIF rotations, other shapes, upper-case extensions, one truncated
file. Clips (moving-digits, gtsrb-tracks, lpc-walk) are for td-vae, images for all other recipes.

For each data set of images a `classifier` judges (of `odd` and of clips the library's plain statistics do);
then `train`, `evaluate` on 1,000 samples. Frechet distance with that of as many real images, mean squared
error of reconstructions of held-out images (model units), SSIM, bits/dim of held-out images where the model
has a bound (a Bernoulli of grey values, as beta-vae has, gives none; td-vae bounds frames given the past),
and seconds of processor time for training all stages. Of clips also `rollout`: the squared error of every
frame ahead, step by step and jumped, beside standing still, over 100 held-out clips. One seed, EXAMPLES
images or clips a training; no recipe was tuned.

A row that is there is not made again, and the table holds every row there is: several processes can each
make those of some data sets, and whoever comes last writes all of them.
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
RECIPES += ["vae", "beta-vae", "hvae", "vq-vae", "vq-vae-2", "td-vae"]
CLIPS = {"moving-digits": 60_000, "gtsrb-tracks": 8_000, "lpc-walk": 4_000}
EXAMPLES = {"digits": 100_000, "odd": 12_000, "mnist": 60_000, "fashion-mnist": 60_000, "cifar10": 40_000}
EXAMPLES |= CLIPS
DEAR = {"hvae": 4, "vq-vae": 2, "vq-vae-2": 2}  # an example of these costs so many times as much
ROLLED, SHOWN = 100, 3  # clips rolled out for the numbers, for the picture
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

    broken = folder / "broken.png"
    if broken.exists():  # the last to be written
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = parquet.read_table(source, columns=["image"]).column("image").slice(0, ODD).to_pylist()
    for i, row in enumerate(rows):
        image, path = Image.open(BytesIO(row["bytes"])).convert("RGB"), folder / f"{i:03d}"
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
    broken.write_bytes((folder / "000.png").read_bytes()[:200])
    return folder


def places(name, chosen):
    """The words that name the data of a training."""
    if name in ("digits", "moving-digits"):
        return [name]
    if name == "odd":
        made = odd_folder(chosen.data / "noto-emoji-train.parquet", chosen.folder / "odd-images")
        return [made, "--size", 32, "--fit", "pad", "--alpha", "white", "--channels", 3]
    return [chosen.data / f"{name}-train.parquet", "--test", chosen.data / f"{name}-test.parquet"]


def judge_of(name, words, chosen):
    """A classifier of the data's classes, trained once; None where plain statistics judge."""
    if name == "odd" or name in CLIPS:
        return None
    judge = chosen.folder / f"{name}-judge"
    if not (judge / "report.html").exists():
        sfumato("train", "classifier", *words, "--examples", EXAMPLES[name], "--out", judge)
    return judge


def row(recipe, name, chosen):
    """Train one recipe, evaluate it: a row of the table, unless it is there."""
    out = chosen.folder / f"{name}-{recipe}"
    kept = out / "benchmark.json"
    if kept.exists():
        return json.loads(kept.read_text())
    from sfumato.app.judges import commit, hardware

    words = places(name, chosen)
    judge = judge_of(name, words, chosen)
    examples = EXAMPLES[name] // DEAR.get(recipe, 1)
    _, seconds = sfumato("train", recipe, *words, "--examples", examples, "--out", out)
    judged = ["--judge", judge] if judge else []
    answer, judging = sfumato("evaluate", out, *judged, "-n", chosen.count)
    found = {"data": name, "recipe": recipe, "examples": examples, "seconds": round(seconds, 1)}
    found |= {"evaluating": round(judging, 1), "samples": chosen.count}
    found |= {"commit": commit(), "hardware": hardware(torch.device("cpu"))}
    if name in CLIPS:
        told, _ = sfumato("rollout", out, "-n", ROLLED)
        found["ahead"] = {**told["mse"], "standing still": told["standing still"]}
        sfumato("rollout", out, "-n", SHOWN)  # the picture alone: of so few it can be looked at
    found["metrics"] = answer["metrics"]
    kept.write_text(json.dumps(found, indent=1))
    return found


def rows_of(folder):
    """All rows there are, by data set and recipe in the order of this file."""
    rows = [json.loads(kept.read_text()) for kept in folder.glob("*/benchmark.json")]
    names = list(EXAMPLES)
    return sorted(rows, key=lambda r: (names.index(r["data"]), RECIPES.index(r["recipe"])))


def figures(found):
    """The columns of a row: name -> (value, spread, floor). Bounds have names of what they are of."""
    features = "classifier" if found["data"] != "odd" and found["data"] not in CLIPS else "statistics"
    wanted = {"Frechet distance", "reconstruction error", "SSIM"}
    columns = {}
    for m in found["metrics"]:
        of = m["protocol"]["features"]
        if m["name"].startswith("ELBO") or (m["name"] in wanted and (not of or of.startswith(features))):
            columns[m["name"]] = [m["value"], m["spread"], m["floor"]]
    return columns


def contact_sheet(rows, folder, picture, side, path):
    """One picture of every run: a row per recipe, a column per data set."""
    from PIL import Image

    names, recipes = ([*dict.fromkeys(row[key] for row in rows)] for key in ("data", "recipe"))
    sheet = Image.new("RGB", (side * max(1, len(names)), side * max(1, len(recipes))), "white")
    for row in rows:
        found = folder / f"{row['data']}-{row['recipe']}" / "samples" / picture
        if found.exists():
            image = Image.open(found).convert("RGBA")  # the gaps between pictures are transparent
            image.thumbnail((side - 10, side - 10))
            place = names.index(row["data"]), recipes.index(row["recipe"])
            sheet.paste(image, (place[0] * side + 5, place[1] * side + 5), image)
    sheet.save(path)


def main():
    """Train, evaluate, print; one JSON object of all rows there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(EXAMPLES), metavar="NAME")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES, metavar="RECIPE")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=HERE.parent / "build" / "recipes")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    for name in chosen.names:
        for recipe in chosen.recipes:
            if (recipe == "td-vae") == (name in CLIPS):
                made = row(recipe, name, chosen)
                print(name, recipe, made["seconds"], figures(made), flush=True)
    rows = rows_of(chosen.folder)
    images, clips = ([r for r in rows if (r["data"] in CLIPS) == of_clips] for of_clips in (False, True))
    contact_sheet(images, chosen.folder, "final.png", 330, chosen.folder / "samples.png")
    contact_sheet(clips, chosen.folder, "rollout.png", 660, chosen.folder / "rollouts.png")
    table = [{k: v for k, v in r.items() if k != "metrics"} | figures(r) for r in rows]
    if chosen.json:
        chosen.json.write_text(json.dumps({"torch": torch.__version__, "rows": table}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
