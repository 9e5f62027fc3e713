"""A folder of samples: one file an image as soon as it is drawn, then grid.png and samples.json.

    samples.json    run, count, seed, class, plan; of every image its seed, its class and its file

It stands there only while it is true: what an earlier drawing left of it goes before the first file is
replaced. Every few blocks, and where the drawing is stopped, it is written for the images that are there,
without classes (which would have to be drawn) and with what was asked for under "unfinished". The same
command then goes on behind them, killed or stopped, since image k depends on the model and (seed, k) alone.
"""

from __future__ import annotations

import io
import json
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .. import __version__
from ..core.errors import Interrupted, RefusedError, SfumatoError
from ..data.decode import Unreadable, decode
from ..data.listing import SHEET, SHEET_OF
from ..data.write import suffix_for, write_image
from ..evaluation.features import fingerprint_of_module
from ..models.density import Plan
from ..models.given import seeds_of
from ..report import grid
from ..training.storage import JSON_LIMIT, from_json, read_regular, sha256, to_json
from .console import Console
from .drawing import blocks, origin
from .pictures import DISK, SAMPLES, as_model, prepared
from .progress import Pace
from .rows import Images
from .run import Run

SHOWN = 256  # images on the grid
OFTEN = 4  # blocks from one record of what is there to the next


@dataclass(frozen=True)
class Order:
    """What is to be drawn: `told` goes into samples.json and the folder's name; `words` are the user's."""

    count: int
    seed: int
    class_name: str | None
    plan: Plan
    told: Mapping[str, Any]
    words: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 64


