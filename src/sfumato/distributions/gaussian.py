"""Gaussians with independent elements.

    log N(x; m, s^2) = -1/2 ((x - m) / s)^2 - log s - 1/2 log(2 pi)
    H[N(m, s^2)]     = log s + 1/2 log(2 pi e)
    KL(N(m, s^2) || N(n, r^2)) = log(r / s) + (s^2 + (m - n)^2) / (2 r^2) - 1/2

(Kingma & Welling 2014, appendix B, for the standard normal n = 0, r = 1.) The logarithm of the standard
deviation is the parameter: it is unconstrained, and its floor bounds the density of constant data.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_sum
from .base import Distribution, kl_per_unit, no_closed_form

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


@final
class Gaussian(Distribution):
    """N(mean, exp(log_std)^2); mean (B, ...), log_std of a shape that broadcasts to it."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self._mean, self.log_std = mean, log_std

    @property
    def mean(self) -> Tensor:
        """E[x], (B, ...)."""
        return self._mean

    @property
    def std(self) -> Tensor:
        """Standard deviation, of log_std's shape."""
        return self.log_std.exp()

    def log_density(self, x: Tensor) -> Tensor:
        """log N(x; mean, std^2) of every element in nats, (B, ...)."""
        u = (x - self._mean) * torch.exp(-self.log_std)
        return -0.5 * u * u - self.log_std - LOG_SQRT_2PI

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, std^2) in nats, (B,)."""
        return event_sum(self.log_density(x))

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """mean + temperature * std * eps, differentiable in both parameters (the reparameterisation)."""
        return self._mean + temperature * self.std * noise.normal(self._mean.shape, self._mean.dtype)

    def entropy(self) -> Tensor:
        """H[p] = sum of log std + 1/2 log(2 pi e) in nats, (B,)."""
        return event_sum((self.log_std + LOG_SQRT_2PI + 0.5).expand_as(self._mean))


@final
class StandardNormal(Distribution):
    """N(0, I) over a batch shaped like a given tensor (B, ...)."""

    def __init__(self, like: Tensor) -> None:
        self._mean = torch.zeros_like(like, requires_grad=False)

    @property
    def mean(self) -> Tensor:
        """Zeros, (B, ...)."""
        return self._mean

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; 0, I) in nats, (B,)."""
        return event_sum(-0.5 * x * x - LOG_SQRT_2PI)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """temperature * eps."""
        return temperature * noise.normal(self._mean.shape, self._mean.dtype)

    def entropy(self) -> Tensor:
        """H[p] = D / 2 log(2 pi e) in nats, (B,)."""
        return event_sum(torch.full_like(self._mean, LOG_SQRT_2PI + 0.5))


@kl_per_unit.register
def _(q: Gaussian, p: Distribution) -> Tensor:
    if isinstance(p, StandardNormal):
        # expm1 keeps the small divergence of an unused unit exact: s^2 - 1 - log s^2
        log_var = 2.0 * q.log_std
        return (0.5 * (torch.expm1(log_var) - log_var) + 0.5 * q.mean**2).expand_as(q.mean)
    if isinstance(p, Gaussian):
        log_ratio = 2.0 * (q.log_std - p.log_std)
        shift = (q.mean - p.mean) * torch.exp(-p.log_std)
        return 0.5 * (torch.expm1(log_ratio) - log_ratio) + 0.5 * shift**2
    raise no_closed_form(q, p)
