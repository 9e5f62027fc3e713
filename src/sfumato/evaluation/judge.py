"""All judgements of a set of samples, each beside the same number for real images.

    samples against held-out    Frechet and kernel distance; floor: as many training images against held-out
    samples against training    precision, recall, density, coverage; floor: held-out against training
    samples beside held-out     nearest training images, pixel by pixel: does the model copy?
    classifier                  confidence, variety and presence of classes; floor: held-out

The floor of a distance is measured with as many real training images as there are samples, against the
same held-out images. It is about what a perfect model would get, including the bias of finite sets, so a
sample set's distance means something only as a multiple of it. About, and not exactly: a judge that was
trained on the same training images knows them a little better than it knows new ones. Held-out images were
never trained on: a model that copies its training set gains nothing. Yet a training that looks at them to
choose its best state, as this package's does, leaves them not quite unseen; images that chose nothing give
the fairest numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import DataError, UsageError
from .features import Features
from .protocol import Metric
from .scene import About, Finding, Images, Scene
from .store import Memory, Shelf

FEWEST = 10  # images on any side below which nothing can be judged
Generate = Callable[[int, int], Tensor]  # (first position, count) -> images (count, C, *space) in [-1, 1]


@dataclass(frozen=True)
class Judgement:
    """The metrics, the findings in words, and what a picture of the nearest neighbours needs.

    pairs: (sample, training image) of the likeliest copies, positions in `samples` and in the training
    part; samples: the images drawn, (n, C, *space); histogram: samples of each class by the classifier.
    """

    metrics: tuple[Metric, ...]
    notes: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    histogram: tuple[int, ...]
    samples: Tensor

    def find(self, name: str, features: str = "") -> Metric:
        """The metric of a name; of the features whose name begins so, where several have one."""
        for metric in self.metrics:
            if metric.name == name and metric.protocol.features.startswith(features):
                return metric
        raise KeyError(f"no metric '{name}'; there are {sorted({m.name for m in self.metrics})}")


def check_enough(train: int, held_out: int, count: int) -> None:
    """UsageError for fewer than ten samples, DataError for fewer than ten images held out or trained on."""
    if held_out < FEWEST:
        raise DataError(
            f"{held_out} images are held out; judging needs {FEWEST} that the model never saw",
            remedy=f"Give more with --test, or train again with more of them: --held-out {2 * FEWEST}.",
        )
    if train < FEWEST:
        raise DataError(
            f"the model was trained on {train} images; judging needs {FEWEST}", remedy="Train on more images."
        )
    if count < FEWEST:
        raise UsageError(
            f"{count} samples cannot be judged", remedy=f"Draw at least {FEWEST}, better 1,000 or more."
        )


def evaluate(
    generate: Generate,
    train: Images,
    held_out: Images,
    judges: Sequence[Features],
    about: About,
    *,
    count: int = 10_000,
    classifier: nn.Module | None = None,
    wanted: Tensor | None = None,
    shelf: Shelf | None = None,
    batch: int = 256,
    most: int = 50_000,
) -> Judgement:
    """Draw `count` samples (at most as many as there are training images: the floor) and judge them.

    generate: a pure function of positions. judges: the features, most telling first. classifier: with
    `wanted` (n,), the classes asked for, also accuracy. shelf: where features of real images are kept.
    most: real images looked at. UsageError for fewer than ten samples, DataError if fewer than ten images
    are held out or trained on.
    """
    check_enough(len(train), len(held_out), count)
    count = min(count, len(train), most)
    samples = torch.cat([generate(i, min(batch, count - i)) for i in range(0, count, batch)])
    scene = Scene(samples, train, held_out, about, shelf or Memory(), batch, most)
    findings: list[Finding] = [scene.judged(features) for features in judges]
    copies = scene.copied()
    findings.append(copies)
    if classifier is not None:
        findings.append(scene.classified(classifier, None if wanted is None else wanted[:count]))
    return Judgement(
        metrics=tuple(m for f in findings for m in f.metrics),
        notes=tuple(n for f in findings for n in f.notes),
        pairs=copies.pairs,
        histogram=findings[-1].histogram,
        samples=samples,
    )
