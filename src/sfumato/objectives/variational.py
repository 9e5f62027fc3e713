"""The variational bound of a table of betas as a training loss, with the reverse variance learned.

    L_VLB    = L_T + sum_t L_{t-1} + L_0 ~ L_i / p(i)                       one row i drawn for each image
    L_hybrid = L_simple + share L_VLB                           (Nichol & Dhariwal 2021, eq. 16; share 0.001)

The network gives two numbers for every number of the image (diffusion/scaling.py): the mean as ever, and
where the reverse variance lies between its bounds. In the hybrid the mean is detached in L_VLB: L_simple
alone trains the mean, L_VLB only the variance. The terms are those of diffusion/bound.py; bounds are in
nats per image, and minimised in bits per dimension, L_VLB / (D log 2). L_T has nothing to train and is
left out of the loss.

L_VLB by itself is noisy, since the cost of a row falls over many orders of magnitude from the first row
to the last. Drawing rows by their history (history.py) makes it trainable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.condition import Condition
from ..core.errors import UsageError
from ..core.noise import Noise
from ..core.shapes import event_mean
from ..data.dataset import Batch
from ..diffusion.bound import decoder_term, step_term
from ..diffusion.denoiser import Posterior
from ..diffusion.level import Level
from ..diffusion.tables import BetaTable
from ..diffusion.transition import InterpolatedVariance
from ..diffusion.weighting import Simple, Weighting
from ..models.diffusion import Diffusion
from .denoising import JUDGED, diffusion_of, droppable, weighed
from .estimate import Look
from .history import LossHistory
from .objective import Judge, Loss, Objective


@final
class Vlb(Objective, Judge):
    """L_VLB of images on `levels` grey levels, in bits per dimension.

    importance  draw rows by the history of their losses; otherwise uniformly
    dropout     of the condition, for guidance
    UsageError on a schedule without rows, ValueError for a network without a variance.
    """

    def __init__(self, levels: int, importance: bool = True, dropout: float = 0.1) -> None:
        super().__init__()
        self.levels, self.importance, self.dropout = checked_levels(levels), importance, dropout
        self.history: LossHistory | None = None

    def open(self, model: nn.Module, target: int) -> None:
        """A history of the model's rows, empty, where rows are drawn by it."""
        table = table_of(diffusion_of(model)[1])
        self.history = LossHistory(len(table)).to(table.decays.device) if self.importance else None

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Term `vlb`, in nats per image."""
        generator, density = diffusion_of(model)
        table = table_of(density)
        x, cond = generator.observe(batch, noise=noise)
        cond = droppable(cond, self.dropout, len(x), noise)
        u = noise.stratified(len(x))
        if self.history is None:
            rows, p = (u * len(table)).long(), torch.full_like(u, 1.0 / len(table))
        else:
            rows, p = self.history.draw(u)
        posterior, t, s = _look(density, table, x, cond, rows, noise)
        cost = _cost(posterior, x, rows, t, s, self.levels)
        if self.history is not None and self.training:
            self.history.note(rows, cost)
        return Loss({"vlb": cost / p}, {"vlb": bits_of(x)})

    def sums(self, model: nn.Module) -> tuple[Tensor, ...]:
        """What the step has seen, which every process needs of all."""
        return () if self.history is None else (self.history.pending,)

    def after_step(self, model: nn.Module, seen: int) -> None:
        """The step is complete: its losses count from now on."""
        if self.history is not None:
            self.history.commit()

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: the whole bound in bits per dimension, from a few rows of each image; its terms in nats."""
        return judged_bound(model, batch, self.levels, noise)


@final
class Hybrid(Objective, Judge):
    """L_simple + share L_VLB, the mean detached in the second, rows drawn uniformly.

    weighting  of L_simple; share is of L_VLB in bits per dimension. Further arguments as in Vlb.
    """

    decides: bool = False

    def __init__(
        self, levels: int, weighting: Weighting | None = None, share: float = 0.001, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if not (math.isfinite(share) and share >= 0.0):
            raise ValueError(f"the share of the bound in the loss is 0 or more, not {share}")
        self.levels, self.share, self.dropout = checked_levels(levels), share, dropout
        self.weighting = weighting or Simple()

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `denoising`, a mean per element, and `vlb`, in nats per image."""
        generator, density = diffusion_of(model)
        table = table_of(density)
        x, cond = generator.observe(batch, noise=noise)
        cond = droppable(cond, self.dropout, len(x), noise)
        rows = (noise.stratified(len(x)) * len(table)).long()
        posterior, t, s = _look(density, table, x, cond, rows, noise)
        simple = weighed(self.weighting, t, event_mean((posterior.mean - x) ** 2))
        fixed = Posterior(posterior.mean.detach(), None, posterior.fraction)
        bound = _cost(fixed, x, rows, t, s, self.levels) * len(table)
        weights = {"denoising": 1.0, "vlb": self.share * bits_of(x)}
        return Loss({"denoising": simple, "vlb": bound}, weights)

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: the whole bound in bits per dimension, from a few rows of each image; its terms in nats."""
        return judged_bound(model, batch, self.levels, noise)


def judged_bound(model: nn.Module, batch: Batch, levels: int, noise: Noise) -> Mapping[str, Tensor]:
    """`loss`: the bound of each image in bits per dimension; its terms in nats, (B,)."""
    generator, density = diffusion_of(model)
    x, cond = generator.observe(batch, noise=noise)
    found = Look(density.denoiser, density.schedule, x, levels, noise, cond).estimate(JUDGED)
    return {"loss": found.total * bits_of(x), **found.terms}


def table_of(density: Diffusion) -> BetaTable:
    """The table of a diffusion; UsageError where its schedule has no rows."""
    if not isinstance(density.schedule, BetaTable):
        raise UsageError(
            f"a bound of T steps needs a table of betas, not {type(density.schedule).__name__}",
            remedy="Use the objective Vdm for a continuous schedule, or a BetaTable.",
        )
    return density.schedule


def checked_levels(levels: int | None) -> int:
    """The number of grey levels; UsageError where there are none."""
    if levels is None or levels < 2:
        raise UsageError(
            "a likelihood of grey levels needs data of integers",
            remedy="For floats train diffusion; the probability-flow ODE gives its density.",
        )
    return levels


def bits_of(x: Tensor) -> float:
    """Bits per dimension in a nat per image, for images x (B, ...)."""
    return 1.0 / (x[0].numel() * math.log(2.0))


def _look(
    density: Diffusion, table: BetaTable, x: Tensor, cond: Condition, rows: Tensor, noise: Noise
) -> tuple[Posterior, Level, Level]:
    """The posterior at one x_t of each image at its row (B,), and the levels of that row and the one before.

    Before row 0 there is clean data, for which no step is defined; half a row takes its place there, so
    that the cost of a step stays finite where it is not used.
    """
    t, s = (table.path.level(table.clock(at / len(table))) for at in (rows + 1.0, rows.clamp(min=0.5)))
    x_t = t.mix(x, noise.normal(x.shape, x.dtype))
    return density.denoiser(x_t, t, cond), t, s


def _cost(posterior: Posterior, x: Tensor, rows: Tensor, t: Level, s: Level, levels: int) -> Tensor:
    """L_0 of the images at row 0 and L_{t-1} of the others, (B,) nats."""
    variance, first = InterpolatedVariance(), rows == 0
    steps = step_term(posterior, x, t, s, variance)
    # nearly always none, and a decoder costs a tenth of a small network; a GPU would have to wait to know
    if first.device.type == "cpu" and not bool(first.any()):
        return steps
    return torch.where(first, decoder_term(posterior, x, t, variance, levels), steps)
