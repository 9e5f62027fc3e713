"""Variational diffusion: the continuous-time bound as a training loss, its schedule learned with it.

    loss = prior + decoder + steps                                       (Kingma et al. 2021, eq. 11-17)
    steps ~ -lambda'(t) SNR |x - mean|^2 / 2,      t uniform, even in blocks (Noise.stratified)

in bits per dimension; the terms are those of diffusion/bound.py, the decoder asks which grey level explains
x_0 seen at the clean end of the schedule. Gradients reach a learned clock (diffusion/learned.py) through the
levels. Its ends are trained by the bound itself. Its interior cannot change the bound, only the variance of
the estimate, and is trained to make that small (app. I.2): since E[steps] does not depend on it,

    grad Var[steps] = grad E[steps^2] = E[2 steps grad steps],

so the gradient that arrives at the interior's position and slope of an image is multiplied by twice the
image's loss, and no second pass is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.noise import Noise
from ..data.dataset import Batch
from ..diffusion.bound import flow_term, prior_term, reveal_term
from ..diffusion.learned import LearnedSnr
from ..diffusion.level import Level
from ..diffusion.schedule import Schedule, check_clock
from .denoising import diffusion_of, droppable
from .objective import Judge, Loss, Objective
from .variational import bits_of, checked_levels, judged_bound


@final
class Vdm(Objective, Judge):
    """The continuous bound of images on `levels` grey levels, in bits per dimension, on any finite schedule.

    dropout  of the condition, for guidance
    UsageError on a schedule whose ends are not finite.
    """

    def __init__(self, levels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.levels, self.dropout = checked_levels(levels), dropout

    def open(self, model: nn.Module, target: int) -> None:
        """UsageError for a schedule whose clock does not fall."""
        check_clock(diffusion_of(model)[1].schedule)

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `prior`, `steps` and `decoder`, in nats per image."""
        generator, density = diffusion_of(model)
        x, cond = generator.observe(batch, noise=noise)
        cond = droppable(cond, self.dropout, len(x), noise)
        schedule, path = density.schedule, density.schedule.path
        # a GPU would have to wait for the answer, so there it is asked once, before the first step
        check = seen == 0 or x.device.type == "cpu"
        noisy, clean = (path.level(v) for v in _ends(schedule, len(x), x.device, check))
        u, scale = noise.stratified(len(x)), bits_of(x)
        watched = _Watched(scale)
        level, fall = watched.place(schedule, u)
        x_t = level.mix(x, noise.normal(x.shape, x.dtype))
        steps = watched.see(fall * flow_term(density.denoiser(x_t, level, cond), x, level))
        x_0 = clean.mix(x, noise.normal(x.shape, x.dtype))
        decoder = reveal_term(x, x_0, clean, self.levels).double()
        terms = {"prior": prior_term(x, noisy), "steps": steps, "decoder": decoder}
        return Loss(terms, dict.fromkeys(terms, scale))

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: the bound in bits per dimension, from a few levels of each image; its terms in nats."""
        return judged_bound(model, batch, self.levels, noise)


def _ends(schedule: Schedule, count: int, device: torch.device, check: bool) -> tuple[Tensor, Tensor]:
    """The log-SNR at the noisy and at the clean end, (B,) float64 each."""
    times = torch.tensor([1.0, schedule.earliest], dtype=torch.float64, device=device)
    both = schedule.clock(times)
    low, high = both
    if check and not isinstance(schedule, LearnedSnr) and not bool(torch.isfinite(both).all()):
        raise UsageError(
            f"the continuous bound needs a schedule with finite ends, not {float(low):g} ... {float(high):g}",
            remedy="Use LearnedSnr, LogSnrLine or CosineTime.",
        )
    return low.expand(count), high.expand(count)


class _Watched:
    """The levels of a batch, and the gradient of a learned interior turned into that of the variance."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.loss: Tensor | None = None

    def place(self, schedule: Schedule, u: Tensor) -> tuple[Level, Tensor]:
        """The levels at quantiles u (B,) of time, and how fast log-SNR falls there, (B,)."""
        if isinstance(schedule, LearnedSnr):
            position, slope = schedule.interior(u)
            for part in (position, slope):
                if part.requires_grad:
                    part.register_hook(self._squared)
            return schedule.path.level(schedule.at(position)), schedule.span(slope) * slope
        moving = torch.is_grad_enabled() and any(p.requires_grad for p in schedule.parameters())
        with torch.set_grad_enabled(moving):  # otherwise the network's input would ask for a gradient
            level, rate = schedule.rate(schedule.earliest + (1.0 - schedule.earliest) * u)
        fall = 2.0 * (rate.sigma / level.sigma - rate.alpha / level.alpha)
        assert isinstance(fall, Tensor)
        return level, (1.0 - schedule.earliest) * fall

    def see(self, loss: Tensor) -> Tensor:
        """The loss (B,) whose variance is meant, itself."""
        self.loss = loss.detach()
        return loss

    def _squared(self, gradient: Tensor) -> Tensor:
        assert self.loss is not None
        return 2.0 * self.scale * self.loss * gradient
