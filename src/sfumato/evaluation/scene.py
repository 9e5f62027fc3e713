"""One measurement after another on the same samples: the parts that `judge.evaluate` puts together.

A scene holds what stays the same: the samples, both parts of the real data, and what every number must
carry along. Real images are taken in a fixed random order, so that the first n of them are a fair draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol as Interface

import numpy as np
from torch import Tensor, nn

from ..core.noise import seed_of
from ..data.dataset import Batch
from .confidence import Verdict, probabilities, verdict
from .coverage import coverage
from .features import (
    Features,
    Pixels,
    departures,
    extract,
    fingerprint_of,
    fingerprint_of_module,
)
from .frechet import frechet
from .kernel import kernel_distance
from .memorisation import AROUND, memorisation
from .neighbours import nearest
from .protocol import Metric, Protocol, ordered
from .spread import Estimate, Rows
from .store import Shelf, remembered

RATE = "share as close to a single training image as the closest 5% of held-out images are"
NEARNESS = "C_T, a z-value: below -3, samples lie closer to training images than unseen images do"
Measure = Callable[[Rows, Rows], Estimate]
DISTANCES: tuple[tuple[str, Measure], ...] = (
    ("Frechet distance", frechet),
    ("kernel distance", kernel_distance),
)
MOST_BALLS = 10_000  # images on each side of precision and recall, whose cost grows with their square


class Images(Interface):
    """A part of a data set: examples by position."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The examples at these positions."""
        ...


@dataclass(frozen=True, slots=True)
class About:
    """What the caller knows about the measurement and the numbers must carry along (see Protocol)."""

    data: str
    seed: str = "0"
    plan: str = ""
    precision: str = "float64"
    hardware: str = ""
    commit: str = ""
    classes: tuple[str, ...] = ()
    resize: str = ""  # how held-out images were resampled to the size of the run's, if they were


