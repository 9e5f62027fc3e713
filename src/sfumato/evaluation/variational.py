"""The variational bound of a diffusion model on images: an upper bound on -log P(x), by its terms.

    VLB = prior + steps + decoder                              (terms and equations: diffusion/bound.py)

A table of T betas has T - 1 steps; any other schedule is continuous, its steps an integral over log-SNR
between its two ends. Each step needs a call of the network, so `terms` of them are drawn for each image,

    steps ~ sum_k L_{i_k} / (terms p(i_k)),     p(i) proportional to its part of log(1 + SNR),

systematically: the draws of an image are evenly spaced with one random shift of its own. The estimate is
unbiased for any number of terms; half of log(1 + SNR) is what the steps cost for data N(0, 1), so weights
are bounded. With `terms` at least T - 1 every step is taken once and nothing is drawn but noise.

The bound is on the probability of grey levels. It is refused where there are none: for data stored as
floats (whose density the probability-flow ODE gives) and for a process over the codes of a VAE, since the
probability of a code is not that of an image. A conditional model bounds log P(x | condition), given the
image's own class; for DiffuseVAE the condition is drawn from the encoder and costs KL(q(z | x) || p(z)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..core.condition import Condition
from ..core.errors import UsageError
from ..core.noise import Noise, seed_of
from ..core.stable import log_sigmoid
from ..data.dataset import Batch
from ..diffusion.bound import decoder_term, flow_term, prior_term, reveal_term, step_term
from ..diffusion.denoiser import Clipped, Denoiser, Posterior
from ..diffusion.level import Level
from ..diffusion.schedule import Schedule
from ..diffusion.tables import BetaTable
from ..diffusion.transition import InterpolatedVariance, LargeVariance, ReverseVariance
from ..models.codec import Pixels
from ..models.conditioner import ClassLabel, Unconditional
from ..models.diffusion import Diffusion
from ..models.generator import Generator, evaluating
from ..models.prior import LatentPrior
from ..models.reconstruction import Reconstruction
from ..models.vae import Vae
from .bits import CODE, Bound, check_levels
from .spread import Estimate

FARTHEST = 20.0  # log-SNR beyond +- which nothing is left to learn; ends of infinite clocks are moved there
TERMS = 32


@dataclass(frozen=True)
class Variational:
    """The bound of each image in nats, (B,) float64 a term: "prior", "steps", "decoder"; what was summed.

    The total is an unbiased estimate of an upper bound on -log P(x), smaller is better.
    """

    terms: Mapping[str, Tensor]
    method: str

    @property
    def total(self) -> Tensor:
        """The sum of the terms, (B,) nats."""
        return torch.stack(list(self.terms.values())).sum(0)


def vlb(
    generator: Generator,
    batch: Batch,
    levels: int | None,
    *,
    terms: int = TERMS,
    noise: Noise,
    variance: ReverseVariance | None = None,
) -> Variational:
    """The bound of a batch of images x (B, C, *space) on `levels` grey levels, one row of noise an image.

    generator  a diffusion over pixels; its plan says whether predictions are clipped
    terms      steps drawn for each image
    variance   of the reverse step of a table; None: learned where the network gives it, else large
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
        look = _Look(denoiser, density.schedule, x, cond, levels, noise)
        if isinstance(density.schedule, BetaTable):
            found = _of_table(look, density.schedule, terms, variance)
        else:
            found = _of_clock(look, terms)
        return replace(found, terms={**found.terms, **latent_cost(generator, batch, noise)})


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


@dataclass(frozen=True)
class _Look:
    """Images and the denoiser that is to explain them; every draw is of the images' own noise."""

    denoiser: Denoiser
    schedule: Schedule
    x: Tensor
    cond: Condition
    levels: int
    noise: Noise

    def at(self, level: Level) -> tuple[Tensor, Posterior]:
        """One x_t of each image at a level, floats or (B,), and its posterior."""
        x_t = level.mix(self.x, self.noise.normal(self.x.shape, self.x.dtype))
        return x_t, self.denoiser(x_t, level, self.cond)

    def strata(self, count: int) -> Tensor:
        """(count, B) float64: evenly spaced in [0, 1), shifted by a draw of each image."""
        shift = self.noise.uniform((len(self.x),), torch.float64)
        steps = torch.arange(count, dtype=torch.float64, device=shift.device)[:, None]
        return (steps + shift) / count


