"""Words of the command line for grids, and a plan in words; those for solvers are in solving.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..core.errors import UsageError, did_you_mean
from ..models.autoregressive import Autoregressive
from ..models.density import Plan
from ..models.generator import Generator
from ..models.guides import Guide
from ..models.prior import LatentPrior
from ..models.reconstruction import Reconstruction
from ..samplers.ddim import Ddim
from ..samplers.grids import Angle, Grid, Karras, LogSnr, Quadratic, Trailing, Uniform
from ..samplers.optimised import Optimised
from ..samplers.solver import Solver
from .solving import solver_words

GRIDS: dict[str, Callable[[], Grid]] = {
    "uniform": Uniform,
    "quadratic": Quadratic,
    "trailing": Trailing,
    "karras": Karras,
    "log-snr": LogSnr,
    "angle": Angle,
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


def changed(
    plan: Plan,
    *,
    steps: int | None = None,
    solver: Solver[Any] | None = None,
    grid: Grid | None = None,
    eta: float | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] | None = None,
    guide: Guide | None = None,
    temperature: float | None = None,
    start: float | None = None,
    precision: str | None = None,
) -> Plan:
    """The plan with what the user asked for; what was not asked for stays."""
    changes: dict[str, Any] = {
        "steps": steps,
        "grid": grid,
        "solver": solver,
        "scale": guidance,
        "interval": interval,
        "guide": guide,
        "temperature": temperature,
        "latent_temperature": temperature,
        "start": start,
        "precision": precision,
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
        parts = [f"{plan.steps} {solver_words(plan.solver)} steps on {grid_name(plan.grid)}"]
        if words := guide_words(plan):
            parts.append(words)
    else:
        parts = ["draws of the prior"]
    if plan.start is not None:
        parts.append(f"from the first guess under {plan.start:g} times its noise")
    temperature = plan.temperature if stepped(generator) else plan.latent_temperature
    if temperature != 1.0:
        parts.append(f"temperature {temperature:g}")
    if plan.precision != Plan.precision:
        parts.append(plan.precision)
    return ", ".join(parts)


def guide_words(plan: Plan) -> str:
    """What guides: guidance 2 by the classifier digits-noisy in log-SNR -2 to 5; "" for nothing."""
    if plan.guide is None and plan.scale == 1.0:
        return ""
    by = "" if plan.guide is None else f" by {plan.guide.name}"
    where = "" if plan.interval is None else f" in log-SNR {plan.interval[0]:g} to {plan.interval[1]:g}"
    return f"guidance {plan.scale:g}{by}{where}"
