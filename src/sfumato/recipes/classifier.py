"""The classifier whose features and confidence judge generated images, or which guides their sampling."""

from __future__ import annotations

import math

from torch import nn

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..diffusion.clocks import geometric
from ..diffusion.times import LogNormalSigma
from ..models.classifier import Classifier, NoisyClassifier
from ..objectives.cross_entropy import CrossEntropy, NoisyCrossEntropy
from ..objectives.objective import Objective
from ..training.rates import Cosine
from ..training.stage import Recipe, Stage
from .diffusion import HIGHEST, LOWEST, class_count
from .sizes import spread

SMOOTHING = 0.1  # of the judge; a guide's probabilities are to be true ones
LEVELS = (-0.4, 1.6)  # mean and deviation of log sigma in training a guide, for data of deviation 1/2


def classifier(
    facts: Facts,
    *,
    noisy: bool = False,
    width: int = 32,
    features: int = 64,
    smoothing: float | None = None,
    batch: int = 128,
) -> Recipe:
    """A small residual classifier; `evaluate` compares images in its features.

    Digits 8 x 8: 98 % of held-out digits right after a minute on two CPU cores. With noisy=true it is
    trained on noisy images of all levels and told the level: it guides sampling
    (`sfumato sample RUN --class NAME --guidance 2 --classifier THIS_RUN`) and judges nothing.

    noisy      train on noisy images, to guide by instead of to judge by
    width      channels of the first level
    features   numbers by which an image is described
    smoothing  label smoothing, so that features stay informative where classes are easily told apart; 0.1,
               with noisy 0
    batch      images in a training step
    """
    if not facts.space:
        raise UsageError(
            "the classifier reads signals, images and volumes, and these data are points",
            where=facts.source or None,
            remedy="Points need no classifier: evaluate compares their statistics as they are.",
        )
    classes = class_count(facts, conditional=True)
    net = lazy(Classifier)(facts.channels, facts.space, classes, width=width, features=features, noisy=noisy)
    data = round(spread(facts), 4)
    model: nn.Module = net
    objective: Objective = lazy(CrossEntropy)(SMOOTHING if smoothing is None else smoothing)
    if noisy:
        center, deviation = LEVELS
        times = lazy(LogNormalSigma)(round(center + math.log(2.0 * data), 3), deviation)
        model = lazy(NoisyClassifier)(net, lazy(geometric)(LOWEST, HIGHEST), data)
        objective = lazy(NoisyCrossEntropy)(times, smoothing or 0.0)
    return lazy(Recipe)(
        model=model,
        stages=(
            lazy(Stage)(
                name="classifier", objective=objective, rate=lazy(Cosine)(peak=2e-3), batch=batch, decay=0.01
            ),
        ),
    )
