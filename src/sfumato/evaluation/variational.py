"""The variational bound of a diffusion model on images: an upper bound on -log P(x), by its terms.

    VLB = prior + steps + decoder                              (equations: diffusion/bound.py)

Some of the steps are drawn for each image (objectives/estimate.py); the estimate is unbiased.

A chain is its table and the variance of its reverse steps. The bound is of the chain that the model's own
plan draws from, so the variance is that of the plan's solver (ancestral sampling). Solvers of the ODE have
none; then it is learned where the network gives one, else large. All T rows of the table are bounded, also
where a plan takes fewer steps. The step to clean data is a decoder with a width of its own, 1/2 to 1 over
the SNR of the last noise, though a sampler adds no noise there (diffusion/transition.py).

The bound is on the probability of grey levels. It is refused where there are none: for data stored as
floats (whose density the probability-flow ODE gives) and for a process over the codes of a VAE, since the
probability of a code is not that of an image. A conditional model bounds log P(x | condition), given the
image's own class; for DiffuseVAE the condition is drawn from the encoder and costs KL(q(z | x) || p(z)).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.noise import Noise
from ..data.dataset import Batch
from ..diffusion.denoiser import Clipped
from ..diffusion.transition import ReverseVariance
from ..models.codec import Pixels
from ..models.conditioner import ClassLabel, Unconditional
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator, evaluating
from ..models.prior import LatentPrior
from ..models.reconstruction import Reconstruction
from ..models.vae import Vae
from ..objectives.estimate import Look, SampledBound
from ..samplers.ancestral import Ancestral
from .bits import CODE, Bound, bound_of, check_levels

TERMS = 32


def vlb(
    generator: Generator,
    batch: Batch,
    levels: int | None,
    *,
    terms: int = TERMS,
    noise: Noise,
    variance: ReverseVariance | None = None,
) -> SampledBound:
    """The bound of a batch of images x (B, C, *space) on `levels` grey levels, one row of noise an image.

    generator  a diffusion over pixels; its plan says whether predictions are clipped
    terms      steps drawn for each image
    variance   of the reverse step of a table; None: `variance_of` the generator's own plan
    UsageError where the images or the model have no such bound (see the module).
    """
    density = pixel_diffusion(generator, levels)
    assert levels is not None
    if terms < 1:
        raise UsageError(f"{terms} terms of a bound", remedy="Ask for at least one.")
    check_levels(batch.x.cpu(), levels)
    with torch.inference_mode(), evaluating(generator):
        x, cond = generator.observe(batch, noise=noise)
        denoiser = Clipped(density.denoiser) if generator.plan.clip else density.denoiser
        look = Look(denoiser, density.schedule, x, levels, noise, cond)
        found = look.estimate(terms, variance or variance_of(generator.plan))
        clipped = ", predictions clipped" if generator.plan.clip else ""
        every = {**found.terms, **latent_cost(generator, batch, noise)}
        return SampledBound(every, found.method + clipped)


def variance_of(plan: Plan) -> ReverseVariance | None:
    """The variance of the chain that a plan draws from; None where its solver has none."""
    return plan.solver.variance if isinstance(plan.solver, Ancestral) else None


def pixel_diffusion(
    generator: Generator, levels: int | None, what: str = "variational bound", *, floats: bool = False
) -> Diffusion:
    """The diffusion that gives images a probability; UsageError with the reason where none does.

    floats: whether data without grey levels will do, of which there is a density.
    """
    density, conditioner = generator.density, generator.conditioner
    why, remedy = "", "Train ddpm, improved-ddpm, vdm or diffusion on images of integers."
    if not isinstance(generator.codec, Pixels):
        why = (
            "the model lives in the codes of an autoencoder, and the probability of a code is not an image's"
        )
    elif not isinstance(density, Diffusion):
        why = "the model is no diffusion"
    elif levels is None and not floats:
        why = "the data are stored as floats: there are no grey levels for a decoder to give probabilities to"
        remedy = "The probability-flow ODE gives the density of floats: sfumato likelihood."
    elif isinstance(conditioner, Reconstruction):
        if not isinstance(conditioner.first.codec, Vae):
            why = "the first stage is no VAE, so its code of an image has no probability"
    elif not isinstance(conditioner, (Unconditional, ClassLabel)):
        why = "the model is conditioned on something made from the image, whose own probability is not known"
    if why:
        raise UsageError(f"no {what}: {why}", remedy=remedy)
    assert isinstance(density, Diffusion)
    return density


def latent_cost(generator: Generator, batch: Batch, noise: Noise) -> dict[str, Tensor]:
    """The cost of a first stage's z, log q(z | x) - log p(z) at one draw, where there is one."""
    conditioner = generator.conditioner
    if not isinstance(conditioner, Reconstruction):
        return {}
    first, vae = conditioner.first, conditioner.first.codec
    assert isinstance(vae, Vae) and isinstance(first.density, LatentPrior)
    latent = vae.trace(batch.x, noise=noise).latents[0]
    label = batch.label if "label" in first.slots else None
    return {
        "latent": (latent.posterior.log_prob(latent.z) - first.density.log_prob(latent.z, label)).double()
    }


def variational_bounds(
    generator: Generator,
    batches: Iterable[Batch],
    levels: int | None,
    *,
    terms: int = TERMS,
    seed: int = 0,
    variance: ReverseVariance | None = None,
) -> tuple[tuple[Bound, ...], str]:
    """The bound over images and each of its terms in bits per dimension, and what was summed, with the name
    of the reverse variance (None: the plan's own, see the module).

    Each image has its own noise, a function of seed and position: the batch size does not matter. The
    spread is the standard error over images, which holds the chance of the drawn terms as well.
    """
    found: dict[str, list[Tensor]] = {}
    size, seen, method = 1, 0, ""
    for batch in batches:
        noise = Noise.keyed("vlb", seed, at=range(seen, seen + len(batch)), device=batch.x.device)
        one = vlb(generator, batch, levels, terms=terms, noise=noise, variance=variance)
        size, seen, method = batch.x[0].numel(), seen + len(batch), one.method
        for name, nats in [("VLB", one.total), *((f"VLB {k}", v) for k, v in one.terms.items())]:
            found.setdefault(name, []).append(nats)
    if not found:
        raise ValueError("a bound needs at least one batch of images")
    return tuple(bound_of(k, -torch.cat(nats), size, CODE) for k, nats in found.items()), method
