"""One loss for every diffusion model: a weighted error of the denoised sample.

    loss = w(level) * mean over elements of (x_0 - mean(x_t))^2,      x_t = alpha x_0 + sigma eps

What the network predicts is the scaling's business, how levels are drawn that of `times`, and how they
count that of `weighting`. Since every prediction is one linear map away from x_0, DDPM's L_simple is the
weight SNR, the v error 1 + SNR, EDM's SNR + 1 / d^2 (diffusion/weighting.py): one function of the level.
The loss is a mean per element, of order one for all customary weightings, and no likelihood.

The condition of each sample is dropped with probability `dropout`, by a coin of its own, so that one
network learns the conditional and the unconditional posterior (Ho & Salimans 2022, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.condition import Condition
from ..core.noise import Noise
from ..core.shapes import event_mean
from ..core.stable import Scalar
from ..data.dataset import Batch
from ..diffusion.level import Level
from ..diffusion.schedule import check_clock
from ..diffusion.times import Times
from ..diffusion.weighting import Weighting
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from .objective import Judge, Loss, Objective

JUDGED = 6  # noise levels at which held-out data are judged


@final
class Denoising(Objective, Judge):
    """The weighted denoising loss of a `Generator` whose density is a `Diffusion`."""

    decides: bool = False

    def __init__(self, weighting: Weighting, times: Times, dropout: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"a dropout probability lies in [0, 1], not at {dropout}")
        self.weighting, self.times, self.dropout = weighting, times, dropout

    def open(self, model: nn.Module, target: int) -> None:
        """UsageError for a schedule whose clock does not fall, or that has none of the levels to draw."""
        schedule = diffusion_of(model)[1].schedule
        check_clock(schedule)
        self.times.check(schedule)

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `denoising` (what is minimised) and `x0_error` (the same without its weight)."""
        generator, density = diffusion_of(model)
        x, cond = generator.observe(batch, noise=noise)
        cond = droppable(cond, self.dropout, len(x), noise)
        log_snr = self.times.draw(density.schedule, noise, len(x))
        error, level = _error(density, x, cond, log_snr, noise)
        return Loss(
            {"denoising": weighed(self.weighting, level, error), "x0_error": error.detach()},
            {"denoising": 1.0},
        )

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: the average over fixed quantiles of the training levels, and one loss for each of them."""
        generator, density = diffusion_of(model)
        x, cond = generator.observe(batch, noise=noise)
        found: dict[str, Tensor] = {}
        quantiles = (torch.arange(JUDGED, dtype=torch.float64, device=x.device) + 0.5) / JUDGED
        for log_snr in self.times.quantile(density.schedule, quantiles):
            error, level = _error(density, x, cond, log_snr.expand(len(x)), noise)
            found[f"loss_at_log_snr_{float(log_snr):.1f}"] = weighed(self.weighting, level, error)
        return {"loss": torch.stack(list(found.values())).mean(0)} | found


def droppable(cond: Condition, dropout: float, count: int, noise: Noise) -> Condition:
    """The condition of `count` samples, each dropped with a probability by a coin of its own."""
    return cond.drop(noise.uniform((count,)) >= dropout) if cond and dropout else cond


def weighed(weighting: Weighting, level: Level, error: Tensor) -> Tensor:
    """The x_0 errors (B,) times the weights of their levels."""
    weight: Scalar = weighting(level)
    return error * (weight.to(error) if isinstance(weight, Tensor) else weight)


def diffusion_of(model: nn.Module) -> tuple[Generator, Diffusion]:
    """A generator and its density, which is a diffusion; TypeError for another model."""
    if not isinstance(model, Generator) or not isinstance(model.density, Diffusion):
        raise TypeError("this objective is for a Generator whose density is a Diffusion")
    return model, model.density


def _error(
    density: Diffusion, x: Tensor, cond: Condition, log_snr: Tensor, noise: Noise
) -> tuple[Tensor, Level]:
    """Mean squared error of the denoised x (B,), and the levels (B,) it was made at."""
    level = density.schedule.path.level(log_snr)
    x_t = level.mix(x, noise.normal(x.shape, x.dtype))
    return event_mean((density.denoiser(x_t, level, cond).mean - x) ** 2), level
