"""Words of the command line for objects of the library: solvers and precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..core.errors import UsageError, did_you_mean
from ..models.density import Plan
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


def plan_line(plan: Plan) -> str:
    """A plan in words: 18 heun steps on Karras, guidance 2."""
    parts = [f"{plan.steps} {solver_name(plan.solver)} steps on {type(plan.grid).__name__}"]
    if plan.scale != 1.0:
        parts.append(f"guidance {plan.scale:g}")
    if plan.temperature != 1.0:
        parts.append(f"temperature {plan.temperature:g}")
    return ", ".join(parts)
