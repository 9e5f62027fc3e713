"""Words of the command line for objects of the library: solvers and grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..core.errors import UsageError, did_you_mean
from ..models.autoregressive import Autoregressive
from ..models.conditioner import Unconditional
from ..models.density import Plan
from ..models.generator import Generator
from ..models.guides import Guide
from ..models.prior import LatentPrior
from ..models.reconstruction import Reconstruction
from ..samplers.ancestral import Ancestral
from ..samplers.consistency import Consistency
from ..samplers.ddim import Ddim
from ..samplers.grids import Grid, Karras, LogSnr, Quadratic, Trailing, Uniform
from ..samplers.heun import Heun
from ..samplers.langevin import AnnealedLangevin, PredictorCorrector
from ..samplers.multistep import DpmPlusPlus2M
from ..samplers.optimised import Optimised
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

GRIDS: dict[str, Callable[[], Grid]] = {
    "uniform": Uniform,
    "quadratic": Quadratic,
    "trailing": Trailing,
    "karras": Karras,
    "log-snr": LogSnr,
}
OPTIMISED = "optimised"  # the word for the grid made for the run's own model


def grid_name(grid: Grid) -> str:
    """The word for a grid; its class name where it has none."""
    if isinstance(grid, Optimised):
        return OPTIMISED
    return next((k for k, v in GRIDS.items() if v is type(grid)), type(grid).__name__)


def grid_of(word: str) -> Grid:
    """The grid of a word; UsageError for a word that is none."""
    if word not in GRIDS:
        raise UsageError(f"no grid '{word}'", remedy=did_you_mean(word, [*GRIDS, OPTIMISED]))
    return GRIDS[word]()


def solver_of(word: str) -> Solver[Any]:
    """The solver of a word; UsageError for a word that is none."""
    if word not in SOLVERS:
        raise UsageError(f"no solver '{word}'", remedy=did_you_mean(word, SOLVERS))
    return SOLVERS[word]()


def solver_name(solver: Solver[Any]) -> str:
    """The word for a solver; its class name where it has none."""
    return next((k for k, v in SOLVERS.items() if v is type(solver)), type(solver).__name__)


def changed(
    plan: Plan,
    *,
    steps: int | None = None,
    solver: str | None = None,
    grid: Grid | None = None,
    eta: float | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] | None = None,
    guide: Guide | None = None,
    temperature: float | None = None,
    start: float | None = None,
) -> Plan:
    """The plan with what the user asked for; what was not asked for stays."""
    changes: dict[str, Any] = {
        "steps": steps,
        "grid": grid,
        "solver": None if solver is None else solver_of(solver),
        "scale": guidance,
        "interval": interval,
        "guide": guide,
        "temperature": temperature,
        "latent_temperature": temperature,
        "start": start,
    }
    if eta is not None:
        if not isinstance(changes["solver"] or plan.solver, Ddim):
            raise UsageError("--eta is the part of fresh noise in DDIM", remedy="Give --solver ddim with it.")
        if not 0.0 <= eta <= 1.0:
            raise UsageError(f"--eta {eta:g} is not in [0, 1]", remedy="0 is deterministic, 1 ancestral.")
        changes["solver"] = Ddim(eta)
    return replace(plan, **{key: value for key, value in changes.items() if value is not None})


WORDS = {"interval": "--guidance-interval"}


def stepped(generator: Generator) -> bool:
    """Whether samples come by steps of a solver; a prior over a latent or over codes is drawn from."""
    return not isinstance(generator.density, (LatentPrior, Autoregressive))


def check_used(generator: Generator, *, start: float | None = None, **asked: Any) -> None:
    """UsageError for an option that would change nothing: what steps of a solver need, of a model without."""
    if not stepped(generator):
        for name, value in asked.items():
            if value is not None:
                word = WORDS.get(name, f"--{name}")
                raise UsageError(
                    f"{word} changes nothing here: this model draws from its prior and decodes, in one step",
                    remedy=f"Leave {word} out, or use a diffusion or diffusevae run.",
                )
    if start is not None and not (stepped(generator) and isinstance(generator.conditioner, Reconstruction)):
        raise UsageError(
            "--start needs a first guess to start from, and this model has none",
            remedy="Leave --start out, or use a diffusevae run.",
        )


def plan_line(generator: Generator, plan: Plan) -> str:
    """What sampling does, in words: 18 heun steps on karras, guidance 2; of a VAE: draws of the prior."""
    if stepped(generator):
        solver = solver_name(plan.solver)
        if isinstance(plan.solver, Ddim) and plan.solver.eta:
            solver += f" (eta {plan.solver.eta:g})"
        parts = [f"{plan.steps} {solver} steps on {grid_name(plan.grid)}"]
        if words := guide_words(plan, generator):
            parts.append(words)
    else:
        parts = ["draws of the prior"]
    if plan.start is not None:
        parts.append(f"from the first guess under {plan.start:g} times its noise")
    temperature = plan.temperature if stepped(generator) else plan.latent_temperature
    if temperature != 1.0:
        parts.append(f"temperature {temperature:g}")
    return ", ".join(parts)


def guide_words(plan: Plan, generator: Generator) -> str:
    """What guides: guidance 2 by the classifier digits-noisy in log-SNR -2 to 5; "" for nothing."""
    free = isinstance(generator.conditioner, Unconditional)
    if plan.guide is None and (plan.scale == 1.0 or free):
        return ""
    by = "" if plan.guide is None else f" by {plan.guide.name}"
    where = "" if plan.interval is None else f" in log-SNR {plan.interval[0]:g} to {plan.interval[1]:g}"
    return f"guidance {plan.scale:g}{by}{where}"
