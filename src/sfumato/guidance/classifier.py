"""Classifier guidance: a denoiser led by the gradient of a classifier that sees noise.

By Bayes' rule grad log q(x_t given y) = grad log q(x_t) + grad log p(y given x_t). With Tweedie's formula
a change s g of the score is a change of the posterior mean,

    mean' = mean + (sigma^2/alpha) s g,      g = grad log p(y given x_t)        any solver, deterministic too

(Dhariwal & Nichol 2021, alg. 2: eps' = eps - s sigma g). Their alg. 1 leaves the mean as it is and shifts
the drawn ancestral step instead,

    x_s ~ N(mu + s Sigma g, Sigma)                                              samplers/ancestral.py, tilt

The two shifts are alpha_s fresh (sigma_t^2/alpha_t) s g and s Sigma g. Their ratio is alpha_s/alpha_t for
the large variance and (alpha_s sigma_t^2)/(alpha_t sigma_s^2) for the small one: both go to 1 as the step
shrinks, and differ from it by O(step).

Scale gamma: an unconditional model gets s = gamma, so that 0 is the model and 1 its conditional version; a
model that is told the class itself gets s = gamma - 1, so that 1 is the model. Both aim at
q(x) p(y given x)^gamma.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.shapes import per_sample
from ..core.stable import Scalar
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level, combine
from .strength import Interval, Strength


class ClassPosterior(nn.Module, ABC):
    """p(y given x_t): a classifier of noisy tensors that is told the noise level."""

    @abstractmethod
    def forward(self, x_t: Tensor, level: Level) -> Tensor:
        """Logits (B, classes) of x_t (B, C, *space) at a level (floats or (B,))."""


def class_gradient(classifier: ClassPosterior, x_t: Tensor, level: Level, label: Tensor) -> Tensor:
    """grad log p(label given x_t) by x_t, (B, C, *space); works in and out of inference mode.

    Tensors made in inference mode can take part in no graph, so the graph is built on copies. The answer is
    a constant: the second derivative, a part of the divergence of a guided flow, is not taken.
    """
    with torch.inference_mode(False), torch.enable_grad():
        at = x_t.detach().clone().requires_grad_()
        log_p = torch.log_softmax(classifier(at, _copied(level)), dim=1)
        chosen = log_p.gather(1, label.clone().unsqueeze(1)).sum()
        return torch.autograd.grad(chosen, at)[0]


class ClassifierGuided(Denoiser):
    """Guides a denoiser towards the class in the label slot; scale and interval as in Strength.

    told: whether the denoiser is given the label. If not, the label is for the classifier alone and is
    taken out of the condition. Outside the interval the classifier adds nothing: there the scale is 1 for a
    denoiser that is told and 0 for one that is not. Where nothing is to be added, and at scale 0, no gradient
    is computed and the answer is the denoiser's own forward, bit for bit. Where alpha = 0 there is nothing
    to classify: no guidance.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: ClassPosterior,
        scale: float,
        interval: Interval | None = None,
        *,
        told: bool = False,
    ) -> None:
        super().__init__()
        self.denoiser, self.classifier, self.told = denoiser, classifier, told
        self.strength = Strength(scale, interval, outside=1.0 if told else 0.0)

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The guided posterior: mean shifted, variance that of the denoiser."""
        inner = self.unguided(x_t, level, cond)
        gradient = self.tilt(x_t, level, cond)
        if gradient is None:
            return inner
        return Posterior(combine((1.0, inner.mean), (_gain(level), gradient)), inner.var, inner.fraction)

    def unguided(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The denoiser's answer without the classifier; at scale 0 the unconditional one."""
        if not self.told:
            return self.denoiser(x_t, level, replace(cond, label=None))
        scale = self.strength.at(level)
        if isinstance(scale, Tensor):
            cond = cond.drop(scale != 0)
        elif scale == 0:
            cond = cond.drop(torch.zeros(len(x_t), dtype=torch.bool, device=x_t.device))
        return self.denoiser(x_t, level, cond)

    def tilt(self, x_t: Tensor, level: Level, cond: Condition) -> Tensor | None:
        """s grad log p(y given x_t), (B, C, *space); None where it is nothing.

        ValueError without a label: guidance to no class would be ignored in silence.
        """
        if cond.label is None:
            raise ValueError("a classifier guides to a class: give the condition a label")
        scale = self.strength.at(level)
        if isinstance(scale, Tensor):
            strength: Scalar = torch.where(scale == 0, 0.0, scale - 1.0) if self.told else scale
        else:
            strength = (0.0 if scale == 0 else scale - 1.0) if self.told else scale
            if strength == 0:
                return None
        if not isinstance(level.alpha, Tensor) and level.alpha == 0:
            return None
        gradient = class_gradient(self.classifier, x_t, level, cond.label)
        if cond.present is not None:
            strength = strength * cond.present.to(x_t.dtype)
        return per_sample(strength, x_t) * gradient


class Unguided(Denoiser):
    """The denoiser inside a guided one, under the condition that is meant for it."""

    def __init__(self, guided: ClassifierGuided) -> None:
        super().__init__()
        self.guided = guided

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The answer without the classifier."""
        return self.guided.unguided(x_t, level, cond)


def _gain(level: Level) -> Scalar:
    """sigma^2/alpha, and 0 where alpha is 0."""
    if isinstance(level.alpha, Tensor):
        some = level.alpha > 0
        return torch.where(some, level.sigma**2 / torch.where(some, level.alpha, 1.0), 0.0)
    return level.sigma**2 / level.alpha if level.alpha > 0 else 0.0


def _copied(level: Level) -> Level:
    if not level.batched:
        return level
    alpha, sigma, log_snr = (
        v.clone() if isinstance(v, Tensor) else v for v in (level.alpha, level.sigma, level.log_snr)
    )
    return Level.known(alpha, sigma, log_snr)
