"""Classifiers: one that judges clean images, and one that guides through noise.

    logits = model(x)          (B, classes)        Classifier; model.features(x)  (B, D) in (-1, 1)
    logits = model(x_t, level) (B, classes)        NoisyClassifier: p(y given x_t)

Both are made by the `classifier` recipe on the user's own data, and are models like any other: a run folder
is what `evaluate` reads the first from and `sample --classifier` the second. The network, which is all of
the first, is described in nets/critic.py. The second puts it behind the scaling every denoiser has, so
that it serves diffusion models of any path and clock:

    logits = net(x_t / (sigma^2 + alpha^2 d^2)^1/2, log(sigma/alpha)/4)        d: deviation of the data
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from ..core.shapes import per_sample
from ..diffusion.level import Level
from ..diffusion.scaling import EdmScaling, c_noise
from ..diffusion.schedule import Schedule
from ..guidance.classifier import ClassPosterior
from ..nets.critic import Classifier

__all__ = ["Classifier", "NoisyClassifier"]


@final
class NoisyClassifier(ClassPosterior):
    """p(y given x_t) by a network built with noisy=True; the schedule is the one it is trained over."""

    def __init__(self, net: Classifier, schedule: Schedule, data: float = 0.5) -> None:
        super().__init__()
        if not net.noisy:
            raise ValueError("a classifier of noisy images is built with noisy=True")
        self.net, self.schedule, self.scaling = net, schedule, EdmScaling(data)

    @property
    def classes(self) -> int:
        """How many classes it knows."""
        return self.net.classes

    def forward(self, x_t: Tensor, level: Level) -> Tensor:
        """Logits (B, classes)."""
        return self.net(per_sample(self.scaling(level).input, x_t) * x_t, c_noise(level, x_t))
