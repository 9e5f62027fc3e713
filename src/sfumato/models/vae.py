"""The variational autoencoder (Kingma & Welling 2014; Rezende et al. 2014).

    p(z) = N(0, I)    p(x given z) = likelihood(decoder(z))    q(z given x) = N(m(x), s(x)^2)
    log p(x) >= E_q[log p(x given z)] - KL(q(z given x) || p(z))                   nats per image

The encoder answers with (m, log s), 2 D numbers; z = m + s eps. What is sampled afterwards need not be
N(0, I): a prior fitted to the encoded data (prior.py) closes the gap to the aggregate posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from ..core.noise import Noise
from ..distributions.base import Distribution
from ..distributions.gaussian import Gaussian, StandardNormal
from .codec import Codec
from .likelihood import Likelihood
from .trace import Latent, LatentVariableModel, Trace

LOG_STD_RANGE = (-9.0, 3.0)  # keeps exp() and the KL finite whatever the encoder says


@final
class Vae(LatentVariableModel, Codec):
    """encoder (B, C, *space) -> (B, 2 latent); decoder (B, latent) -> (B, C, *space)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, latent: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood, self.latent = encoder, decoder, likelihood, latent

    def posterior(self, x: Tensor) -> Gaussian:
        """q(z given x), (B, latent)."""
        mean, log_std = self.encoder(x).chunk(2, 1)
        return Gaussian(mean, log_std.clamp(*LOG_STD_RANGE))

    def likelihood_of(self, z: Tensor) -> Distribution:
        """p(x given z)."""
        return self.likelihood(self.decoder(z))

    def trace(self, x: Tensor, *, noise: Noise) -> Trace:
        """Posterior, one draw z of it, and the likelihood at z."""
        return self.tracer(x)(noise)

    def tracer(self, x: Tensor) -> Callable[[Noise], Trace]:
        """The same for any number of draws of one posterior."""
        posterior = self.posterior(x)

        def draw(noise: Noise) -> Trace:
            z = posterior.sample(noise)
            return Trace(self.likelihood_of(z), x, (Latent(z, posterior, StandardNormal(z)),))

        return draw

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The posterior's mean, or a draw of it where noise is given, (B, latent)."""
        posterior = self.posterior(x)
        return posterior.mean if noise is None else posterior.sample(noise)

    def decode(self, z: Tensor) -> Tensor:
        """E[x given z], cut to the range of images [-1, 1]."""
        return self.likelihood_of(z).mean.clamp(-1.0, 1.0)
