"""What `evaluate` says of a diffusion's likelihood: the variational bound of unseen images, by its terms."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import DataError, UsageError
from ..data.dataset import Dataset
from ..evaluation.protocol import Metric
from ..evaluation.scene import About
from ..evaluation.variational import variational_bounds
from ..models.diffusion import Diffusion
from .latents import protocol_of
from .run import Run, batches

MOST = 500  # images: the spread over them is then near 0.02 bits/dim
GIVEN = "of images given their class, which is less than without it"
SYMBOLS = {"prior": "L_T", "steps": "sum of L_{t-1}", "decoder": "L_0", "latent": "KL of the first stage's z"}


def vlb_metrics(run: Run, held_out: Dataset, about: About, seed: int = 0) -> tuple[list[Metric], list[str]]:
    """The bound in bits/dim and its terms, each with its spread over images; or why there is none.

    A run that is no diffusion has nothing to say here. A conditional one bounds images given their class.
    """
    if not isinstance(run.generator.density, Diffusion):
        return [], []
    count = min(MOST, len(held_out))
    try:
        found, method = variational_bounds(
            run.generator, batches(held_out, count, run.device), run.facts.levels, seed=seed
        )
    except (UsageError, DataError) as error:  # no such bound, or images whose class is not told
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
