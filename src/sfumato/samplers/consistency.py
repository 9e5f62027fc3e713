"""Sampling from a consistency function: answer, add fresh noise, answer again (Song et al. 2023, alg. 1).

    x_s = alpha_s f(x_t) + sigma_s z,      z ~ N(0, I) drawn anew for each step

f carries every point of a trajectory of the probability-flow ODE to its clean end. One step from pure noise
is a sample; each further one forgets part of it (all that noise of sigma_s hides) and answers again, so that
errors made at high noise are corrected. The step to clean data (sigma_s = 0) draws nothing.
"""

from __future__ import annotations

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level, Term
from .solver import Solver, draw


class Consistency(Solver[None]):
    """One network call per step; exact in law for an exact consistency function, whatever the grid.

    For a denoiser that answers with the posterior mean it is no solver of the reverse process (order 0).
    """

    order = 0

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
        """alpha_s f(x_t) + sigma_s z."""
        answer: Posterior = denoiser(x_t, t, cond)
        drawn: tuple[Term, ...] = () if s.clean else ((s.sigma, draw(noise, x_t)),)
        return answer.combine(0.0, x_t, s.alpha, *drawn), None
