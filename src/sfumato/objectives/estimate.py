"""Unbiased estimates of a diffusion model's variational bound from a few calls of its network.

    steps ~ sum_k L_{i_k} / (terms p(i_k)),     p(i) proportional to the step's part of log(1 + SNR)

The terms and their equations are in diffusion/bound.py. A table of T betas has T - 1 steps; any other
schedule is continuous, its steps an integral over log-SNR between its two ends. The draws of an image are
evenly spaced in the cumulative p with one random shift of its own. Half of log(1 + SNR) is what the steps
cost for data N(0, 1), so no weight is large. With terms >= T - 1 every step is taken once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..diffusion.bound import decoder_term, flow_term, prior_term, reveal_term, step_term
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level
from ..diffusion.schedule import Schedule
from ..diffusion.tables import BetaTable
from ..diffusion.transition import InterpolatedVariance, LargeVariance, ReverseVariance

FARTHEST = 20.0  # log-SNR beyond +- which nothing is left to learn; ends of infinite clocks are moved there


@dataclass(frozen=True)
class SampledBound:
    """The bound of each image in nats, (B,) float64 a term: "prior", "steps", "decoder"; what was summed.

    The total is an unbiased estimate of an upper bound on -log P(x); smaller is better.
    """

    terms: Mapping[str, Tensor]
    method: str

    @property
    def total(self) -> Tensor:
        """The sum of the terms, (B,) nats."""
        return torch.stack(list(self.terms.values())).sum(0)


@dataclass(frozen=True)
class Look:
    """Images on grey levels and the denoiser that is to explain them; draws are of the images' own noise."""

    denoiser: Denoiser
    schedule: Schedule
    x: Tensor
    levels: int
    noise: Noise
    cond: Condition = NOTHING

    def estimate(self, terms: int, variance: ReverseVariance | None = None) -> SampledBound:
        """The bound from `terms` steps of each image.

        variance: of the reverse step of a table; None: learned where the network gives it, else large, which
        is right for smooth data. A continuous schedule has steps of length zero, and no choice.
        """
        if isinstance(self.schedule, BetaTable):
            return self._of_table(self.schedule, terms, variance)
        return self._of_clock(terms)

    def at(self, level: Level) -> Posterior:
        """The posterior of one x_t of each image at a level, floats or (B,)."""
        x_t = level.mix(self.x, self.noise.normal(self.x.shape, self.x.dtype))
        posterior: Posterior = self.denoiser(x_t, level, self.cond)
        return posterior

    def strata(self, count: int) -> Tensor:
        """(count, B) float64: evenly spaced in [0, 1), shifted by a draw of each image."""
        shift = self.noise.uniform((len(self.x),), torch.float64)
        steps = torch.arange(count, dtype=torch.float64, device=shift.device)[:, None]
        return (steps + shift) / count

    def _of_table(self, table: BetaTable, terms: int, variance: ReverseVariance | None) -> SampledBound:
        """prior, T - 1 steps (or a sample of them) and decoder of a table."""
        first, last = table.at(0), table.at(len(table) - 1)
        posterior = self.at(first)
        if variance is None:
            variance = LargeVariance() if posterior.fraction is None else InterpolatedVariance()
        decoder = decoder_term(posterior, self.x, first, variance, self.levels).double()
        steps, method = torch.zeros_like(decoder), f"T = {len(table)}, all terms"
        if terms >= len(table) - 1:
            for i in range(1, len(table)):
                t, s = table.at(i), table.at(i - 1)
                steps = steps + step_term(self.at(t), self.x, t, s, variance)
        else:
            method = f"T = {len(table)}, {terms} terms drawn for each image"
            times = torch.arange(1, len(table) + 1, dtype=torch.float64, device=decoder.device) / len(table)
            log_snr = table.clock(times)
            cost = softplus(log_snr)
            share = (cost[:-1] - cost[1:]) / (cost[0] - cost[-1])
            for u in self.strata(terms):
                step = torch.searchsorted(share.cumsum(0), u, right=True).clamp(max=len(share) - 1)
                t, s = (table.path.level(log_snr[step + k]) for k in (1, 0))
                steps = steps + step_term(self.at(t), self.x, t, s, variance) / (share[step] * terms)
        found = {"prior": prior_term(self.x, last), "steps": steps, "decoder": decoder}
        return SampledBound(found, f"{method}, reverse variance {variance.name}")

    def _of_clock(self, terms: int) -> SampledBound:
        """prior, integral over log-SNR and decoder of a continuous schedule."""
        low, high = ends(self.schedule)
        path = self.schedule.path
        clean = path.level(high)
        x_0 = clean.mix(self.x, self.noise.normal(self.x.shape, self.x.dtype))
        first, last = (float(softplus(torch.tensor(v, dtype=torch.float64))) for v in (low, high))
        steps = torch.zeros(len(self.x), dtype=torch.float64, device=self.x.device)
        for u in self.strata(terms):
            cost = first + (last - first) * u  # log(1 + SNR) = c at log-SNR log(e^c - 1) = c + log(1 - e^-c)
            log_snr = cost + torch.log(-torch.expm1(-cost))
            t = path.level(log_snr)
            weight = (last - first) / (terms * torch.sigmoid(log_snr))
            steps = steps + flow_term(self.at(t), self.x, t) * weight
        found = {
            "prior": prior_term(self.x, path.level(low)),
            "steps": steps,
            "decoder": reveal_term(self.x, x_0, clean, self.levels).double(),
        }
        return SampledBound(found, f"continuous, {terms} log-SNRs in {low:.1f} ... {high:.1f} for each image")


def ends(schedule: Schedule) -> tuple[float, float]:
    """The lowest and highest log-SNR of a schedule, moved within +-20 where they are infinite."""
    low, high = (float(schedule.log_snr(t)) for t in (1.0, schedule.earliest))
    return max(low, -FARTHEST), min(high, FARTHEST)