def _of_table(look: _Look, table: BetaTable, terms: int, variance: ReverseVariance | None) -> Variational:
    """prior, T - 1 steps (or a sample of them) and decoder of a table."""
    first, last = table.at(0), table.at(len(table) - 1)
    _, posterior = look.at(first)
    if variance is None:
        variance = LargeVariance() if posterior.fraction is None else InterpolatedVariance()
    found = {
        "prior": prior_term(look.x, last),
        "steps": torch.zeros(len(look.x), dtype=torch.float64, device=look.x.device),
        "decoder": decoder_term(posterior, look.x, first, variance, look.levels).double(),
    }
    count = len(table) - 1
    if terms >= count:
        for i in range(1, len(table)):
            t, s = table.at(i), table.at(i - 1)
            found["steps"] += step_term(look.at(t)[1], look.x, t, s, variance)
        return Variational(found, f"T = {len(table)}, all terms")
    rows = torch.arange(1, len(table) + 1, dtype=torch.float64, device=look.x.device) / len(table)
    log_snr = table.clock(rows)
    cost = softplus(log_snr)
    share = (cost[:-1] - cost[1:]) / (cost[0] - cost[-1])
    edges = share.cumsum(0)
    for u in look.strata(terms):
        step = torch.searchsorted(edges, u, right=True).clamp(max=count - 1)
        t, s = (table.path.level(log_snr[step + k]) for k in (1, 0))
        found["steps"] += step_term(look.at(t)[1], look.x, t, s, variance) / (share[step] * terms)
    return Variational(found, f"T = {len(table)}, {terms} terms drawn for each image")


def _of_clock(look: _Look, terms: int) -> Variational:
    """prior, integral over log-SNR and decoder of a continuous schedule."""
    low, high = ends(look.schedule)
    path = look.schedule.path
    clean, noisy = path.level(high), path.level(low)
    x_0 = clean.mix(look.x, look.noise.normal(look.x.shape, look.x.dtype))
    total = torch.zeros(len(look.x), dtype=torch.float64, device=look.x.device)
    first, last = (-log_sigmoid(-v) for v in (low, high))
    assert not isinstance(first, Tensor) and not isinstance(last, Tensor)
    for u in look.strata(terms):
        cost = first + (last - first) * u  # log(1 + SNR) = c at log-SNR log(e^c - 1) = c + log(1 - e^-c)
        log_snr = cost + torch.log(-torch.expm1(-cost))
        t = path.level(log_snr)
        total += flow_term(look.at(t)[1], look.x, t) * (last - first) / (terms * torch.sigmoid(log_snr))
    found = {
        "prior": prior_term(look.x, noisy),
        "steps": total,
        "decoder": reveal_term(look.x, x_0, clean, look.levels).double(),
    }
    return Variational(found, f"continuous, {terms} log-SNRs in {low:.1f} ... {high:.1f} for each image")


def ends(schedule: Schedule) -> tuple[float, float]:
    """The lowest and highest log-SNR of a schedule, moved within +-20 where they are infinite."""
    low, high = (float(schedule.log_snr(t)) for t in (1.0, schedule.earliest))
    return max(low, -FARTHEST), min(high, FARTHEST)


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
) -> tuple[tuple[Bound, ...], str]:
    """The bound over images and each of its terms in bits per dimension, and what was summed.

    Each image has its own noise, a function of seed and position: the batch size does not matter. The
    spread is the standard error over images, which holds the chance of the drawn terms as well.
    """
    found: dict[str, list[Tensor]] = {}
    size, seen, method = 1, 0, ""
    for batch in batches:
        seeds = [seed_of("vlb", seed, seen + i) for i in range(len(batch))]
        noise = Noise(seeds, device=batch.x.device)
        one = vlb(generator, batch, levels, terms=terms, noise=noise)
        size, seen, method = batch.x[0].numel(), seen + len(batch), one.method
        for name, nats in [("VLB", one.total), *((f"VLB {k}", v) for k, v in one.terms.items())]:
            found.setdefault(name, []).append(nats)
    if not found:
        raise ValueError("a bound needs at least one batch of images")
    return tuple(_over_images(name, torch.cat(nats), size) for name, nats in found.items()), method


def _over_images(name: str, nats: Tensor, size: int) -> Bound:
    """Mean and standard error over images of a cost in nats (n,) of images of `size` numbers."""
    bits = nats / (size * math.log(2.0))
    spread = float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else math.nan
    return Bound(name, Estimate(float(bits.mean()), spread), CODE, -float(nats.mean()), 0.0, len(bits))
