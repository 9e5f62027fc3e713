"""What a latent-variable model says about a batch: its distributions, from which objectives make losses.

    log p(x) >= E_q[log p(x given z)] - sum_l KL(q(z_l given x, z_<l) || p(z_l given z_<l))      the ELBO

A trace holds the likelihood p(x given z) at one sampled z, the data, and for every latent variable its
sample, posterior and prior: none for a plain autoencoder, one for a VAE, L for a ladder. Everything is in
nats per image. (Kingma & Welling 2014, eq. 3; Burda et al. 2016, eq. 8 for the weighted bound.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..distributions.base import Distribution, kl, kl_per_unit
from ..distributions.gaussian import Gaussian


@dataclass(frozen=True, slots=True)
class Latent:
    """One latent variable: its sample z (B, ...), the posterior it was drawn from, and its prior.

    sampled: the prior depends on what was drawn after z, so the KL is log q(z) - log p(z) at the sample,
    unbiased where the closed form would not be (both Gaussian).
    """

    z: Tensor
    posterior: Distribution
    prior: Distribution
    sampled: bool = False

    def kl(self) -> Tensor:
        """KL(q || p) in nats, (B,)."""
        return -self.log_ratio() if self.sampled else kl(self.posterior, self.prior)

    def kl_per_unit(self) -> Tensor:
        """KL of every unit in nats, (B, ...)."""
        if not self.sampled:
            return kl_per_unit(self.posterior, self.prior)
        assert isinstance(self.posterior, Gaussian) and isinstance(self.prior, Gaussian)
        return self.posterior.log_density(self.z) - self.prior.log_density(self.z)

    def log_ratio(self) -> Tensor:
        """log p(z) - log q(z given x) at the sample, (B,): minus its expectation is the KL."""
        return self.prior.log_prob(self.z) - self.posterior.log_prob(self.z)


@dataclass(frozen=True, slots=True)
class Trace:
    """Likelihood at the sampled latents, the data it is to explain, and the latents."""

    likelihood: Distribution
    data: Tensor
    latents: tuple[Latent, ...] = ()
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def log_likelihood(self) -> Tensor:
        """log p(x given z) in nats, (B,)."""
        return self.likelihood.log_prob(self.data)

    def check(self) -> None:
        """DataError where the data cannot have come from the likelihood; asked once, before training."""
        self.likelihood.check(self.data)

    def elbo(self) -> Tensor:
        """One-sample estimate of the ELBO with exact KL, in nats, (B,)."""
        return self.log_likelihood() - sum(latent.kl() for latent in self.latents)

    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z given x) in nats, (B,): its log-mean-exp over samples bounds log p(x)."""
        return self.log_likelihood() + sum(latent.log_ratio() for latent in self.latents)


@dataclass(frozen=True, slots=True)
class Conditional:
    """What a model bounds that gives some of x a probability given the rest, and none to the whole of x.

    of        words for it, which enter the name of every such bound: it is ranked with no bound on log p(x)
    latents   the latents by name; each is drawn several times for an example, z (B, n, ...)
    """

    of: str
    latents: tuple[str, ...]


class LatentVariableModel(nn.Module, ABC):
    """A model p(x, z) with an approximate posterior q(z given x); sampled through a `Generator`."""

    @property
    def conditional(self) -> Conditional | None:
        """What the ELBO is of; None: log p(x), with one draw of every latent for an example."""
        return None

    @abstractmethod
    def trace(self, x: Tensor, *, noise: Noise) -> Trace:
        """The model's distributions at a batch x (B, C, *space) and one draw of its latents."""

    def tracer(self, x: Tensor) -> Callable[[Noise], Trace]:
        """The trace of x as a function of the noise alone: what follows from x by itself is computed once.

        Called K times with one noise it gives what K calls of `trace` with that noise give, draw by draw;
        only dropout in an encoder that is trained would be common to all. Here nothing is kept.
        """
        return lambda noise: self.trace(x, noise=noise)


def importance_bound(model: LatentVariableModel, x: Tensor, samples: int, *, noise: Noise) -> Tensor:
    """log (1/K) sum_k p(x, z_k) / q(z_k given x) in nats, (B,): with K it rises to log p(x)."""
    weights = torch.stack([model.trace(x, noise=noise).log_weight() for _ in range(samples)])
    return torch.logsumexp(weights, 0) - math.log(samples)