class Samples:
    """A folder that is being filled with the samples of one order."""

    def __init__(self, run: Run, order: Order, out: Path | None = None) -> None:
        words = " ".join(f"{v}" for v in order.told.values() if v is not None)
        chosen = re.sub(r"[^A-Za-z0-9+.]+", "-", words)
        self.run, self.order = run, order
        self.folder = prepared(out or run.path / SAMPLES / f"n{order.count}-seed{chosen}")
        digits, suffix = max(4, len(str(order.count))), suffix_for(run.facts)
        self.names = [f"{i:0{digits}}{suffix}" for i in range(order.count)]
        self.seeds = seeds_of(order.seed, order.count)
        self.shown: list[Images] = []
        self.done = 0
        self.key = self._key()

    def write(self, console: Console) -> dict[str, Any]:
        """Draw and write what is missing; where all is. Interrupted where the user stops it."""
        self._take_up(console)
        pace = Pace(console, self.order.count - self.done)
        try:
            self._draw(pace)
            self._tell()
        except BaseException as error:
            with suppress(SfumatoError):  # what ended the drawing is the news
                self._record()
                self._sheet()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(
                    f"stopped: {self.done:,} of {self.order.count:,} images are drawn",
                    signal=signal.SIGINT,
                    where=self.folder,
                    remedy="Run the same command again to go on.",
                ) from None
            raise
        console.say(*self._others())
        sheet = {"folder": str(self.folder), "grid": str(self.folder / SHEET)}
        return {**sheet, "count": self.order.count, **self.order.told}

    def _draw(self, pace: Pace) -> None:
        """Every block to its files, as soon as it is drawn."""
        order, seeds = self.order, self.seeds[self.done :]
        drawn = blocks(self.run, order.plan, seeds, order.class_name, order.batch, pace.drew)
        for number, x in enumerate(drawn):
            for image in self.run.images(x):
                write_image(image, self.folder / self.names[self.done], self.run.facts)
                if self.done < SHOWN:
                    self.shown.append(image)
                self.done += 1
            if number % OFTEN == 0 and self.done < order.count:
                self._record()

    def _tell(self) -> None:
        """What all the images are, then the grid of the first."""
        order = self.order
        self._about(origin(self.run, order.plan, self.seeds, order.class_name))
        self._sheet()

    def _record(self) -> None:
        """What is there so far: nothing is drawn for it."""
        if self.done:
            left = {"of": self.order.count, "order": self.key}
            self._about({"seeds": self.seeds[: self.done], "unfinished": left})

    def _about(self, more: Mapping[str, Any]) -> None:
        about = {"run": str(self.run.path), "count": self.done, **self.order.told, **more}
        DISK.replace(self.folder / SHEET_OF, to_json(about | {"files": self.names[: self.done]}))

    def _sheet(self) -> None:
        """The grid of the first images."""
        if self.shown:
            x = as_model(np.stack(self.shown), self.run.facts)
            DISK.replace(self.folder / SHEET, grid.png(grid.grid(x, self.run.facts)))

    # ------------------------------------------------------------------------- what is there already

    def _take_up(self, console: Console) -> None:
        """Keep what the same order left unfinished; what else was told of the folder is no longer true."""
        path = self.folder / SHEET_OF
        about: Any = None
        if path.exists():
            with suppress(RefusedError):
                about = from_json(read_regular(path, JSON_LIMIT), path)
        files = self._unfinished(about)
        with suppress(OSError, ValueError, RefusedError, Unreadable):  # then all is drawn anew
            self.shown = [self._read(self.folder / name) for name in files[:SHOWN]]
            self.done = len(files)
        if self.done:
            console.say(f"Going on after the {self.done:,} images that are there.")
        if self.done and self.done == about["count"]:  # it is true until it is replaced
            return
        for name in (SHEET_OF, SHEET):
            if (self.folder / name).exists():
                DISK.remove(self.folder / name)

    def _unfinished(self, about: Any) -> list[str]:
        """The files of this very order that are there, up to the first that is not."""
        left = about.get("unfinished") if isinstance(about, dict) else None
        if not isinstance(left, dict) or left.get("order") != self.key:
            return []
        listed = about.get("files") if isinstance(about.get("files"), list) else []
        files = []
        for name, expected in zip(listed, self.names, strict=False):
            if name != expected or not (self.folder / name).is_file():
                break
            files.append(expected)
        return files

    def _key(self) -> str:
        """All that decides what image k is: the model that is there by its weights, whatever they saw."""
        run, order = self.run, self.order
        told: dict[str, Any] = {"told": dict(order.told), "words": dict(order.words), "version": __version__}
        told |= {"weights": [fingerprint_of_module(model) for model in self._models()]}
        told |= {"data": run.about.get("fingerprint"), "device": run.device.type}
        told |= {"recipe": run.folder.read("recipe.json")}
        return sha256(json.dumps(told, sort_keys=True, default=str).encode())

    def _models(self) -> list[nn.Module]:
        """The model, and what guides it from outside."""
        guide = self.order.plan.guide
        others = () if guide is None else (getattr(guide, "classifier", None), getattr(guide, "guide", None))
        return [self.run.model, *(other for other in others if isinstance(other, nn.Module))]

    def _read(self, path: Path) -> Images:
        """An image that was written, as it was."""
        facts, data = self.run.facts, path.read_bytes()
        if path.suffix == ".npy":
            pixels = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            pixels = decode(data)[1]
        bare = facts.size and facts.channels == 1
        return pixels.reshape(facts.size if bare else (*facts.size, facts.channels)).astype(facts.kind)

    def _others(self) -> list[str]:
        """A sentence about images of an earlier drawing that still lie in the folder."""
        mine, suffix = set(self.names), suffix_for(self.run.facts)
        found = sorted(p.name for p in self.folder.glob(f"*{suffix}") if p.stem.isdecimal())
        others = [name for name in found if name not in mine]
        if not others:
            return []
        named = others[0] if len(others) == 1 else f"{others[0]} ... {others[-1]}"
        are = "image of an earlier drawing is" if len(others) == 1 else "images of an earlier drawing are"
        return [f"{len(others):,} {are} still in {self.folder}: {named}. samples.json does not tell of them."]


def write_samples(run: Run, order: Order, out: Path | None, console: Console) -> dict[str, Any]:
    """One file an image, grid.png and samples.json (seeds, labels and plan); where they are."""
    return Samples(run, order, out).write(console)
