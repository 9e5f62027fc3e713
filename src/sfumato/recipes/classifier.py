"""The classifier whose features and confidence judge generated images of the user's own data."""

from __future__ import annotations

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.classifier import Classifier
from ..objectives.cross_entropy import CrossEntropy
from ..training.rates import Cosine
from ..training.stage import Recipe, Stage
from .diffusion import class_count


def classifier(
    facts: Facts, *, width: int = 32, features: int = 64, smoothing: float = 0.1, batch: int = 128
) -> Recipe:
    """A small residual classifier; `evaluate` compares images in its features.

    Digits 8 x 8: 98 % of held-out digits right after a minute on two CPU cores.

    width      channels of the first level
    features   numbers by which an image is described
    smoothing  label smoothing, so that features stay informative where classes are easily told apart
    batch      images in a training step
    """
    if not facts.space:
        raise UsageError(
            "the classifier reads signals, images and volumes, and these data are points",
            where=facts.source or None,
            remedy="Points need no classifier: evaluate compares their statistics as they are.",
        )
    classes = class_count(facts, conditional=True)
    return lazy(Recipe)(
        model=lazy(Classifier)(facts.channels, facts.space, classes, width=width, features=features),
        stages=(
            lazy(Stage)(
                name="classifier",
                objective=lazy(CrossEntropy)(smoothing),
                rate=lazy(Cosine)(peak=2e-3),
                batch=batch,
                decay=0.01,
            ),
        ),
    )
