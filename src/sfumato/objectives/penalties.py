"""What an autoencoder pays for besides its error: the activity of its code, or how fast the code moves.

    sparse        beta sum_j KL(rho || r_j),  KL = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))
                  r_j the mean activation of sigmoid unit j                     (Ng 2011, section 3)
    contractive   lambda |dh/dx|_F^2                                            (Rifai et al. 2011, eq. 6)

The mean activation joins the examples, a loss is of one. Expanded about r, which is held fixed,

    penalty_b = sum_j KL(rho || r_j) + KL'(r_j) (h_bj - r_j),    KL'(r) = (1 - rho)/(1 - r) - rho/r

has, where r is the batch's mean, the batch's penalty as its mean and the batch's gradient as its gradient. r
may be a running mean over more examples than a batch holds: then the slope is that of the longer mean, and
the mean of the penalty is the line's value at the batch's mean, not the batch's own penalty.
"""

from __future__ import annotations

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

    def sums(self) -> tuple[Tensor, ...]:
        """What the step under way has seen, to be summed over processes."""
        return ()

    def commit(self) -> None:
        """The step is complete, and the sums are those of all processes."""


class MeanActivation(nn.Module, ABC):
    """r_j, the mean activation of each unit, held fixed."""

    @abstractmethod
    def forward(self, code: Tensor) -> Tensor:
        """r (D,) when the code (B, D) is seen, without gradient."""

    def sums(self) -> tuple[Tensor, ...]:
        """What the step under way has seen, to be summed over processes."""
        return ()

    def commit(self) -> None:
        """The step is complete, and the sums are those of all processes."""


@final
class BatchMean(MeanActivation):
    """The mean of the micro-batch at hand: where a batch is split to fit into memory, the penalty is that of
    fewer images' noisier mean, and depends on the split."""

    def forward(self, code: Tensor) -> Tensor:
        """mean_b h_bj."""
        return code.detach().mean(0)


@final
class RunningMean(MeanActivation):
    """A mean that forgets: what was seen n examples before this step counts e^(-n / memory).

    The step under way counts in full, as far as this process has seen it; with the step it enters the memory,
    summed over processes, unless a code was not finite.
    """

    total: Tensor  # (D,) decayed sum of activations
    count: Tensor  # () decayed number of examples
    pending: Tensor  # (D + 1,) of the step under way: sum of activations, number of examples

    def __init__(self, latent: int, memory: int = 1024) -> None:
        super().__init__()
        if memory < 1:
            raise ValueError(f"a running mean remembers at least one example, not {memory}")
        self.memory = memory
        self.register_buffer("total", torch.zeros(latent))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("pending", torch.zeros(latent + 1))

    def forward(self, code: Tensor) -> Tensor:
        """The mean with this batch in it; remembered only in training."""
        pending = self.pending + torch.cat([code.detach().sum(0), code.new_full((1,), len(code))])
        if self.training:
            self.pending.copy_(pending)
        total, count = self._with(pending)
        return total / count

    def sums(self) -> tuple[Tensor, ...]:
        """Activations and examples of the step."""
        return (self.pending,)

    @torch.no_grad()
    def commit(self) -> None:
        """Remember the step, or nothing of it where a code was not finite."""
        fine = torch.isfinite(self.pending).all()
        total, count = self._with(self.pending)
        self.total.copy_(torch.where(fine, total, self.total))
        self.count.copy_(torch.where(fine, count, self.count))
        self.pending.zero_()

    def _with(self, pending: Tensor) -> tuple[Tensor, Tensor]:
        keep = torch.exp(-pending[-1] / self.memory)
        return keep * self.total + pending[:-1], keep * self.count + pending[-1]


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

    def sums(self) -> tuple[Tensor, ...]:
        """Those of the mean activation."""
        return self.mean.sums()

    def commit(self) -> None:
        """The mean activation takes in the step."""
        self.mean.commit()


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
