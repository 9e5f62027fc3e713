"""log p(x) of a diffusion model, exactly, by its probability-flow ODE (Song et al. 2021, sec. 4.3, app. D.2).

The ODE carries data to the starting noise one to one, and along it log p changes by the divergence of its
velocity (instantaneous change of variables, Chen et al. 2018, eq. 8). All paths are one after rescaling, so
the state is u = x_t / r, r^2 = alpha^2 + sigma^2, whatever the path, and the coordinate is the log-SNR l:

    du/dl       = (a/2) (mean - a u),                  a = alpha / r
    dlog p(u)/dl = -(a/2) (tr dmean/du - a D)          for D numbers
    log p(x)    = log N(u_low; 0, (sigma/r)_low^2) + integral from l_high down to l_low of div + D log a_high

The model whose density this is starts from sigma eps at l_low and ends at l_high, where x = x_t / alpha. The
denoiser may be wrapped: guidance changes the flow and so the density, and both remain exact where the wrapped
denoiser can be differentiated by x_t. Classifier guidance cannot: its gradient is of a copy, taken once.

The trace is exact with one backward pass for each of the D numbers, or estimated without bias as v^T J v by
probes v with E[v v^T] = I (Hutchinson 1990; Grathwohl et al. 2019, eq. 7), drawn once for a whole path.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.shapes import event_sum, per_sample
from ..core.stable import Scalar, log, sqrt
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level
from ..diffusion.paths import Path, VariancePreserving
from .adaptive import Norm, solve
from .solver import draw

FEW = 16  # numbers per example up to which the exact divergence is the default


class Divergence(ABC):
    """Vectors v_k (B, C, *space) with sum_k v_k^T J v_k / share the trace of J, or its expectation."""

    share: float = 1.0

    @property
    @abstractmethod
    def name(self) -> str:
        """In words, for the method of a number: how the trace is found."""

    @abstractmethod
    def probes(self, x: Tensor, noise: Noise | None) -> Iterator[Tensor]:
        """The vectors, each like x."""


class Exact(Divergence):
    """Every unit vector: no error, one backward pass for each number of x."""

    @property
    def name(self) -> str:
        """exact divergence."""
        return "exact divergence"

    def probes(self, x: Tensor, noise: Noise | None) -> Iterator[Tensor]:
        """The basis."""
        size = x[0].numel()
        for k in range(size):
            unit = x.new_zeros(size)
            unit[k] = 1.0
            yield unit.view(1, *x.shape[1:]).expand_as(x)


class Hutchinson(Divergence):
    """Random probes: signs (Rademacher, least variance of all) or normal draws.

    The variance of v^T J v is 2 (|J|^2 - sum_i J_ii^2) for signs and 2 |J|^2 for normal v, J symmetric.
    """

    def __init__(self, probes: int = 1, *, normal: bool = False) -> None:
        if probes < 1:
            raise ValueError(f"at least one probe is needed, not {probes}")
        self.share, self.normal = float(probes), normal

    @property
    def name(self) -> str:
        """Probes and their law: 1 Rademacher probe."""
        count = round(self.share)
        return f"{count:,} {'normal' if self.normal else 'Rademacher'} probe{'s' if count > 1 else ''}"

    def probes(self, x: Tensor, noise: Noise | None) -> Iterator[Tensor]:
        """Independent vectors, from the noise of each sample."""
        for _ in range(round(self.share)):
            v = draw(noise, x)
            yield v if self.normal else torch.where(v < 0, -1.0, 1.0).to(x.dtype)


def divergence_for(x: Tensor) -> Divergence:
    """Exact for up to 16 numbers per example, else one Rademacher probe."""
    return Exact() if x[0].numel() <= FEW else Hutchinson()


@dataclass(frozen=True, slots=True)
class Likelihood:
    """log p(x) in nats (B,) float64; the noise eps (B, ...) that the flow carries x to; evaluations."""

    log_prob: Tensor
    eps: Tensor
    calls: int


def log_likelihood(
    denoiser: Denoiser,
    path: Path,
    x: Tensor,
    low: float,
    high: float,
    *,
    cond: Condition = NOTHING,
    divergence: Divergence | None = None,
    noise: Noise | None = None,
    tolerance: float = 1e-5,
) -> Likelihood:
    """log p(x) of x (B, C, *space) under the flow between log-SNR low (noise) and high (data).

    tolerance bounds the local error of u and, per number of x, that of log p in nats. noise: for the probes
    of Hutchinson, one seed per sample. Gradients to parameters are not kept.
    """
    if not low < high:
        raise ValueError(f"the flow runs between a low and a high log-SNR, not {low} and {high}")
    with torch.inference_mode(False), torch.no_grad():
        x = x.clone()  # made in inference mode, it could not take part in a backward pass
        flow = _Flow(denoiser, path, cond, divergence or divergence_for(x), x, noise)
        # divided by r, a level of any path is the variance-preserving one
        ends = [VariancePreserving().level(value) for value in (low, high)]
        size = x[0].numel()
        start = torch.cat([ends[1].alpha * x.double().flatten(1), x.new_zeros(len(x), 1).double()], 1)
        solution = solve(flow, start, high, low, norm=_norm(size, tolerance), first=0.25)
        eps = (solution.y[:, :-1] / ends[0].sigma).view_as(x)
        prior = event_sum(-0.5 * eps * eps) - size * (0.5 * math.log(2 * math.pi) + log(ends[0].sigma))
        log_prob = prior + solution.y[:, -1] + size * log(ends[1].alpha)
    return Likelihood(log_prob, eps.to(x.dtype), solution.calls)


class _Flow:
    """The field of the state (u, integral of the divergence), (B, D + 1), by the log-SNR (B,)."""

    def __init__(
        self,
        denoiser: Denoiser,
        path: Path,
        cond: Condition,
        divergence: Divergence,
        x: Tensor,
        noise: Noise | None,
    ) -> None:
        self.denoiser, self.path, self.cond, self.like = denoiser, path, cond.map(torch.clone), x
        self.probes, self.share = list(divergence.probes(x, noise)), divergence.share

    def __call__(self, log_snr: Tensor, y: Tensor) -> Tensor:
        level = self.path.level(log_snr)
        r = sqrt(level.alpha**2 + level.sigma**2)
        a = torch.as_tensor(level.alpha / r)[:, None]
        u = y[:, :-1]
        mean, trace = self.mean_and_trace(u.view_as(self.like), level, r)
        velocity = 0.5 * a * (mean.double().flatten(1) - a * u)
        divergence = 0.5 * a * (trace.double()[:, None] - a * u.shape[1])
        return torch.cat([velocity, divergence], 1)

    def mean_and_trace(self, u: Tensor, level: Level, r: Scalar) -> tuple[Tensor, Tensor]:
        """The posterior mean at r u, and the trace of its derivative by u."""
        with torch.enable_grad():
            u = u.to(self.like.dtype).requires_grad_()
            mean: Tensor = self.denoiser(per_sample(r, u) * u, level, self.cond).mean
        trace = u.new_zeros(len(u))
        for k, v in enumerate(self.probes):
            keep = k + 1 < len(self.probes)
            (back,) = torch.autograd.grad(mean, u, v, retain_graph=keep)
            trace += event_sum(back * v)
        return mean.detach(), trace / self.share


def _norm(size: int, tolerance: float) -> Norm:
    """Root mean square of u's error, or the error of log p per number where that is larger."""

    def norm(error: Tensor, y: Tensor) -> Tensor:
        in_u = (error[:, :-1] / (1.0 + y[:, :-1].abs())).square().mean(1).sqrt()
        return torch.maximum(in_u, error[:, -1].abs() / size) / tolerance

    return norm
