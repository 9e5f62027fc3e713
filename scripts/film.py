"""The pictures of the README from a demo run: `python scripts/film.py runs/demo`.

film.png: the first eight seeds at chosen moments of both stages, one row a moment; interpolate.png as it is.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SEEDS, COLUMNS = 8, 6  # seeds in a row of the film; columns of a probe's sheet


def tiles(path: Path) -> list[Image.Image]:
    """The first images of a probe's sheet; beside the averaged weights' sheet may stand the raw weights'."""
    sheet = Image.open(path).convert("RGB")
    side, gap = 56, 3
    top = sheet.height - round(sheet.height / (side + gap)) * (side + gap) + gap  # the title's height, or 0
    places = [divmod(i, COLUMNS) for i in range(SEEDS)]
    corners = [(c * (side + gap), top + r * (side + gap)) for r, c in places]
    return [sheet.crop((x, y, x + side, y + side)) for x, y in corners]


def film(run: Path) -> Image.Image:
    """Rows of the same seeds, from the first step to the finished run."""
    rows = []
    for stage, wanted in (("vae", 2), ("refiner", 5)):
        found = sorted((run / "samples").glob(f"{stage}-[0-9]*.png"))
        picked = [found[round(i * (len(found) - 1) / (wanted - 1))] for i in range(wanted)]
        rows += [(f"{stage} at {int(p.stem.split('-')[1]):,} examples", tiles(p)) for p in picked]
    font = ImageFont.load_default(13)
    canvas = Image.new("RGB", (200 + SEEDS * 59, len(rows) * 59), "white")
    pen = ImageDraw.Draw(canvas)
    for y, (words, row) in enumerate(rows):
        pen.text((0, y * 59 + 20), words, fill=(90, 90, 90), font=font)
        for x, tile in enumerate(row):
            canvas.paste(tile, (200 + x * 59, y * 59))
    return canvas


if __name__ == "__main__":
    run = Path(sys.argv[1])
    IMAGES.mkdir(parents=True, exist_ok=True)
    film(run).save(IMAGES / "film.png", optimize=True)
    for name in ("interpolate", "traverse", "reconstruct"):
        shutil.copy(run / "samples" / f"{name}.png", IMAGES / f"{name}.png")
    print(f"wrote {IMAGES}")
