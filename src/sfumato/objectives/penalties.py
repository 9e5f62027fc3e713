"""What an autoencoder pays for besides its error: the activity of its code, or how fast the code moves.

    sparse        beta sum_j KL(rho || r_j),  KL = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))
                  r_j the mean activation of sigmoid unit j                     (Ng 2011, section 3)
    contractive   lambda |dh/dx|_F^2                                            (Rifai et al. 2011, eq. 6)

The mean activation joins the examples, a loss is of one. Expanded about r, which is held fixed,

    penalty_b = sum_j KL(rho || r_j) + KL'(r_j) (h_bj - r_j),    KL'(r) = (1 - rho)/(1 - r) - rho/r

has the batch's penalty as its mean and the batch's gradient as its gradient. r is the mean of the batch,
or a running mean over more examples than a batch holds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..models.autoencoder import Autoencoder
from ..nets.units import SigmoidUnits
from .jacobian import ExactJacobian, JacobianNorm

TINY = 1e-6  # a mean activation is kept this far from 0 and 1, where the divergence is infinite


class Penalty(nn.Module, ABC):
    """A named cost of a code, per example, and its weight in the loss."""

    name: ClassVar[str]
    weight: float

    @abstractmethod
    def forward(self, model: Autoencoder, x: Tensor, code: Tensor, *, noise: Noise) -> Tensor:
        """The cost (B,) of images x as the encoder saw them and their code (B, D)."""


class MeanActivation(nn.Module, ABC):
    """r_j, the mean activation of each unit, held fixed."""

    @abstractmethod
    def forward(self, code: Tensor) -> Tensor:
        """r (D,) when the code (B, D) is seen, without gradient."""


@final
class BatchMean(MeanActivation):
    """The mean of the micro-batch at hand: where a batch is split to fit into memory, the penalty is that of
    fewer images' noisier mean, and depends on the split."""

    def forward(self, code: Tensor) -> Tensor:
        """mean_b h_bj."""
        return code.detach().mean(0)


@final
class RunningMean(MeanActivation):
    """A mean that forgets: example n examples ago counts e^(-n / memory)."""

    total: Tensor  # (D,) decayed sum of activations
    count: Tensor  # () decayed number of examples

    def __init__(self, latent: int, memory: int = 1024) -> None:
        super().__init__()
        if memory < 1:
            raise ValueError(f"a running mean remembers at least one example, not {memory}")
        self.memory = memory
        self.register_buffer("total", torch.zeros(latent))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, code: Tensor) -> Tensor:
        """The mean with this batch in it; remembered only in training."""
        keep = math.exp(-len(code) / self.memory)
        total = keep * self.total + code.detach().sum(0)
        count = keep * self.count + len(code)
        if self.training:
            self.total.copy_(total)
            self.count.copy_(count)
        return total / count


@final
class KlSparsity(Penalty):
    """sum_j KL(rho || r_j) of sigmoid units, in nats; rho is the wanted mean activation."""

    name: ClassVar[str] = "sparsity"

    def __init__(self, weight: float = 1.0, rho: float = 0.05, mean: MeanActivation | None = None) -> None:
        super().__init__()
        if not 0.0 < rho < 1.0:
            raise ValueError(f"a wanted mean activation lies between 0 and 1, not at {rho}")
        self.weight, self.rho = _checked(weight), rho
        self.mean = mean if mean is not None else BatchMean()

    def forward(self, model: Autoencoder, x: Tensor, code: Tensor, *, noise: Noise) -> Tensor:
        """The expansion of the module, (B,)."""
        if not isinstance(model.units, SigmoidUnits):
            raise TypeError(f"a KL of activations is for SigmoidUnits, not {type(model.units).__name__}")
        r = self.mean(code).clamp(TINY, 1.0 - TINY)
        slope = (1.0 - self.rho) / (1.0 - r) - self.rho / r
        return bernoulli_kl(self.rho, r).sum() + ((code - r) * slope).sum(1)


@final
class Contraction(Penalty):
    """|dh/dx|_F^2, in units of code^2 per unit of image^2; `norm` is how it is computed."""

    name: ClassVar[str] = "jacobian"

    def __init__(self, weight: float = 0.1, norm: JacobianNorm | None = None) -> None:
        super().__init__()
        self.weight = _checked(weight)
        self.norm = norm if norm is not None else ExactJacobian()

    def forward(self, model: Autoencoder, x: Tensor, code: Tensor, *, noise: Noise) -> Tensor:
        """The squared norm (B,)."""
        return self.norm(model, x, noise=noise)


def bernoulli_kl(rho: float, r: Tensor) -> Tensor:
    """KL between coins of probabilities rho and r, in nats, elementwise."""
    return rho * torch.log(rho / r) + (1.0 - rho) * torch.log((1.0 - rho) / (1.0 - r))


def _checked(weight: float) -> float:
    if not weight >= 0.0:
        raise ValueError(f"a penalty's weight is 0 or more, not {weight}")
    return weight
