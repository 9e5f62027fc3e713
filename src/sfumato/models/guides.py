"""What a plan's guidance scale works with, besides the model itself.

    None            classifier-free: the model with its condition against itself without it
    ByClassifier    the gradient of a classifier of noisy tensors     (guidance/classifier.py)
    ByModel         an earlier or smaller model to be led away from   (guidance/auto.py)

A guide turns a denoiser and a solver into guided ones. Only classifier guidance looks at the solver: an
ancestral step is shifted by s Sigma g, every other solver gets the guidance through the posterior mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

from ..diffusion.denoiser import Denoiser
from ..guidance.auto import Autoguided
from ..guidance.classifier import ClassifierGuided, ClassPosterior, Unguided
from ..guidance.strength import Interval
from ..samplers.ancestral import Ancestral
from ..samplers.solver import Solver


class Guide(ABC):
    """Guides sampling; `name` says in words what it is."""

    name: str

    @abstractmethod
    def steer(
        self, denoiser: Denoiser, solver: Solver[Any], scale: float, interval: Interval | None
    ) -> tuple[Denoiser, Solver[Any]]:
        """The guided denoiser, and the solver to integrate it with."""


@final
class ByClassifier(Guide):
    """A classifier of noisy tensors; told: whether the model is given the class itself."""

    def __init__(self, classifier: ClassPosterior, *, told: bool, name: str = "a classifier") -> None:
        self.classifier, self.told, self.name = classifier.eval().requires_grad_(False), told, name

    def steer(
        self, denoiser: Denoiser, solver: Solver[Any], scale: float, interval: Interval | None
    ) -> tuple[Denoiser, Solver[Any]]:
        """Ancestral steps are shifted (Dhariwal & Nichol 2021, alg. 1), else the mean is (alg. 2)."""
        guided = ClassifierGuided(denoiser, self.classifier, scale, interval, told=self.told)
        if isinstance(solver, Ancestral):
            return Unguided(guided), Ancestral(solver.variance, guided.tilt)
        return guided, solver


@final
class ByModel(Guide):
    """Another denoiser to be led away from; told: whether it is given the condition."""

    def __init__(self, guide: Denoiser, *, told: bool = True, name: str = "another model") -> None:
        self.guide, self.told, self.name = guide.eval().requires_grad_(False), told, name

    def steer(
        self, denoiser: Denoiser, solver: Solver[Any], scale: float, interval: Interval | None
    ) -> tuple[Denoiser, Solver[Any]]:
        """Autoguidance, the same for every solver."""
        return Autoguided(denoiser, self.guide, scale, interval, told=self.told), solver
