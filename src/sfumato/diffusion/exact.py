"""Denoisers known in closed form: what a perfect network would answer for simple data.

    x_0 ~ N(m, S):   mean = m + alpha S (alpha^2 S + sigma^2 I)^-1 (x_t - alpha m)
                     var  = sigma^2 S (alpha^2 S + sigma^2 I)^-1
    x_0 ~ sum_k w_k N(m_k, v_k):   the same per component, mixed by its responsibility
                     r_k = w_k N(x_t; alpha m_k, alpha^2 v_k + sigma^2) / (the sum of these)

They stand in for networks wherever a law about schedules, solvers, guidance or likelihoods is tested.
Data have shape (B, *event); means have shape event.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.shapes import per_sample
from ..core.stable import Scalar
from .denoiser import Denoiser, Posterior
from .level import Level


class GaussianDenoiser(Denoiser):
    """Data N(mean, std^2), independent elements; mean and std of shape event or ()."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor | float, std: Tensor | float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean))
        self.register_buffer("std", torch.as_tensor(std))

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The exact posterior; cond is ignored."""
        a, s = per_sample(level.alpha, x_t), per_sample(level.sigma, x_t)
        mean, var = self.mean.to(x_t.dtype), self.std.to(x_t.dtype) ** 2
        share = var / (a * a * var + s * s)
        return Posterior(mean + a * share * (x_t - a * mean), (s * s * share).expand_as(x_t))


class CorrelatedDenoiser(Denoiser):
    """Data N(mean, covariance) over the flattened event of D numbers; mean of shape event."""

    mean: Tensor
    spectrum: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        if covariance.shape != (mean.numel(), mean.numel()):
            raise ValueError(f"covariance {tuple(covariance.shape)} of an event of {mean.numel()} numbers")
        spectrum, basis = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("spectrum", spectrum.clamp(min=0.0))
        self.register_buffer("basis", basis)

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The exact posterior, its variance being the diagonal; cond is ignored."""
        flat = x_t.flatten(1)
        a, s = per_sample(level.alpha, flat), per_sample(level.sigma, flat)
        mean, d, basis = (v.to(flat.dtype) for v in (self.mean.flatten(), self.spectrum, self.basis))
        share = d / (a * a * d + s * s)
        centre = mean + (a * share * ((flat - a * mean) @ basis)) @ basis.T
        var = (s * s * share).expand_as(flat) @ (basis**2).T
        return Posterior(centre.view_as(x_t), var.view_as(x_t))


class MixtureDenoiser(Denoiser):
    """Data from K Gaussians: weights (K,), means (K, *event), one std per component (K,)."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means)
        self.register_buffer("stds", stds)

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The exact posterior; a label in cond picks one component, unless it is not present."""
        x = x_t.unsqueeze(1)  # (B, 1, *event) against (K, *event)
        a, s = (per_sample(v, x) for v in (level.alpha, level.sigma))
        var = self._per_component(self.stds.to(x.dtype) ** 2, x)
        means = self.means.to(x.dtype)
        total = a * a * var + s * s
        means_k = means + a * var / total * (x - a * means)
        r = self._per_component(self._responsibilities(x, a, total, cond), x)
        mean = (r * means_k).sum(1)
        return Posterior(mean, (r * (s * s * var / total + means_k**2)).sum(1) - mean**2)

    def _responsibilities(self, x: Tensor, a: Scalar, total: Tensor, cond: Condition) -> Tensor:
        """(B, K): the posterior probability of each component."""
        count = x[0].numel()
        distance = ((x - a * self.means.to(x.dtype)) ** 2).flatten(2).sum(2)
        total = total.reshape(-1, len(self.weights))  # (1, K) or (B, K)
        logits = torch.log(self.weights.to(x.dtype)) - 0.5 * (distance / total + count * torch.log(total))
        if cond.label is not None:
            chosen = torch.nn.functional.one_hot(cond.label, len(self.weights)).bool()
            free = torch.zeros_like(chosen) if cond.present is None else ~cond.present.unsqueeze(1)
            logits = logits.masked_fill(~(chosen | free), -math.inf)
        return torch.softmax(logits, 1)

    def _per_component(self, value: Tensor, x: Tensor) -> Tensor:
        """(K,) or (B, K) -> (..., K, 1, ..., 1) ready for (B, K, *event)."""
        return value.reshape(value.shape + (1,) * (x.ndim - 2))

    def log_prob(self, x_t: Tensor, level: Level) -> Tensor:
        """log q(x_t) in nats, (B,): the density of the noisy data."""
        x = x_t.unsqueeze(1)
        a, s = (per_sample(v, x) for v in (level.alpha, level.sigma))
        total = a * a * self._per_component(self.stds.to(x.dtype) ** 2, x) + s * s
        distance = (x - a * self.means.to(x.dtype)) ** 2 / total + torch.log(2 * math.pi * total)
        parts = -0.5 * distance.flatten(2).sum(2)
        return torch.logsumexp(torch.log(self.weights.to(x.dtype)) + parts, 1)

    def sample(self, noise: Noise, dtype: torch.dtype = torch.float32) -> Tensor:
        """Clean data (B, *event), one row per row of noise."""
        count = len(noise)
        u = noise.uniform((count,), torch.float64)
        edges = self.weights.double().cumsum(0)[:-1]
        which = torch.searchsorted(edges, u, right=True)
        eps = noise.normal((count, *self.means.shape[1:]), dtype)
        return self.means.to(dtype)[which] + per_sample(self.stds[which], eps) * eps
