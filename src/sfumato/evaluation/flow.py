"""log p(x) of images by a diffusion model's probability-flow ODE, in nats.

    floats       log p(x) itself, a density over [-1, 1] (samplers/likelihood.py)
    grey levels  log P(x) >= E_q[log p(x + u) - log q(u)]      (distributions/dequantise.py)

The flow runs between the ends of the model's own schedule: the density is of x_t / alpha at the last noisy
level, where the model starts from noise at the first one and follows the flow. Deterministic solvers follow
it too, in the limit of many steps and without clipping of predictions (a clipped prediction is no smooth
flow), but every grid goes on from the last noisy level to a posterior mean: their samples lack the last
noise, which is in the density here. Guidance is part of the flow and so of the density, unless it is a
classifier's: its velocity holds grad log p(y given x_t), the divergence the second derivative, which is not
taken: refused.

A class-conditional model gives log p(x given its class). For DiffuseVAE the condition is drawn from the
encoder and costs log q(z given x) - log p(z): a bound. Where the divergence is estimated (more than 16
numbers an image) the value is unbiased, and its chance part shrinks with probes and with images.

Which law of u is tighter depends on how far the model has learned: it begins flat across a bin, where the
uniform law is right, and ends with its own last noise around each level. `trial` tells both for a few images.
Under every law the value bounds log P(x), so a choice made on images other than those that are scored leaves
the mean over them a bound; chosen on the scored ones themselves, the chance in the value would be chosen too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.errors import DivergedError, UsageError
from ..core.noise import Noise
from ..data.dataset import Batch
from ..diffusion.level import Level
from ..distributions.dequantise import Dequantisation, TruncatedNormal, Uniform
from ..models.density import Plan
from ..models.generator import Generator, evaluating
from ..models.guides import ByClassifier
from ..objectives.estimate import ends
from ..samplers.ddim import Ddim
from ..samplers.likelihood import Divergence, divergence_for, log_likelihood
from .bits import check_values
from .variational import latent_cost, pixel_diffusion

TOLERANCE = 1e-4  # of the solver: in tests a Gaussian has its entropy to 0.002 bits/dim
COARSE = 1e-3  # where two laws are compared that differ by tenths of a bit or more, or else matter little


@dataclass(frozen=True)
class Flow:
    """How the likelihood of the flow is computed.

    draws       dequantisations of an image (no meaning for floats), each with probes of its own
    divergence  of the velocity; None: exact up to 16 numbers an image, else one Rademacher probe
    tolerance   of the solver; it decides the number of network calls
    uniform     dequantise uniformly; else by the model's own last noise, cut to the bin
    """

    draws: int = 1
    divergence: Divergence | None = None
    tolerance: float = TOLERANCE
    uniform: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.draws < 1:
            raise UsageError(f"{self.draws} draws of a bound", remedy="Ask for at least one.")
        if not 1e-12 <= self.tolerance <= 0.1:
            raise UsageError(
                f"a tolerance of {self.tolerance:g}",
                remedy="Give one between 1e-12 and 0.1: for example 1e-4.",
            )


def flow_log_prob(
    generator: Generator,
    batch: Batch,
    levels: int | None,
    *,
    noise: Noise,
    how: Flow | None = None,
    plan: Plan | None = None,
) -> Tensor:
    """log p(x) of floats, or an unbiased estimate of a lower bound on log P(x) of grey levels, (B,) nats.

    plan: of which only guidance matters here; None: the generator's own. One row of noise an image.
    UsageError where the model or the images have no such number, and under a classifier's guidance.
    """
    how = how or Flow()
    density = pixel_diffusion(generator, levels, "likelihood by the flow", floats=True)
    check_values(batch.x.cpu(), levels)
    plan = replace(plan or generator.plan, clip=False, solver=Ddim())  # an ODE solver: guides look at it
    if isinstance(plan.guide, ByClassifier):
        raise UsageError(
            "the likelihood under a classifier's guidance needs its second derivative, which is not taken",
            remedy="Leave the classifier out, or guide by the model itself (--guidance) or another.",
        )
    low, high = ends(density.schedule)
    last = density.schedule.path.level(high)
    total = torch.zeros(len(batch), dtype=torch.float64, device=batch.x.device)
    draws = how.draws if levels is not None else 1
    with torch.no_grad(), evaluating(generator):
        for _ in range(draws):
            _, cond = generator.observe(batch, noise=noise)
            denoiser, _ = density.wrapped(plan, cond)
            x, log_q = batch.x, torch.zeros_like(total)
            if levels is not None:
                x, log_q = _dequantisation(levels, last, how.uniform).draw(batch.x, noise)
            found = log_likelihood(
                denoiser,
                density.schedule.path,
                x.to(density.dtype),
                low,
                high,
                cond=cond,
                divergence=how.divergence,
                noise=noise,
                tolerance=how.tolerance,
            )
            total += found.log_prob - log_q
            for cost in latent_cost(generator, batch, noise).values():
                total -= cost
    return total / draws


def flow_method(generator: Generator, levels: int | None, how: Flow, plan: Plan | None = None) -> str:
    """How `flow_log_prob` finds its number, in words: all that changes it but the noise."""
    density = pixel_diffusion(generator, levels, "likelihood by the flow", floats=True)
    low, high = ends(density.schedule)
    divergence = how.divergence or divergence_for(torch.empty(1, *density.shape))
    parts = [divergence.name, f"tolerance {how.tolerance:g}", f"log-SNR {low:.1f} ... {high:.1f}"]
    if levels is not None:
        law = _dequantisation(levels, density.schedule.path.level(high), how.uniform)
        parts.insert(0, f"{how.draws:,} draw{'s' if how.draws > 1 else ''} of {law.name} dequantisation")
    if plan is not None and plan.scale != 1.0:
        parts.append(f"guidance {plan.scale:g}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Trial:
    """Mean bits/dim of `count` images with the model's last noise, cut to the bin, and with uniform noise."""

    normal: float
    uniform: float
    count: int

    @property
    def prefers_uniform(self) -> bool:
        """Whether uniform noise gives the tighter bound."""
        return self.uniform < self.normal


def trial(
    generator: Generator,
    batch: Batch,
    levels: int,
    *,
    at: Sequence[int],
    how: Flow | None = None,
    plan: Plan | None = None,
) -> Trial:
    """Both dequantisations of a few images on grey levels, one draw each, to 1e-3 or a larger tolerance.

    at: numbers (B,) that the images' noise follows from, the same for both laws. A law whose flow cannot be
    solved has infinite bits. Errors as `flow_log_prob`.
    """
    how = how or Flow()
    coarse = replace(how, draws=1, tolerance=max(how.tolerance, COARSE))
    size = batch.x[0].numel() * math.log(2.0)
    bits = []
    for uniform in (False, True):
        noise = Noise.keyed("dequantisation", at=at, device=batch.x.device)
        one = replace(coarse, uniform=uniform)
        try:
            nats = flow_log_prob(generator, batch, levels, noise=noise, how=one, plan=plan)
        except DivergedError:
            bits.append(math.inf)
            continue
        mean = -float(nats.mean()) / size
        bits.append(mean if math.isfinite(mean) else math.inf)
    normal, flat = bits
    return Trial(normal, flat, len(batch))


def _dequantisation(levels: int, last: Level, uniform: bool) -> Dequantisation:
    return Uniform(levels) if uniform else TruncatedNormal(levels, float(last.sigma) / float(last.alpha))
