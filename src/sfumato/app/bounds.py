"""Words of the command line for likelihoods: which number, of which images, image by image.

    ode    log p(x) by the probability-flow ODE, a bound where grey levels are dequantised (diffusion)
    vlb    the variational bound of a diffusion on grey levels, of the chain that its plan draws from
    elbo   the ELBO of a VAE, or with several draws its importance-weighted bound

`evaluate` tells the second of every diffusion unasked, with its terms and from fewer images.

An image's value is a function of the model, the image and the seed: its noise follows from a hash of its
content, so neither its neighbours nor its place in a folder matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError, did_you_mean
from ..core.noise import Noise
from ..core.shapes import rows_at_once
from ..data.dataset import Batch, Dataset
from ..evaluation.bits import CODE, DENSITY, MANY_TARGETS, Sums, bound_of, check_values, unit_of
from ..evaluation.flow import Flow, flow_log_prob, flow_method
from ..evaluation.protocol import Metric
from ..evaluation.scene import About
from ..evaluation.variational import TERMS, pixel_diffusion, variational_bounds, vlb
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.vqvae import VqVae
from ..samplers.likelihood import FEW, Hutchinson
from .dequantising import Dequantising, chosen
from .latents import NO_CHANCE, protocol_of
from .probabilities import in_file
from .run import Run, batches
from .student import check_likelihood


@dataclass(frozen=True)
class Asked:
    """What was asked for: a number by its word, its draws (None: what the word needs), guidance, seed.

    uniform: whether the ODE's grey levels are dequantised uniformly; None: by the law that is tighter on
    images that are not scored (`settled`).
    """

    bound: str
    draws: int | None = None
    tolerance: float | None = None
    guidance: float | None = None
    uniform: bool | None = None
    seed: int = 0


class Found(NamedTuple):
    """log p(x), or a bound on it, in nats (n,), with its name and unit, and of how many numbers it is.

    size: all numbers of x, or those a model predicts where it predicts some frames of a clip.
    method: how it is found, with all that changes the number but the noise.
    """

    nats: Tensor
    name: str
    unit: str
    size: int
    method: str = ""


Score: TypeAlias = Callable[[Run, Batch, Noise, Asked], Found]


def _flow(run: Run, asked: Asked) -> tuple[Flow, Plan]:
    """How the ODE is solved, and the plan whose guidance it is under; UsageError for what cannot be."""
    how, floats = Flow(uniform=bool(asked.uniform)), run.facts.levels is None
    if asked.tolerance is not None:
        how = replace(how, tolerance=asked.tolerance)
    if asked.draws is not None and not floats:
        how = replace(how, draws=asked.draws)
    elif asked.draws is not None and math.prod(run.facts.shape) <= FEW:
        raise UsageError(
            "--draws changes nothing here: the density of so few floats is exact", remedy="Leave --draws out."
        )
    elif asked.draws is not None:
        how = replace(how, divergence=Hutchinson(asked.draws))
    return how, run.plan(guidance=asked.guidance)


def _ode(run: Run, batch: Batch, noise: Noise, asked: Asked) -> Found:
    how, plan = _flow(run, asked)
    levels = run.facts.levels
    nats = flow_log_prob(run.generator, batch, levels, noise=noise, how=how, plan=plan)
    method = flow_method(run.generator, levels, how, plan)
    return Found(nats, "ODE", DENSITY if levels is None else CODE, batch.x[0].numel(), method)


def _vlb(run: Run, batch: Batch, noise: Noise, asked: Asked) -> Found:
    found = vlb(run.generator, batch, run.facts.levels, terms=asked.draws or TERMS, noise=noise)
    return Found(-found.total, "VLB", CODE, batch.x[0].numel(), found.method)


def _elbo(run: Run, batch: Batch, noise: Noise, asked: Asked) -> Found:
    owner, model = run.latent()
    sums, unit, size = Sums.zero(len(batch), batch.x.device), CODE, 1
    draw = model.tracer(batch.x)
    for _ in range(asked.draws or 1):
        trace = draw(noise)
        if not trace.latents:
            raise UsageError(NO_CHANCE, where=str(run.path), remedy="Use a vae or a diffusion run.")
        unit, size = unit_of(trace.likelihood, run.facts.levels), trace.data[0].numel()
        sums = sums.add(trace)
        if not sums.alike:
            raise UsageError(
                MANY_TARGETS, where=str(run.path), remedy="Leave --draws out: one draw is an ELBO."
            )
    elbo, _, weighted = sums.means()
    stage = "" if owner is run.model else " of the first stage"
    if model.conditional is not None:
        stage = f" of a {model.conditional.of}"
    if sums.draws > 1:
        return Found(
            weighted, f"IWAE-{sums.draws}{stage}", unit, size, f"{sums.draws:,} draws of the latents"
        )
    return Found(elbo, f"ELBO{stage}", unit, size, "1 draw of the latents")


BOUNDS: dict[str, Score] = {"ode": _ode, "vlb": _vlb, "elbo": _elbo}
MOST = {"ode": 200, "vlb": 1000, "elbo": 2000}  # images of an evaluation
UNASKED = 500  # images of the bound by its terms: the spread over them is then near 0.02 bits/dim
GIVEN = "of images given their class, which is less than without it"
SYMBOLS = {"prior": "L_T", "steps": "sum of L_{t-1}", "decoder": "L_0", "latent": "KL of the first stage's z"}


def default_bound(run: Run, *, of_ode: bool = False) -> str:
    """The word for the number a run is asked for unasked; of_ode: with options that only the ODE has.

    On grey levels vlb: it tells what the bits are spent on, by a known number of network calls. They are
    bounds of two models, the chain and the flow, and neither is the tighter for all recipes (docs/log.md).
    Floats have the ODE alone.
    """
    if not isinstance(run.generator.density, Diffusion):
        return "elbo"
    return "ode" if of_ode or run.facts.levels is None else "vlb"


def settled(run: Run, asked: Asked, scored: Sequence[Dataset]) -> tuple[Asked, Dequantising | None]:
    """What is asked for with its dequantisation chosen, and how that came; None where there is nothing to it.

    scored: all images whose bits will be told, which take no part in the choice.
    """
    if asked.bound != "ode" or run.facts.levels is None:
        return asked, None
    check(run, asked)
    if asked.uniform is not None:
        return asked, Dequantising(asked.uniform, "as asked")
    found = chosen(run, scored, *_flow(run, asked))
    return replace(asked, uniform=found.uniform), found


def score(
    run: Run, parts: Sequence[Dataset], asked: Asked, label: int | None = None, again: int = 0
) -> Found:
    """log p(x) of every image of data sets as the run sees them, one after the other.

    label: the class of all of them; None: as the data tell. again: the number of a repetition, whose noise
    is independent of the others'. UsageError where the model has no such number, DataError where the images
    have none.
    """
    check(run, asked)
    found, key = list[Found](), ("likelihood", asked.seed, again) if again else ("likelihood", asked.seed)
    with torch.no_grad():
        for batch, hashes in _batches(run, parts, asked, label):
            noise = Noise.keyed(*key, at=hashes, device=run.device)
            found.append(BOUNDS[asked.bound](run, batch, noise, asked))
    nats = torch.cat([f.nats.double().cpu() for f in found])
    return found[0]._replace(nats=nats)


def bound_metrics(
    run: Run, held_out: Dataset, about: About, bound: str, seed: int = 0
) -> tuple[list[Metric], list[str]]:
    """The likelihood of unseen images by its word, as a metric; or the reason why there is none."""
    part = held_out.take(range(min(MOST[bound], len(held_out))))
    try:
        asked, law = settled(run, Asked(bound, seed=seed), [part])
        found = score(run, [part], asked)
    except (UsageError, DataError) as error:
        return [], [f"Not reported: {error.what}."]
    one = bound_of(found.name, found.nats, found.size, found.unit)
    protocol = replace(protocol_of(about, "held-out", len(part)), plan=found.method)
    told = [] if law is None else [law.line()]
    return [Metric(found.name, one.bits.value, one.bits.spread, protocol, unit=found.unit)], told


def vlb_metrics(run: Run, held_out: Dataset, about: About, seed: int = 0) -> tuple[list[Metric], list[str]]:
    """The bound in bits/dim and its terms, each with its spread over images; or why there is none.

    A run that is no diffusion has nothing to say here. A conditional one bounds images given their class.
    """
    if not isinstance(run.generator.density, Diffusion):
        return [], []
    count = min(UNASKED, len(held_out))
    try:
        check_likelihood(run.about, run.path)
        found, method = variational_bounds(
            run.generator, batches(held_out, count, run.device), run.facts.levels, seed=seed
        )
    except (UsageError, DataError) as error:  # no such bound (of a student), or images without a class
        return [], [f"{error.what[0].upper()}{error.what[1:]}."]
    note = GIVEN if "label" in run.generator.slots else ""
    protocol = replace(protocol_of(about, "held-out", count), plan=method)
    metrics = []
    for bound in found:
        term = SYMBOLS.get(bound.name.removeprefix("VLB "))
        name, lower = (f"VLB: {term}", None) if term else ("VLB", True)  # only the whole can be better
        value, spread = bound.bits.value, bound.bits.spread
        metrics.append(Metric(name, value, spread, protocol, lower=lower, unit=bound.unit, note=note))
    return metrics, []


def bits(found: Found) -> Tensor:
    """-log_2 p per number that it is of, (n,)."""
    return -found.nats / (found.size * math.log(2.0))


def check(run: Run, asked: Asked) -> None:
    """UsageError for a word that is none, a number the model has not, or an option without effect."""
    if asked.bound not in BOUNDS:
        raise UsageError(f"no likelihood '{asked.bound}'", remedy=did_you_mean(asked.bound, BOUNDS))
    if asked.draws is not None and asked.draws < 1:
        raise UsageError(f"{asked.draws} draws", remedy="Ask for at least one.")
    _check_used(asked, run.facts.levels)
    if asked.bound != "elbo":
        check_likelihood(run.about, run.path)
    if asked.bound == "elbo":
        _check_not_codes(run)
        run.latent()
    elif asked.bound == "vlb":
        pixel_diffusion(run.generator, run.facts.levels)
    else:
        pixel_diffusion(run.generator, run.facts.levels, "likelihood by the flow", floats=True)
        _flow(run, asked)


def _check_not_codes(run: Run) -> None:
    """UsageError for a run of discrete codes, that says where its bound is told."""
    if isinstance(run.generator.codec, VqVae):
        raise UsageError(
            f"{run.path} has discrete codes, whose bound is told of all unseen images together",
            where=run.path,
            remedy=f"See its ELBO (codes), in bits/dim of images of integers: sfumato evaluate {run.path}",
        )


def _check_used(asked: Asked, levels: int | None) -> None:
    """UsageError for an option that would change nothing."""
    ode_only = {
        "--tolerance": asked.tolerance,
        "--guidance": asked.guidance,
        _law_option(asked): asked.uniform,
    }
    for name, value in ode_only.items():
        if value is not None and asked.bound != "ode":
            raise UsageError(
                f"{name} changes nothing here: it is of the ODE alone",
                remedy=f"Leave {name} out, or --bound ode.",
            )
    if asked.uniform is not None and levels is None:
        name = _law_option(asked)
        raise UsageError(
            f"{name} changes nothing here: the data are floats, and only grey levels are dequantised",
            remedy=f"Leave {name} out.",
        )


def _law_option(asked: Asked) -> str:
    return "--no-uniform" if asked.uniform is False else "--uniform"


def _batches(
    run: Run, parts: Sequence[Dataset], asked: Asked, label: int | None
) -> Iterator[tuple[Batch, list[int]]]:
    """All images, as many at a time as their size allows, with the hashes of their contents."""
    most, rows, hashes = rows_at_once(run.facts.shape), list[Batch](), list[int]()
    for part in parts:
        for first in range(0, len(part), most):
            ids = range(first, min(first + most, len(part)))
            rows.append(_checked(run, part, part.batch(ids, run.device), asked, label))
            hashes += [int(part.hashes[i]) for i in ids]
            if len(hashes) >= most:
                yield _joined(rows), hashes
                rows, hashes = [], []
    if rows:
        yield _joined(rows), hashes


def _joined(rows: Sequence[Batch]) -> Batch:
    labels = [batch.label for batch in rows]
    known = [label for label in labels if label is not None]
    return Batch(
        torch.cat([batch.x for batch in rows]),
        torch.cat(known) if len(known) == len(rows) else None,
        torch.cat([batch.index for batch in rows]),
    )


def _checked(run: Run, part: Dataset, batch: Batch, asked: Asked, label: int | None) -> Batch:
    """The batch with its class; DataError that names the first image outside the run's values."""
    facts = run.facts
    for x, i in zip(batch.x.cpu(), batch.index.tolist(), strict=True):
        try:
            check_values(x, facts.levels)
        except DataError as error:
            told = error.where
            if facts.levels is None:
                told = in_file(x, facts)
            where = f"{part.facts.source}: {part.name_of(i)}, {told}"
            raise DataError(error.what, where=where, remedy=error.remedy) from None
    if label is not None:
        return replace(batch, label=torch.full((len(batch),), label, device=batch.x.device))
    if batch.label is None and "label" in run.generator.slots and asked.bound != "elbo":
        raise UsageError(
            "this model gives the likelihood of an image of a known class",
            where=part.facts.source,
            remedy="Say which class they have: --class NAME, or put each class into a folder of its own.",
        )
    return batch
