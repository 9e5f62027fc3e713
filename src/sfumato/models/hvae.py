"""The hierarchical VAE: latents z_1 ... z_L from coarse to fine, each with a learned prior.

    p(x, z) = p(x given z_1..L) prod_l p(z_l given z_<l),        q(z given x) = prod_l q(z_l given x, z_<l)
    log p(x) >= E_q[log p(x given z)] - sum_l E_q KL(q(z_l given x, z_<l) || p(z_l given z_<l))

(Sonderby et al. 2016; Vahdat and Kautz 2020; Child 2021.) Prior and posterior are Gaussian, the posterior
relative to the prior (nets/ladder.py).

*Standardised coordinates.* With e_l = (z_l - m_l(z_<l)) / s_l(z_<l) the model's own prior is exactly

    p(e_1, ..., e_L) = N(0, I),        q(e_l given x, e_<l) = N(dm_l, ds_l^2)

because the map z -> e is triangular. So, seen through e, a ladder is a codec with a standard normal
density, as a VAE is: the codes of `encode` and `decode` are all e_l in one vector, coarse first, and the
generator is Generator(Hvae, StandardNormalPrior(size)). Its temperature scales every level's standard
deviation; a path in e is a path at the typical radius of every level; a KL is the same in either
coordinates. The trace speaks of z itself, with the learned priors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..distributions.base import Distribution
from ..distributions.gaussian import Gaussian
from ..nets.ladder import Ladder
from .codec import Codec
from .likelihood import Likelihood
from .trace import Latent, LatentVariableModel, Trace


@final
class Hvae(LatentVariableModel, Codec):
    """encoder: x -> features; decoder: a Ladder, or anything with its `shapes`, `forward` and `residual`."""

    def __init__(self, encoder: nn.Module, decoder: Ladder, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.shapes = tuple(decoder.shapes)
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.size = sum(self.sizes)

    def split(self, code: Tensor) -> list[Tensor]:
        """A code (B, size) as its levels, coarse first, each (B, latent, *its size)."""
        parts = code.split(self.sizes, 1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def trace(self, x: Tensor, *, noise: Noise) -> Trace:
        """Posterior, prior and one draw of every level, and the likelihood at the draws."""
        return self.tracer(x)(noise)

    def tracer(self, x: Tensor) -> Callable[[Noise], Trace]:
        """The same for any number of draws; the encoder's features are those of all."""
        features = self.encoder(x)

        def draw(noise: Noise) -> Trace:
            found = list[Latent]()

            def choose(level: int, h: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
                shift, log_ratio = self.decoder.residual(level, h, features)
                q = Gaussian(mean + log_std.exp() * shift, log_std + log_ratio)
                z = q.sample(noise)
                found.append(Latent(z, q, Gaussian(mean, log_std)))
                return z

            likelihood = self.likelihood(self.decoder(choose, len(x)))
            return Trace(likelihood, x, tuple(found))

        return draw

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Tensor:
        """Standardised codes (B, size): every level at its posterior mean, or at a draw of it."""
        features, codes = self.encoder(x), list[Tensor]()

        def choose(level: int, h: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
            e, log_ratio = self.decoder.residual(level, h, features)
            if noise is not None:
                e = e + log_ratio.exp() * noise.normal(e.shape, e.dtype)
            codes.append(e.flatten(1))
            return mean + log_std.exp() * e

        self.decoder(choose, len(x))
        return torch.cat(codes, 1).to(x.dtype)

    def likelihood_of(self, code: Tensor) -> Distribution:
        """p(x given z) at a standardised code (B, size)."""
        parts = self.split(code)

        def choose(level: int, h: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
            return mean + log_std.exp() * parts[level]

        return self.likelihood(self.decoder(choose, len(code)))

    def decode(self, z: Tensor) -> Tensor:
        """E[x given z] at a standardised code, cut to the range of images [-1, 1]."""
        return self.likelihood_of(z).mean.clamp(-1.0, 1.0)

    def up_to(self, code: Tensor, level: int) -> Tensor:
        """The code with the levels after the first `level` at their prior means (e = 0)."""
        kept = sum(self.sizes[:level])
        return torch.cat([code[:, :kept], torch.zeros_like(code[:, kept:])], 1)