@dataclass(frozen=True, slots=True)
class Finding:
    """What one measurement says: metrics, words, likeliest copies, samples of each class."""

    metrics: tuple[Metric, ...]
    notes: tuple[str, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Samples (n, C, *space) between training and held-out images."""

    samples: Tensor
    train: Images
    held_out: Images
    about: About
    shelf: Shelf
    batch: int
    most: int

    def judged(self, features: Features) -> Finding:
        """Distances to held-out images and coverage of training images in one kind of features."""
        mine, train, held = self._sides(features)
        distances = self._distances(features, mine, train, held, DISTANCES)
        metrics = ordered([*distances, *self._coverage(features, mine, train, held)])
        notes = [f"{features.name}: {features.tells}", *_cautions(features, min(len(mine), len(held)))]
        if gone := departures(features.names, mine, held) if features.names else []:
            notes.append(f"{features.name}: samples differ from unseen images most in {'; '.join(gone)}.")
        return Finding(tuple(metrics), tuple(notes))

    def distance(self, features: Features) -> Metric:
        """The Frechet distance to held-out images alone, for whoever compares many sets of samples."""
        mine, train, held = self._sides(features)
        return self._distances(features, mine, train, held, DISTANCES[:1])[0]

    def copied(self) -> Finding:
        """Whether samples copy training images, pixel by pixel, and the likeliest copies."""
        pixels = Pixels(tuple(self.samples.shape[1:]))
        mine = extract(pixels, self.samples.split(self.batch))
        train, held = self._rows(pixels, self.train, "train"), self._rows(pixels, self.held_out, "held-out")
        key = (*self._key(pixels, self.train, "train"), *self._key(pixels, self.held_out, "held-out"))
        near = remembered(
            self.shelf,
            (*key, "nearest", str(AROUND)),
            lambda: nearest(held, train, min(AROUND, len(train)))[0],
        )
        found = memorisation(mine, train, held, nearest_held=near)
        protocol = self._protocol(pixels, "train", len(mine), len(train))
        rate = _metric("memorisation", found.rate, protocol, found.baseline, lower=True)
        nearness = _metric("nearness", Estimate(found.score, 1.0), protocol, Estimate(0.0, 1.0), lower=None)
        metrics = (replace(rate, note=RATE), replace(nearness, note=NEARNESS))
        chosen = self._chosen(self.train, "train")
        return Finding(metrics, (found.words(),), tuple((i, chosen[j]) for i, j in found.pairs(64)))

    def classified(self, classifier: nn.Module, wanted: Tensor | None) -> Finding:
        """What a classifier says of the samples, beside what it says of held-out images."""
        speaker = classifier.eval()
        mine = verdict(probabilities(speaker, self.samples.split(self.batch)), wanted)
        real = verdict(probabilities(speaker, self._real(self.held_out, "held-out")))
        a, label = self.about, f"classifier@{fingerprint_of_module(classifier)}"
        n, m = len(self.samples), sum(real.histogram)
        protocol = replace(_carried(a), samples=n, reference=m, split="held-out", features=label)
        entropy = _metric("class entropy", mine.entropy, protocol, real.entropy, lower=None)
        metrics = [
            _metric("confidence", mine.confidence, protocol, real.confidence, lower=False),
            replace(entropy, unit="bits"),
            _metric(
                "classes present",
                Estimate(mine.present, 0.0),
                protocol,
                Estimate(real.present, 0.0),
                lower=False,
            ),
        ]
        if mine.accuracy is not None:
            metrics.append(_metric("label accuracy", mine.accuracy, protocol, None, lower=False))
        return Finding(tuple(metrics), _absent(mine, real, a.classes), histogram=mine.histogram)

    def _sides(self, features: Features) -> tuple[Rows, Rows, Rows]:
        """Features of the samples, of training and of held-out images."""
        mine = extract(features, self.samples.split(self.batch))
        return (
            mine,
            self._rows(features, self.train, "train"),
            self._rows(features, self.held_out, "held-out"),
        )

    def _distances(
        self,
        features: Features,
        mine: Rows,
        train: Rows,
        held: Rows,
        measures: Sequence[tuple[str, Measure]],
    ) -> list[Metric]:
        protocol = self._protocol(features, "held-out", len(mine), len(held))
        real = train[: len(mine)]
        found = []
        for name, measure in measures:
            here, floor = measure(mine, held), measure(real, held)
            found.append(_metric(name, here, protocol, floor, lower=True))
        return found

    def _coverage(self, features: Features, mine: Rows, train: Rows, held: Rows) -> list[Metric]:
        n = min(len(mine), len(held), len(train), MOST_BALLS)
        here, floor = coverage(mine[:n], train[:n]), coverage(held[:n], train[:n])
        protocol = self._protocol(features, "train", n, n)
        names = ("precision", "recall", "density", "coverage")
        return [_metric(k, getattr(here, k), protocol, getattr(floor, k), lower=False) for k in names]

    def _chosen(self, part: Images, name: str) -> list[int]:
        """The positions of the images looked at, in an order that has nothing to do with their classes."""
        order = np.random.default_rng(seed_of("evaluate", name)).permutation(len(part))
        return [int(i) for i in order[: self.most]]

    def _real(self, part: Images, name: str) -> Iterator[Tensor]:
        chosen = self._chosen(part, name)
        for i in range(0, len(chosen), self.batch):
            yield part.batch(chosen[i : i + self.batch]).x

    def _rows(self, features: Features, part: Images, name: str) -> Rows:
        key = self._key(features, part, name)
        return remembered(self.shelf, key, lambda: extract(features, self._real(part, name)))

    def _key(self, features: Features, part: Images, name: str) -> tuple[str, ...]:
        """What the features of a part follow from."""
        chosen = self._chosen(part, name)
        probe = part.batch(chosen[:8]).x  # two splits of one data set must not share a key
        content = fingerprint_of(probe.cpu().numpy().tobytes())
        return (self.about.data, name, str(len(chosen)), content, features.label)

    def _protocol(self, features: Features, split: str, n: int, m: int) -> Protocol:
        carried = _carried(self.about)
        resize = "; then ".join(
            part for part in (self.about.resize, features.resize) if part not in ("", "none")
        )
        return replace(
            carried,
            split=split,
            samples=n,
            reference=m,
            features=features.label,
            resize=resize or "none",
        )


def _carried(a: About) -> Protocol:
    """A protocol with all that does not depend on the measurement."""
    record = {"plan": a.plan, "precision": a.precision, "hardware": a.hardware, "commit": a.commit}
    record["resize"] = a.resize or "none"
    return Protocol(a.data, split="", samples=0, reference=0, features="", seed=a.seed, **record)


def _metric(
    name: str, found: Estimate, protocol: Protocol, real: Estimate | None, *, lower: bool | None
) -> Metric:
    debiased = found.debiased if found.debiased != found.value else None
    metric = Metric(name, found.value, found.spread, protocol, lower, debiased=debiased)
    return metric if real is None else replace(metric, floor=real.value, floor_spread=real.spread)


def _cautions(features: Features, fewest: int) -> tuple[str, ...]:
    if fewest > features.dimension:
        return ()
    return (
        f"{features.name}: {fewest:,} images cannot fix a Gaussian of {features.dimension:,} dimensions; "
        "read the Frechet distance only as a multiple of its floor.",
    )


def _absent(mine: Verdict, real: Verdict, classes: tuple[str, ...]) -> tuple[str, ...]:
    gone = set(mine.missing(classes)) - set(real.missing(classes))
    words = ", ".join(sorted(gone))
    return (f"No sample belongs to {'class' if len(gone) == 1 else 'the classes'} {words}.",) if gone else ()
