"""What a classifier of the real images says about the samples.

    confidence       mean over samples of max_c p(c given x)
    class entropy    H[mean over samples of p(c given x)] in bits; log2 K if all K classes are equally common
    classes present  number of classes that at least one sample is assigned to
    label accuracy   share of samples assigned to the class that was asked for

Each stands beside the same number for held-out images, the only standard there is: a confidence of 0.97
is low where real images reach 0.999. (The first two are the halves of the Inception score, Salimans et
al. 2016, kept apart because their product hides which one fails.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .spread import Estimate, Rows, share


@dataclass(frozen=True, slots=True)
class Verdict:
    """Confidence, entropy of the classes in bits, samples per class, accuracy where labels were asked for."""

    confidence: Estimate
    entropy: Estimate
    histogram: tuple[int, ...]
    accuracy: Estimate | None = None

    @property
    def present(self) -> int:
        """The number of classes with at least one sample."""
        return sum(n > 0 for n in self.histogram)

    def missing(self, classes: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The names (or numbers) of the classes no sample belongs to."""
        names = classes or tuple(str(i) for i in range(len(self.histogram)))
        return tuple(n for n, count in zip(names, self.histogram, strict=True) if count == 0)


def probabilities(classifier: nn.Module, batches: Iterable[Tensor]) -> Rows:
    """p(c given x) of all images, (n, classes); images go to where the classifier's weights are."""
    place = next((p.device for p in classifier.parameters()), None)
    with torch.inference_mode():
        # first to the CPU, then to float64, which not every device has
        logits = [classifier(x if place is None else x.to(place)).cpu() for x in batches]
        return torch.softmax(torch.cat(logits).double(), dim=1).numpy()


def entropy_of(p: Rows) -> float:
    """-sum p log2 p of one distribution (K,), in bits."""
    kept = p[p > 0]
    return float(-(kept * np.log2(kept)).sum())


def verdict(p: Rows, wanted: Tensor | None = None) -> Verdict:
    """What the class probabilities p (n, K) say; wanted (n,): the class each sample was to be of."""
    n = len(p)
    top, chosen = p.max(axis=1), p.argmax(axis=1)
    marginal = p.mean(axis=0)
    # first-order (delta-method) error of H[mean p]: the spread of -log2 marginal under each row
    surprise = p @ -np.log2(np.maximum(marginal, 1e-300))
    root = math.sqrt(n)
    return Verdict(
        confidence=Estimate(float(top.mean()), float(top.std(ddof=1)) / root),
        entropy=Estimate(entropy_of(marginal), float(surprise.std(ddof=1)) / root),
        histogram=tuple(int(c) for c in np.bincount(chosen, minlength=p.shape[1])),
        accuracy=None if wanted is None else share(chosen == wanted.cpu().numpy()),
    )
