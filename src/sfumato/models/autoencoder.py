"""Autoencoders: a code h of an image x, and the image again from h.

    h = units(encoder(x))        y = decoder(h)        p(x given h) = likelihood(y)

Nothing here is random: a trace has no latent variable, so its ELBO is log p(x given h(x)), which is no bound
on log p(x). What tells the kinds of autoencoder apart is the units of the code and the penalty in training:

    plain         linear units                                              Hinton & Salakhutdinov 2006
    denoising     linear units; x is rebuilt from a corrupted x             Vincent et al. 2010
    sparse        sigmoid units; their mean activation is held low          Ng 2011, section 3
    k-sparse      only the k largest units of an image speak                Makhzani & Frey 2014
    contractive   the code hardly moves when x does                         Rifai et al. 2011

With `FixedGaussianLikelihood` of variance 1/2 minus the log-likelihood is the squared error |x - y|^2 and a
constant. To sample, a density is fitted to the codes of the training data (models/prior.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from ..core.noise import Noise
from ..distributions.base import Distribution
from ..nets.shallow import LinearEncoder, TransposedDecoder
from ..nets.units import Units
from .codec import Codec
from .likelihood import Likelihood
from .trace import LatentVariableModel, Trace


@final
class Autoencoder(LatentVariableModel, Codec):
    """encoder (B, C, *space) -> (B, latent); units of the code; decoder (B, latent) -> (B, C, *space)."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, units: Units, likelihood: Likelihood, latent: int
    ) -> None:
        super().__init__()
        units.check(latent)
        self.encoder, self.decoder, self.units = encoder, decoder, units
        self.likelihood, self.latent = likelihood, latent

    def code(self, x: Tensor) -> Tensor:
        """h of x, (B, latent)."""
        return self.units(self.encoder(x))

    def likelihood_of(self, h: Tensor) -> Distribution:
        """p(x given h)."""
        return self.likelihood(self.decoder(h))

    def trace(self, x: Tensor, *, noise: Noise) -> Trace:
        """The likelihood at the code of x, without latent variables; extra: the `code` (B, latent)."""
        h = self.code(x)
        return Trace(self.likelihood_of(h), x, (), {"code": h})

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """The code, with or without noise."""
        return self.code(x)

    def decode(self, z: Tensor) -> Tensor:
        """E[x given h] at the code nearest to z that the units can say, cut to the images' range [-1, 1]."""
        return self.likelihood_of(self.units.legal(z)).mean.clamp(-1.0, 1.0)


def tied(
    channels: int, space: Sequence[int], latent: int, units: Units, likelihood: Likelihood
) -> Autoencoder:
    """The one-layer autoencoder with tied weights: h = units(W x + b), y = W^T h + c."""
    encoder = LinearEncoder(channels, space, latent)
    return Autoencoder(encoder, TransposedDecoder(encoder, channels, space), units, likelihood, latent)
