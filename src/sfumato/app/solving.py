"""Words of the command line for solvers: which solver a word means for a model, and what a solver is called.

A recipe may have tuned its solver: a reverse variance that the network learned, a step of Langevin dynamics.
A word that names the class of the recipe's own solver means that solver, with all it was given. A word for
another class means its defaults, except for what the model itself decides: ancestral steps take the reverse
variance from the network where it gives one (Nichol & Dhariwal 2021, eq. 15), else the small one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..core.errors import UsageError, did_you_mean
from ..diffusion.transition import (
    InterpolatedVariance,
    LargeVariance,
    MatchedVariance,
    ReverseVariance,
    SmallVariance,
)
from ..models.diffusion import Diffusion
from ..models.generator import Generator, evaluating
from ..models.given import Given, Streams, seeds_of
from ..samplers.ancestral import Ancestral
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.heun import Heun
from ..samplers.langevin import AnnealedLangevin, PredictorCorrector
from ..samplers.multistep import DpmPlusPlus2M
from ..samplers.sde import EulerMaruyama, SdeDpmPlusPlus2M, SdeHeun
from ..samplers.solver import Solver
from ..samplers.unipc import UniPC

SOLVERS: dict[str, Callable[[], Solver[Any]]] = {
    "ancestral": Ancestral,
    "consistency": Consistency,
    "ddim": Ddim,
    "heun": Heun,
    "dpm++2m": DpmPlusPlus2M,
    "unipc": UniPC,
    "sde": EulerMaruyama,
    "sde-dpm++2m": SdeDpmPlusPlus2M,
    "sde-heun": SdeHeun,
    "langevin": AnnealedLangevin,
    "pc": PredictorCorrector,
}
VARIANCES: dict[type[ReverseVariance], str] = {
    SmallVariance: "small",
    LargeVariance: "large",
    InterpolatedVariance: "learned",
    MatchedVariance: "matched",
}
USUAL = UniPC().order


def solver_of(word: str) -> Solver[Any]:
    """The solver of a word with its defaults; UsageError for a word that is none."""
    if word not in SOLVERS:
        raise UsageError(f"no solver '{word}'", remedy=did_you_mean(word, SOLVERS))
    return SOLVERS[word]()


def solver_for(word: str, generator: Generator) -> Solver[Any]:
    """The solver that a word means for a model: the recipe's own where the class is the same."""
    own, found = generator.plan.solver, solver_of(word)
    if type(own) is type(found):
        return own
    if isinstance(found, Ancestral):
        return reverse_step(generator)
    if isinstance(found, PredictorCorrector):
        return PredictorCorrector(reverse_step(generator))
    return found


def reverse_step(generator: Generator) -> Ancestral:
    """The recipe's ancestral step; where it has none, one with the variance that the network knows best."""
    own = generator.plan.solver
    own = own.predictor if isinstance(own, PredictorCorrector) else own
    if isinstance(own, Ancestral):
        return own
    return Ancestral(InterpolatedVariance() if learns_variance(generator) else SmallVariance())


def learns_variance(generator: Generator) -> bool:
    """Whether the network of a diffusion gives a reverse variance besides the mean; asked by one call."""
    density = generator.density
    if not isinstance(density, Diffusion):
        return False
    with torch.inference_mode(), evaluating(generator):
        plan = replace(generator.plan, start=None)
        given = generator.drawn(Given(), plan, Streams(seeds_of(0, 1), density.device))
        assert given.x_T is not None
        cond = generator.conditioner.imagine(given)
        return density.denoiser(given.x_T, density.schedule.level(0.5), cond).fraction is not None


def solver_name(solver: Solver[Any]) -> str:
    """The word for a solver; its class name, in small letters, where it has none."""
    return next((k for k, v in SOLVERS.items() if v is type(solver)), type(solver).__name__.lower())


def solver_words(solver: Solver[Any]) -> str:
    """A solver with what tells it from others of its class: ancestral (learned variance)."""
    name, details = solver_name(solver), solver_details(solver)
    return f"{name} ({details})" if details else name


def solver_details(solver: Solver[Any]) -> str:
    """What samples depend on besides the class of a solver, in words; "" where there is nothing to tell."""
    if isinstance(solver, Ddim):
        return f"eta {solver.eta:g}" if solver.eta else ""
    if isinstance(solver, UniPC):
        return f"order {solver.order}" if solver.order != USUAL else ""
    if isinstance(solver, Ancestral):
        kind = type(solver.variance)
        return f"{VARIANCES.get(kind, kind.__name__)} variance"
    if isinstance(solver, AnnealedLangevin):
        return f"moves {solver.moves}, ratio {solver.ratio:g}"
    if isinstance(solver, PredictorCorrector):
        return f"{solver_words(solver.predictor)}, moves {solver.moves}, ratio {solver.ratio:g}"
    return ""
