"""Langevin dynamics at one level of noise, over a ladder of levels, and as a corrector of any solver.

    x <- x + e score(x) + (2 e)^1/2 z,     e = (ratio sigma)^2

leaves q(x_t) of its level unchanged as e -> 0 (Song & Ermon 2019, eq. 4). In units of the level's own noise
the step is the same on every path,

    x <- (1 - ratio^2) x + ratio^2 alpha mean + 2^1/2 ratio sigma z

and the law it settles in, where q is N(0, v): v / (1 - e / (2 v)). The signal-to-noise rule of Song et al.
(2021, alg. 4), e = 2 (r |z| / |score|)^2, is this step with ratio 2^1/2 r, where |score| takes its expected
value D^1/2 / sigma in place of a mean over the batch: one sample's step is then no function of another's. The
ratio of `PredictorCorrector` is their r, that of `langevin` and `AnnealedLangevin` the one above.

Plain Langevin on data mixes only within a mode: far modes are reached in proportion to the start, whatever
their weights. Annealed from much noise to little the weights come right (Song & Ermon 2019, sec. 3.2.2).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.shapes import per_sample_mask
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level, combine
from .ancestral import Ancestral
from .solver import Solver, draw, refuse_pure_noise


def langevin(
    denoiser: Denoiser,
    x: Tensor,
    level: Level,
    moves: int,
    ratio: float,
    *,
    cond: Condition = NOTHING,
    noise: Noise | None = None,
) -> Tensor:
    """`moves` steps of Langevin dynamics of x (B, ...) at a level, one network call each."""
    square = ratio * ratio
    for _ in range(moves):
        posterior: Posterior = denoiser(x, level, cond)
        shaken = (math.sqrt(2.0) * ratio * level.sigma, draw(noise, x))
        x = posterior.combine(1.0 - square, x, square * level.alpha, shaken)
    return x


class AnnealedLangevin(Solver[None]):
    """Langevin dynamics at each level of the grid in turn, then the posterior mean at the last one.

    Between levels x keeps its signal: it is rescaled by alpha_s/alpha_t, which is 1 where noise is only
    added. The last answer without noise is that of Song & Ermon (2020, sec. 3.4) and Jolicoeur-Martineau
    et al. (2021). A grid of a single level is plain Langevin dynamics. Order 0: more levels leave the bias of
    the moves, which goes with the ratio alone.
    """

    order = 0
    stays = True

    def __init__(self, moves: int = 5, ratio: float = 0.3) -> None:
        _check(moves, ratio)
        self.moves, self.ratio = moves, ratio

    def init(self, x: Tensor) -> None:
        """No state."""

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: None,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, None]:
        """`moves` at t, then on to s; to clean data by one more call."""
        refuse_pure_noise(t)
        x_t = langevin(denoiser, x_t, t, self.moves, self.ratio, cond=cond, noise=noise)
        clean = s.sigma == 0
        if clean is False:
            return combine((s.alpha / t.alpha, x_t)), None
        last: Posterior = denoiser(x_t, t, cond)
        answer = last.combine(0.0, x_t, s.alpha)
        if isinstance(clean, Tensor):
            answer = torch.where(per_sample_mask(clean, x_t), answer, combine((s.alpha / t.alpha, x_t)))
        return answer, None


class PredictorCorrector(Solver[Any]):
    """Any solver's step (ancestral by default), then `moves` Langevin steps at the level reached.

    (Song et al. 2021, alg. 1 and app. G.) ratio: their r, of signal to noise, below 2^-1/2 with
    e = 2 r^2 sigma^2.
    The corrector spends network calls on the law of x_s, which it leaves unchanged where the predictor got
    it right. Nothing is corrected at clean data, where noise has no scale to step by.
    """

    def __init__(self, predictor: Solver[Any] | None = None, moves: int = 1, ratio: float = 0.16) -> None:
        _check(moves, ratio, math.sqrt(0.5))
        predictor = predictor or Ancestral()
        self.predictor, self.moves, self.ratio = predictor, moves, ratio
        self.order, self.stays = predictor.order, predictor.stays

    def init(self, x: Tensor) -> Any:
        """The predictor's state."""
        return self.predictor.init(x)

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: Any,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, Any]:
        """Predict, then correct."""
        x_s, state = self.predictor.step(denoiser, x_t, t, s, state, cond=cond, noise=noise)
        clean = s.sigma == 0
        if clean is True:
            return x_s, state
        ratio = math.sqrt(2.0) * self.ratio
        corrected = langevin(denoiser, x_s, s, self.moves, ratio, cond=cond, noise=noise)
        if isinstance(clean, Tensor):
            corrected = torch.where(per_sample_mask(clean, x_s), x_s, corrected)
        return corrected, state


def rungs(size: int, low: float, high: float) -> int:
    """Levels from sigma low to high so close that neighbours share half of their mass.

    In `size` numbers the noise of a level lies on a shell of radius sigma size^1/2 and width sigma / 2^1/2:
    with g the ratio of neighbours, (2 size)^1/2 (g - 1) = 3 g (Song & Ermon 2020, technique 2). In few
    dimensions shells always overlap; there g is 2.
    """
    root = math.sqrt(2.0 * size)
    ratio = min(2.0, root / (root - 3.0)) if root > 3.0 else 2.0
    return 1 + math.ceil(math.log(high / low) / math.log(ratio))


def best_ratio(factor: float, moves: int) -> float:
    """The step, as a part of sigma, after which the variance on a rung is least wrong.

    Coming from a rung `factor` times as noisy, `moves` steps of ratio r leave the noise with variance
    (1 - r^2)^(2 moves) (factor^2 - b) + b in units of its own, b = 2 / (2 - r^2) (ibid., technique 4).
    """

    def variance(r: float) -> float:
        settled = 2.0 / (2.0 - r * r)
        return (1.0 - r * r) ** (2 * moves) * (factor**2 - settled) + settled

    return min((k / 100 for k in range(5, 80)), key=lambda r: abs(variance(r) - 1.0))


def _check(moves: int, ratio: float, most: float = 1.0) -> None:
    if moves < 0 or not 0.0 < ratio < most:
        raise ValueError(f"Langevin takes moves >= 0, a ratio in (0, {most:.3g}), not {moves} and {ratio}")
