"""From the words of the command line to the plan a run is sampled by.

    the recipe's plan  <-  what `sfumato curve` recommends for this run  <-  what the user asks for

A recommendation holds for the weights it was measured with, from pure noise on, and without guidance, which
makes the flow stiffer and asks for more steps: guided, all is the recipe's again. Its steps and its grid were
measured with its solver: under another one both are the recipe's. The optimised grid is made for a
run's own model, once, and kept beside it (grids.json), so that a seed means the same image afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..core.errors import RefusedError, UsageError
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import evaluating
from ..models.given import Given, Streams, seeds_of
from ..samplers.grids import LogSnr
from ..samplers.optimised import FINE, Optimised, optimise, trajectory
from ..samplers.solver import Solver
from ..training.storage import JSON_LIMIT, from_json, read_regular
from .guiding import check_guidance, check_interval, guide_of, interval_of
from .names import OPTIMISED, changed, check_used, grid_name, grid_of, stepped
from .opened import Opened
from .solving import solver_for, solver_of

GRIDS_FILE = "grids.json"
PARTS = ("solver", "grid", "steps")  # of a recommendation
STARTS = 16  # trajectories that an optimised grid is made from, fewer of large images
NUMBERS = 2**17  # of all of them together


@dataclass(frozen=True)
class Recommendation:
    """What `curve` found to be enough: words of the command line, and why."""

    solver: str
    grid: str
    steps: int
    seen: int
    because: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as they stand in run.json."""
        return dict(vars(self))

    def words(self) -> str:
        """--solver unipc --grid optimised --steps 8."""
        return f"--solver {self.solver} --grid {self.grid} --steps {self.steps}"


def recommendation(run: Opened) -> Recommendation | None:
    """The recommendation in run.json, if there is one for the weights as they are."""
    found = run.about.get("recommended")
    if found is None:
        return None
    try:
        made = Recommendation(**found)
        solver_of(made.solver)
        if made.grid != OPTIMISED:
            grid_of(made.grid)
    except (TypeError, UsageError) as error:
        raise RefusedError(
            f"the recommended plan in run.json is none: {error}",
            where=run.path,
            remedy=f"Measure again: sfumato curve {run.path}",
        ) from None
    return made if made.seen == run.weights.seen else None


def taken(run: Opened, **asked: Any) -> dict[str, Any]:
    """What a plan takes of the recommendation: of solver, grid and steps those that were not asked for.

    Nothing from a first guess on, guided, nor under another solver, which it says nothing about; the solver
    alone for DDIM with fresh noise, which is another solver too.
    """
    advice = recommendation(run) if stepped(run.generator) else None
    if advice is None or asked.get("start") is not None or asked.get("solver") not in (None, advice.solver):
        return {}
    if _guided(run, asked):
        return {}
    words = ("solver",) if asked.get("eta") else PARTS
    return {word: getattr(advice, word) for word in words if asked.get(word) is None}


def _guided(run: Opened, asked: Mapping[str, Any]) -> bool:
    """Whether guidance is asked for that the recipe's plan, which `curve` measures by, does not have."""
    others = any(asked.get(word) is not None for word in ("interval", "classifier", "guide"))
    return others or asked.get("guidance") not in (None, run.generator.plan.scale)


def plan_origin(run: Opened, **asked: Any) -> str:
    """Whose plan it is, in words that follow it: nothing for the recipe's own, or the user's."""
    advice = recommendation(run) if stepped(run.generator) else None
    if advice is None or asked.get("start") is not None:
        return ""
    if _guided(run, asked):
        left = [word for word in PARTS if asked.get(word) is None]
        told = f"the plan by `sfumato curve`, {advice.words()}, was measured without this guidance"
        return f" ({', '.join(left)} of the recipe: {told})" if left else ""
    kept = taken(run, **asked)
    if len(kept) == len(PARTS):
        return f" (recommended by `sfumato curve`: {advice.because})"
    if kept:
        return f" ({' and '.join(kept)} by `sfumato curve`, whose plan is {advice.words()})"
    left = [word for word in ("grid", "steps") if asked.get(word) is None]
    if not left:
        return ""
    return f" ({' and '.join(left)} of the recipe: the plan by `sfumato curve` is {advice.words()})"


