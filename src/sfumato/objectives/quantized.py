"""What a model with discrete codes is trained on (van den Oord et al. 2017, eq. 3).

    loss = mean (x - x_hat)^2 / variance + beta sum_l mean |z_l - sg e_l|^2 + sum_l mean |sg z_l - e_l|^2

Means are over elements, so beta means the same for every size of image; the variance of the data makes the
first term the share that is not explained. The last term only where a codebook is trained by its gradient;
else it follows averages. It is no likelihood: how many bits the codes cost is the business of their prior
(objectives/likelihood.py).

`codes_used`, the share of all codes chosen at least once in the last complete epoch, is reported with each
step once an epoch has ended (NaN before, which no reader is shown): a perplexity over a batch misleads.
The note `codes_used_so_far` bounds it from below in the first epoch, once enough vectors were seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..core.shapes import event_mean
from ..data.dataset import Batch
from ..models.vqvae import VqVae
from .objective import Judge, Loss, Objective


@final
class Quantized(Objective, Judge):
    """Reconstruction, commitment and codebook terms of a `VqVae`.

    beta      weight of the commitment
    variance  of the data in model units, over all elements
    epoch     examples in an epoch, over which codes are counted
    """

    def __init__(self, beta: float = 0.25, variance: float = 1.0, epoch: int = 10_000) -> None:
        super().__init__()
        if beta < 0 or variance <= 0 or epoch < 1:
            raise ValueError("beta is 0 or more, variance positive and an epoch at least one example")
        self.beta, self.variance, self.epoch = beta, variance, epoch

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `reconstruction`, `commitment`, `codes_used` and perhaps `codebook`; notes by level."""
        assert isinstance(model, VqVae)
        reading = model.read(batch.x, noise=noise)
        used = torch.stack([quantizer.usage() for quantizer in model.quantizers])
        terms = {
            "reconstruction": event_mean((reading.decoded - batch.x) ** 2) / self.variance,
            "commitment": torch.stack([coded.commitment for coded in reading.levels]).sum(0),
            "codes_used": used.mean().expand(len(batch.x)),
        }
        weights = {"reconstruction": 1.0, "commitment": self.beta}
        pulls = [coded.pull for coded in reading.levels if coded.pull is not None]
        if pulls:
            terms["codebook"], weights["codebook"] = torch.stack(pulls).sum(0), 1.0
        so_far = torch.stack([quantizer.used_so_far() for quantizer in model.quantizers])
        return Loss(terms, weights, {"codes_used": used, "codes_used_so_far": so_far})

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: the share of the data's variance that the reconstruction does not explain."""
        assert isinstance(model, VqVae)
        return {"loss": event_mean((model.read(batch.x).decoded - batch.x) ** 2) / self.variance}

    def sums(self, model: nn.Module) -> tuple[Tensor, ...]:
        """What the quantisers added up in this step."""
        assert isinstance(model, VqVae)
        return tuple(tensor for quantizer in model.quantizers for tensor in quantizer.sums())

    def after_step(self, model: nn.Module, seen: int) -> None:
        """Let every quantiser learn from the step."""
        assert isinstance(model, VqVae)
        for quantizer, length in zip(model.quantizers, model.lengths, strict=True):
            quantizer.settle(self.epoch * length)
