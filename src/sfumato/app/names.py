"""Words of the command line for objects of the library: solvers and precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..core.errors import UsageError, did_you_mean
from ..models.conditioner import Unconditional
from ..models.density import Plan
from ..models.generator import Generator
from ..models.prior import LatentPrior
from ..samplers.ancestral import Ancestral
from ..samplers.ddim import Ddim
from ..samplers.heun import Heun
from ..samplers.multistep import DpmPlusPlus2M
from ..samplers.solver import Solver
from ..samplers.unipc import UniPC

SOLVERS: dict[str, Callable[[], Solver[Any]]] = {
    "ancestral": Ancestral,
    "ddim": Ddim,
    "heun": Heun,
    "dpm++2m": DpmPlusPlus2M,
    "unipc": UniPC,
}


def solver_name(solver: Solver[Any]) -> str:
    """The word for a solver; its class name where it has none."""
    return next((k for k, v in SOLVERS.items() if v is type(solver)), type(solver).__name__)


def changed(
    plan: Plan,
    *,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    temperature: float | None = None,
) -> Plan:
    """The plan with what the user asked for; what was not asked for stays."""
    changes: dict[str, Any] = {}
    if steps is not None:
        changes["steps"] = steps
    if solver is not None:
        if solver not in SOLVERS:
            raise UsageError(f"no solver '{solver}'", remedy=did_you_mean(solver, SOLVERS))
        changes["solver"] = SOLVERS[solver]()
    if guidance is not None:
        changes["scale"] = guidance
    if temperature is not None:
        changes |= {"temperature": temperature, "latent_temperature": temperature}
    return replace(plan, **changes)


def stepped(generator: Generator) -> bool:
    """Whether samples come by steps of a solver; a prior over a latent is drawn from at once."""
    return not isinstance(generator.density, LatentPrior)


def guided(generator: Generator) -> bool:
    """Whether guidance changes anything: a solver takes steps, and there is a condition to be guided by."""
    return stepped(generator) and not isinstance(generator.conditioner, Unconditional)


def check_used(
    generator: Generator,
    *,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    temperature: float | None = None,
) -> None:
    """UsageError for an option that would change nothing; temperature always does something."""
    for name, value in (("--steps", steps), ("--solver", solver)):
        if value is not None and not stepped(generator):
            raise UsageError(
                f"{name} changes nothing here: this model draws from its prior and decodes, in one step",
                remedy=f"Leave {name} out, or use a diffusion or diffusevae run.",
            )
    if guidance is not None and not guided(generator):
        raise UsageError(
            "--guidance changes nothing here: this model's sampling has no condition to be guided by",
            remedy="Leave --guidance out, or train diffusion or diffusevae with --set conditional=true.",
        )


def plan_line(generator: Generator, plan: Plan) -> str:
    """What sampling does, in words: 18 heun steps on Karras, guidance 2; of a VAE: draws of the prior."""
    if stepped(generator):
        parts = [f"{plan.steps} {solver_name(plan.solver)} steps on {type(plan.grid).__name__}"]
    else:
        parts = ["draws of the prior"]
    if plan.scale != 1.0 and guided(generator):
        parts.append(f"guidance {plan.scale:g}")
    temperature = plan.temperature if stepped(generator) else plan.latent_temperature
    if temperature != 1.0:
        parts.append(f"temperature {temperature:g}")
    return ", ".join(parts)