def plan_of(
    run: Opened,
    *,
    steps: int | None = None,
    solver: str | None = None,
    grid: str | None = None,
    guidance: float | None = None,
    interval: str | None = None,
    classifier: Path | str | None = None,
    guide: Path | str | None = None,
    start: float | None = None,
    **asked: Any,
) -> Plan:
    """The plan for what was asked (and eta, temperature, precision); UsageError for what changes nothing."""
    generator = run.generator
    words: dict[str, Any] = {"steps": steps, "solver": solver, "grid": grid, "eta": asked.get("eta")}
    precision = asked.get("precision")
    check_used(generator, start=start, guidance=guidance, interval=interval, precision=precision, **words)
    between, by = interval_of(interval), guide_of(run, classifier, guide)
    by_whom = {"guidance": guidance, "interval": interval, "classifier": classifier, "guide": guide}
    words |= taken(run, start=start, **by_whom, **words)
    steps, solver, grid = (words[part] for part in ("steps", "solver", "grid"))
    own = grid_name(generator.plan.grid)  # asked for by its word it keeps what the recipe tuned
    known = None if grid in (None, OPTIMISED, own) else grid_of(str(grid))
    plan = changed(
        generator.plan,
        steps=steps,
        solver=None if solver is None else solver_for(solver, generator),
        grid=known,
        guidance=guidance,
        interval=between,
        guide=by,
        start=start,
        **asked,
    )
    check_guidance(run, plan, guidance=guidance, interval=between)
    plan = plan if grid != OPTIMISED else replace(plan, grid=_own_grid(run, plan))
    if between is not None:
        check_interval(run, plan)
    return plan


def _own_grid(run: Opened, plan: Plan) -> Optimised:
    """The optimised grid for a plan's solver; UsageError for a plan that starts below pure noise."""
    if plan.start is not None:
        raise UsageError(
            "the optimised grid begins at pure noise, --start does not",
            remedy="Give another grid with it, for example --grid log-snr.",
        )
    return optimised_grid(run, plan.solver)


def optimised_grid(run: Opened, solver: Solver[Any]) -> Optimised:
    """The grid made for a run's model and solvers of this order; made now if it never was."""
    order, path = str(min(max(solver.order, 1), 2)), run.path / GRIDS_FILE  # there is no table of order 0
    kept: Any = {}
    if path.exists():
        kept = from_json(read_regular(path, JSON_LIMIT), path)
    if not isinstance(kept, dict) or kept.get("seen") != run.weights.seen:
        kept = make_grids(run)
        run.folder.disk.replace(path, json.dumps(kept).encode())
    try:
        return Optimised({int(n): row for n, row in kept[order].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefusedError(
            f"no table of grids: {error}", where=path, remedy="Remove the file: it is made again."
        ) from None


def make_grids(run: Opened) -> dict[str, Any]:
    """Tables of optimised grids for solvers of order 1 and 2, from fine trajectories of a run's model."""
    generator = run.generator
    density = generator.density
    if not isinstance(density, Diffusion):
        raise UsageError(
            "an optimised grid is made for diffusion models", where=run.path, remedy="Leave --grid out."
        )
    size = torch.Size(density.shape).numel()
    count = max(2, min(STARTS, NUMBERS // size))
    plan = replace(generator.plan, start=None)
    with torch.inference_mode(), evaluating(generator):
        given = generator.drawn(Given(), plan, Streams(seeds_of(0, count), density.device))
        cond = generator.conditioner.imagine(given)
        levels = LogSnr().levels(density.schedule, FINE)
        assert given.x_T is not None
        denoiser, _ = density.wrapped(replace(plan, scale=1.0), cond)
        path = trajectory(denoiser, levels, given.x_T * levels[0].sigma, cond=cond)
    tables = {str(order): optimise(path, order=order) for order in (1, 2)}
    return {"seen": run.weights.seen} | {
        order: {str(n): row for n, row in table.items()} for order, table in tables.items()
    }
