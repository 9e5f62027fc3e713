"""Autoguidance: a model led away from a worse version of itself (Karras et al. 2024, "Guiding a Diffusion
Model with a Bad Version of Itself", eq. 4).

    mean = mean(guide) + scale (mean(model) - mean(guide))

The guide is smaller or was trained for less time, on the same data and under the same condition: it errs
where the model errs, only further, so their difference points away from the errors. Unlike the difference
between conditional and unconditional answers it does not point away from rare examples of the class, and
needs no class at all. scale = 1 is the model, 0 the guide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.shapes import per_sample
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level
from .strength import Interval, Strength


class Autoguided(Denoiser):
    """One denoiser guided by another; scale and interval as in Strength.

    told: whether the guide is given the condition. A guide that knows none (told False) makes this
    classifier-free guidance with an unconditional model of its own. Where the answer is a single model's
    (scale 0 or 1, outside the interval) it is that model's own forward, bit for bit.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        guide: Denoiser,
        scale: float,
        interval: Interval | None = None,
        *,
        told: bool = True,
    ) -> None:
        super().__init__()
        self.denoiser, self.guide, self.told = denoiser, guide, told
        self.strength = Strength(scale, interval)

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The guided posterior: mean extrapolated, variance that of the model."""
        scale = self.strength.at(level)
        single = not isinstance(scale, Tensor)
        if single and scale == 1:
            return self.denoiser(x_t, level, cond)
        weak: Posterior = self.guide(x_t, level, cond if self.told else NOTHING)
        if single and scale == 0:
            return weak
        answer: Posterior = self.denoiser(x_t, level, cond)
        mean = torch.lerp(weak.mean, answer.mean, per_sample(scale, answer.mean))
        return Posterior(mean, answer.var, answer.fraction)
