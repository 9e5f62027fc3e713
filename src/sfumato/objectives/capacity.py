"""The ELBO with its KL held at a rising capacity: the constrained beta-VAE (Burgess et al. 2018).

    loss = -E_q[log p(x given z)] + gamma | E_x KL(q(z given x) || p(z)) - C |
    C(seen) = capacity * min(1, seen / rise)                               in nats, from 0 to `capacity`

(their eq. 8.) The constrained problem behind beta-VAE is max E log p(x given z) subject to KL <= C (Higgins
et al. 2017, eq. 2): there beta is its multiplier, here a strong penalty holds the constraint and C is the
dial. Raised slowly, the code takes up one factor after another, those first that save most. The mean is
over the images at hand: per image the term is sign(mean KL - C) (KL - C), whose mean is the distance. Where a
batch is split to fit into memory they are those of the micro-batch: its mean is noisier, and the loss depends
on the split.
`reconstruction` and `kl` are reported as they are, `capacity` is C.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..data.dataset import Batch
from .elbo import Elbo
from .objective import Judge, Loss, Objective


@final
class Capacity(Objective, Judge):
    """-log p + gamma |KL - C| of a `LatentVariableModel`, C rising to `capacity` nats in `rise` examples."""

    # the held-out ELBO is best before the capacity has risen: it must not choose the state that is kept
    decides = False

    def __init__(self, capacity: float = 25.0, gamma: float = 100.0, rise: int = 100_000) -> None:
        super().__init__()
        if capacity < 0 or gamma < 0 or rise < 0:
            raise ValueError("capacity, gamma and rise are 0 or more")
        self.capacity, self.gamma, self.rise = capacity, gamma, rise
        self.elbo = Elbo()

    def allowed(self, seen: int) -> float:
        """C in nats after so many examples."""
        return self.capacity * min(1.0, seen / self.rise) if self.rise else self.capacity

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `reconstruction`, `kl`, `excess` and `capacity`; the notes of the ELBO."""
        plain = self.elbo(model, batch, noise=noise, seen=seen)
        kl, allowed = plain.terms["kl"], self.allowed(seen)
        excess = torch.sign(kl.detach().mean() - allowed) * (kl - allowed)
        held = {"excess": excess, "capacity": torch.full_like(kl.detach(), allowed)}
        return Loss({**plain.terms, **held}, {"reconstruction": 1.0, "excess": self.gamma}, plain.notes)

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """The negative ELBO (beta = 1) and its two parts, (B,) in nats."""
        return self.elbo.judge(model, batch, noise=noise)
