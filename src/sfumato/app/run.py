"""A trained run, opened: the Python mirror of the command line.

    run = sfumato.open("runs/demo")
    run.sample(64, seed=0)            (64, 8, 8) or (64, H, W, C), in the depth of the training data
    run.reconstruct("photos/")        rows of originals, first-stage and final reconstructions
    run.interpolate(9, between="z")   the path from one sample to another
    run.traverse(8)                   the most informative latents, one at a time

The folder is the only argument: it knows its architecture, preprocessing, data range and classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import DataError, RefusedError, UsageError, did_you_mean
from ..core.shapes import rows_at_once
from ..data.dataset import Batch, Dataset, Split
from ..data.facts import Facts
from ..data.pixels import from_model, to_model
from ..data.sources import open_data, open_like
from ..models.classifier import NoisyClassifier
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..models.given import Given, seeds_of
from ..models.reconstruction import Reconstruction
from ..models.trace import LatentVariableModel
from ..models.vqvae import VqVae
from ..nets.compute import Compute
from ..training.rundir import RunDir
from .conversions import conversions
from .device import best_device
from .drawing import blocks, origin
from .guiding import sampler
from .names import plan_line
from .paths import MOVED, ends_of, path
from .planning import plan_of
from .progress import Pace
from .rows import Images, Reconstructions, Traversals
from .student import check_student, finest
from .traversals import Around
from .weights import Weights, described, read_weights, recipe_of

NO_DATA = (
    "Put them back as they were (a relative path counts from the current folder). --test replaces the "
    "held-out images only; sample, interpolate and reconstruct RUN DATA need none of them."
)

CHANGED = (
    "the data have changed since this run was trained (or are read otherwise: since 0.1.0 pictures that the "
    "program made and runs below the data are left out, and .jfif and .jpe files are read)"
)
QUICK = Compute(torch.float32, torch.channels_last, compiled=True)  # equal to rounding, a tenth faster


def as_images(stored: Images) -> Images:
    """(n, C, *size) as files keep it: channels last, a single channel left out."""
    last = np.moveaxis(stored, 1, -1)
    return last[..., 0] if last.shape[-1] == 1 and last.ndim > 2 else last


class Run:
    """A run folder with its model in memory; see the module for what it does."""

    def __init__(self, path: Path, device: str | None = None) -> None:
        self.path, self.folder = path, RunDir(path)
        self.about = described(self.folder)
        self.facts = Facts.from_json(self.folder.read("data.json"))
        self.recipe = recipe_of(self.folder)
        self.device = best_device(device)
        self.weights: Weights = read_weights(self.folder, self.recipe)
        self.model: nn.Module = self.recipe.model.to(self.device).eval()
        density = getattr(self.model, "density", None)
        if isinstance(density, Diffusion) and self.device.type == "cpu":
            QUICK.prepare(density)

    # -------------------------------------------------------------------------------- what it is

    @property
    def generator(self) -> Generator:
        """The model as something that can be sampled."""
        if not isinstance(self.model, Generator):
            raise UsageError(
                f"{self.path} holds a {self.about['recipe']}, which makes no images",
                where=self.path,
                remedy="Use it with another run: " + self.next_commands()[0],
            )
        return self.model

    def plan(self, **asked: Any) -> Plan:
        """The recipe's plan, or the one `curve` recommends, with what was asked for (see `plan_of`).

        steps, solver, grid, eta, guidance, interval, classifier, guide, temperature, start, precision.
        UsageError for what would change nothing: steps of a VAE, guidance without a condition.
        """
        check_student(self.about, self.generator.plan, self.path, asked, finest(self.recipe))
        return plan_of(self, **asked)

    def latent(self) -> tuple[Generator, LatentVariableModel]:
        """The generator that owns a small latent z, and its model."""
        here = self.generator
        first = here.conditioner.first if isinstance(here.conditioner, Reconstruction) else here
        if not isinstance(first.codec, LatentVariableModel):
            raise UsageError(
                f"{self.path} has no small latent z", remedy="Use a vae or a diffusevae run for this."
            )
        return first, first.codec

    @cached_property
    def whole(self) -> Dataset:
        """All images the run was made with; DataError if they are gone, RefusedError if they have changed."""
        try:
            data = open_data(self.about["data"], stored=True, **self.about.get("options", {}))
        except DataError as error:
            what = f"the data that {self.path} was trained on cannot be read: {error.what}"
            raise DataError(what, where=self.about["data"], remedy=NO_DATA) from error
        if data.fingerprint != self.about["fingerprint"]:
            raise RefusedError(CHANGED, where=self.about["data"], remedy=NO_DATA)
        return data

    @cached_property
    def data(self) -> Split:
        """The training and held-out parts the run was made with; the data must still be the same."""
        if self.about.get("test"):
            return Split(self.whole, self.fitting(self.about["test"]).mixed())
        return self.whole.split(self.about.get("held_out"))

    @property
    def training(self) -> Dataset:
        """The training part, for which held-out data from elsewhere need not be there."""
        return self.whole if self.about.get("test") else self.data.train

    def unseen(self, remedy: str) -> Dataset:
        """The held-out part; DataError with a remedy if nothing was held out."""
        part = self.data.held_out
        if not len(part):
            raise DataError("no images were held out from this run", where=self.path, remedy=remedy)
        return part

    def fitting(self, source: str) -> Dataset:
        """Other data, or one picture, seen as this run sees its own; DataError where they cannot be."""
        return open_like(source, self.facts, **self.about.get("options", {}))

    # -------------------------------------------------------------------------------- images

    def images(self, x: Tensor) -> Images:
        """Model values (n, C, *space) as images in the depth of the training data."""
        return as_images(from_model(x, self.facts))

    def rounded(self, x: Tensor) -> Tensor:
        """Model values as they come back from files of the data's depth."""
        return to_model(from_model(x, self.facts), self.facts)

    def sample(
        self,
        count: int = 64,
        *,
        seed: int = 0,
        class_name: str | None = None,
        batch: int = 64,
        plan: Plan | None = None,
        pace: Pace | None = None,
        **asked: Any,
    ) -> Images:
        """`count` images by a plan or by what is asked for; image k depends on (seed, k) and nothing else.

        pace: told of every block of images that is drawn. UsageError for a count below 1.
        """
        if count < 1:
            raise UsageError(f"{count} samples", remedy="Ask for 1 or more, e.g. run.sample(64).")
        plan = plan or self.plan(**asked)
        drew = None if pace is None else pace.drew
        parts = blocks(self, plan, seeds_of(seed, count), class_name, batch, drew)
        return np.concatenate([self.images(x) for x in parts])

    def origin(
        self, count: int, *, seed: int = 0, class_name: str | None = None, plan: Plan | None = None
    ) -> dict[str, list[Any]]:
        """What each of `count` samples came from: its own seed, and its class if the plan knows classes."""
        return origin(self, plan or self.generator.plan, seeds_of(seed, count), class_name)

    def given(self, count: int, class_name: str | None, plan: Plan | None = None) -> Given:
        """The class asked for, as labels."""
        if class_name is None:
            return Given()
        if "label" not in sampler(self, plan or self.generator.plan).slots:
            raise UsageError(
                f"{self.path} knows no classes",
                remedy="Train with --set conditional=true on data with classes, or guide by a classifier "
                "of noisy images: --classifier RUN.",
            )
        if class_name not in self.facts.classes:
            raise UsageError(f"no class '{class_name}'", remedy=did_you_mean(class_name, self.facts.classes))
        return Given(label=torch.full((count,), self.facts.classes.index(class_name)))

    def reconstruct(
        self,
        data: str | None = None,
        count: int = 16,
        *,
        seed: int = 0,
        class_name: str | None = None,
        **asked: Any,
    ) -> Reconstructions:
        """Held-out images (or those of `data`), the first stage's image of them, and the final one.

        A refiner that is told classes is told `class_name`, or one drawn at random for each image.
        """
        first = self.generator if isinstance(self.generator.codec, VqVae) else self.latent()[0]
        plan = self.plan(**asked)
        if data is None:
            source = self.unseen(f"Give images: sfumato reconstruct {self.path} DATA")
        else:
            source = self.fitting(data)
        count = min(count, len(source))
        label = self.given(count, class_name, plan)
        if label.names and first is self.generator:
            raise UsageError(
                "--class changes nothing here: what an image is rebuilt from is its latent alone",
                remedy="Leave --class out, or use a diffusevae run.",
            )
        x = source.batch(range(count)).x.to(self.device)
        rows = {"original": self.images(x)}
        z = self.generator.encode(x)
        coarse = first.sample(count, given=z, seeds=seeds_of(seed, count))
        final = coarse
        if first is self.generator:
            rows["reconstruction"] = self.images(coarse)
        else:
            final = self.generator.sample(count, plan, z.with_drawn(label), seeds=seeds_of(seed, count))
            rows |= {"vae": self.images(coarse), "refined": self.images(final)}
        told = () if data is None else tuple(conversions(source))
        return Reconstructions(rows, float((final - x).square().mean()), told)

    def interpolate(
        self,
        count: int = 9,
        *,
        between: str = "all",
        seed: int = 0,
        to_seed: int = 1,
        class_name: str | None = None,
        **asked: Any,
    ) -> dict[str, Images]:
        """Paths from the sample of one seed to that of another: in z, in x_T, and in everything at once.

        Discrete codes go by their embeddings, quantised along the way. With classes all images have one,
        `class_name` or that of the first: both ends are samples of it.
        """
        generator, plan = self.generator, self.plan(**asked)
        ends = ends_of(generator, plan, self.given(1, class_name, plan), (seed, to_seed))
        slots = sorted({*MOVED} & ends[0].names)
        if between not in (*slots, "all"):
            raise UsageError(
                f"nothing called '{between}' to interpolate", remedy=f"Here: {', '.join(slots)}, all."
            )
        moved = (
            [[s] for s in slots] + ([slots] if len(slots) > 1 else []) if between == "all" else [[between]]
        )
        rows = {}
        for names in moved:
            moves = {name: path(generator, name, ends[0], ends[1], count) for name in names}
            x = generator.sample(count, plan, replace(ends[0], **moves), seeds=seeds_of(seed, 1) * count)
            rows[" and ".join(names)] = self.images(x)
        return rows

    def traverse(
        self,
        latents: int = 8,
        count: int = 9,
        *,
        reach: float = 2.5,
        seed: int = 0,
        class_name: str | None = None,
        **asked: Any,
    ) -> Traversals:
        """One latent at a time around a sample's z (of `class_name`), the one that carries most first.

        It goes from -reach to +reach standard deviations of its prior; of the codes where it has none. A
        level of a ladder goes towards another draw of itself, and arrives there at a reach of 2.5; discrete
        codes go along the directions in which their embeddings spread most.
        """
        if not (math.isfinite(reach) and reach > 0.0):
            raise UsageError(
                f"a reach of {reach:g}", remedy="Standard deviations, above 0: e.g. --reach 2.5."
            )
        part = self.unseen("Train again on more images, or with held-out ones: --test.")
        plan = self.plan(**asked)
        around = Around(
            self,
            plan,
            self.given(1, class_name, plan),
            seed,
            count,
            reach,
            lambda most: batches(part, min(most, len(part)), self.device),
        )
        return around.traversals(latents)

    # -------------------------------------------------------------------------------- in words

    def summary(self) -> dict[str, Any]:
        """What the run is, for --json."""
        return {
            "run": str(self.path),
            "recipe": self.about["recipe"],
            "data": self.about["data"],
            "stages": list(self.weights.stages),
            "examples": self.weights.seen,
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def next_commands(self) -> list[str]:
        """What to type next."""
        if isinstance(self.model, NoisyClassifier):
            return [f"sfumato sample RUN --class NAME --guidance 2 --classifier {self.path}"]
        if not isinstance(self.model, Generator):
            return [f"sfumato evaluate RUN --judge {self.path}"]
        return [f"sfumato sample {self.path} -n 64", f"sfumato evaluate {self.path}"]

    def describe_plan(self, **asked: Any) -> str:
        """The sampling plan in words."""
        return plan_line(self.generator, self.plan(**asked))


def open_run(path: Path | str, *, device: str | None = None) -> Run:
    """Open a run folder; RefusedError if it is none, or damaged."""
    return Run(Path(path), device)


def batches(part: Dataset, count: int, device: torch.device) -> Iterator[Batch]:
    """The first `count` examples of a data set, as many at a time as their size allows."""
    size = rows_at_once(part.facts.shape)
    return (part.batch(range(i, min(i + size, count)), device) for i in range(0, count, size))
