"""DiffuseVAE: a diffusion model conditioned on the reconstructions of a first stage (Pandey et al. 2022).

Training observes the reconstruction of each image at a *sampled* z, as the paper does: the refiner then
meets in training what sampling will hand it. Sampling imagines the decoder's image of a z from the prior.

Formulation 1 hands the network [x_t, x_hat]. Formulation 2 shifts the forward process by x_hat,

    q(x_t given x_0, x_hat) = N(alpha_t x_0 + x_hat, sigma_t^2 I)

In the frame y = x_t - x_hat this is the plain process of formulation 1, which starts at N(0, I) (that is, at
x_hat + noise) and ends at x_0; the network sees y + x_hat in place of y. `Shifted` is the whole difference.
The shift happens where the condition is present and only there, per sample, in training and in sampling
alike: a dropped sample is an unconditional one, so guidance between the two is consistent.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.shapes import per_sample_mask
from ..data.dataset import Batch
from .conditioner import Conditioner
from .density import Plan
from .generator import Generator
from .given import Given, Streams
from .prior import LatentPrior


@final
class Reconstruction(Conditioner):
    """The image of a first stage in the concat slot and, with give_z, its z in the vector slot.

    first is a generator over latent vectors (a VAE with its prior). It is stored with the second stage,
    whose training does not change it. What the first stage is conditioned on (a class) is passed on.
    """

    def __init__(self, first: Generator, give_z: bool = False) -> None:
        super().__init__()
        if not isinstance(first.density, LatentPrior):
            raise TypeError(f"a first stage samples a latent z, not {type(first.density).__name__}")
        self.first, self.give_z = first, give_z
        self.slots = first.slots

    @torch.no_grad()
    def observe(self, batch: Batch, *, noise: Noise) -> Condition:
        """Reconstruction at a draw z of the posterior, without gradient to the first stage."""
        z, cond = self.first.observe(batch, noise=noise)
        return cond.join(self._image(z))

    def draw(self, given: Given, plan: Plan, *, streams: Streams) -> Given:
        """What the first stage draws: z, and before it a class if it knows classes."""
        return self.first.drawn(given, plan, streams)

    @torch.no_grad()
    def imagine(self, given: Given) -> Condition:
        """The decoder's image of z."""
        assert given.z is not None
        return self.first.conditioner.imagine(given).join(self._image(given.z))

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Given:
        """The first stage's z of an image."""
        return Given(z=self.first.codec.encode(x, noise=noise))

    def _image(self, z: Tensor) -> Condition:
        return Condition(concat=self.first.codec.decode(z), vector=z if self.give_z else None)


@final
class Shifted(nn.Module):
    """Formulation 2's backbone: net(c_in y + x_hat, c_noise, cond), x_hat the concat slot where present."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = NOTHING) -> Tensor:
        """The network's output at the shifted input; x (B, C, *space)."""
        if cond.concat is not None:
            shift = cond.concat
            if cond.present is not None:
                shift = torch.where(per_sample_mask(cond.present, x), shift, torch.zeros_like(shift))
            x = x + shift
        return self.net(x, c_noise, cond)
