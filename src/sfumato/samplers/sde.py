"""Solvers of the reverse stochastic differential equation (Anderson 1982; Song et al. 2021, eq. 6).

    dx = (f x - g^2 score) dt + g dw,     f = alpha'/alpha,  g^2 = -sigma^2 lambda'        (any path)

Both coefficients follow from the levels t and s of a step: f dt is d log alpha, g^2 dt is sigma^2 times the
rise of log-SNR. Euler-Maruyama takes them at t,

    x_s = (1 + log alpha_s/alpha_t) x_t + sigma_t^2 Dl score + sigma_t Dl^1/2 z,    Dl = lambda_s - lambda_t

In half log-SNR l = lambda/2 the linear part has a closed solution, on every path (Lu et al. 2022, eq. 11),

    x_s = (sigma_s/sigma_t) e^-h x_t + 2 alpha_s int_0^h e^(-2 (h - u)) mean(u) du + sigma_s (1 - e^-2h)^1/2 z

with h = l_s - l_t. A constant mean makes it ancestral sampling with the small variance (order 1). The line
through the last two means is SDE-DPM-Solver++(2M); the line to the mean at a first answer x' that was made
with the same z is a stochastic trapezoid. Both are of weak order 2 because the size of the noise does not
depend on x (Kloeden & Platen 1992, sec. 15.1): the line feels the noise of its own step in the one, that of
the step before in the other, and the law of the end is the same up to h^2. A step to clean data is the
posterior mean: at sigma_s = 0 nothing else is left.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.stable import Scalar, expm1, log, sqrt
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level, combine
from ..diffusion.transition import transition
from .multistep import Before
from .solver import Solver, draw, refuse_pure_noise


class EulerMaruyama(Solver[None]):
    """The reverse SDE by Euler's step: weak and strong order 1; needs alpha_t > 0."""

    order = 1

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
        """x_s from drift and diffusion at t; the posterior mean where s is clean."""
        refuse_pure_noise(t)
        posterior: Posterior = denoiser(x_t, t, cond)
        rise = s.log_snr - t.log_snr
        keep, gain, spread = 1.0 + log(s.alpha) - log(t.alpha) - rise, rise * t.alpha, t.sigma * sqrt(rise)
        if isinstance(rise, Tensor):
            clean = torch.isinf(rise)
            keep, gain, spread = (
                torch.where(clean, end, value) for end, value in ((0.0, keep), (s.alpha, gain), (0.0, spread))
            )
        elif rise == math.inf:
            return posterior.combine(0.0, x_t, s.alpha), None
        return posterior.combine(keep, x_t, gain, (spread, draw(noise, x_t))), None


class SdeDpmPlusPlus2M(Solver[Before | None]):
    """SDE-DPM-Solver++(2M): the line through the last two posterior means, one network call a step.

    Weak order 2: the noise of one step bends the line of the next one, a step late for the path (strong order
    1), in time for its law.
    """

    order = 2

    def init(self, x: Tensor) -> None:
        """Nothing is known before the first step."""

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: Before | None,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, Before | None]:
        """x_s from the means of this step and the one before."""
        mean, now = denoiser(x_t, t, cond).mean, 0.5 * t.log_snr
        x_s = _constant(Posterior(mean), x_t, t, s, noise)
        if state is not None:
            bend = _bend(t, s) * ((0.5 * s.log_snr - now) / (now - state.half))
            bend = _where_noisy(s, bend)
            x_s = combine((1.0, x_s), (bend, mean), (-bend, state.mean))
        return x_s, Before(mean, now)


class SdeHeun(Solver[None]):
    """The stochastic trapezoid with exact linear part: weak order 2, two network calls a step."""

    order = 2

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
        """A first answer by a constant mean, then the line between the means at both ends."""
        posterior: Posterior = denoiser(x_t, t, cond)
        first = _constant(posterior, x_t, t, s, noise)
        if s.clean:
            return first, None
        bend = _where_noisy(s, _bend(t, s))
        then: Posterior = denoiser(first, s, cond)
        return then.combine(1.0, first, bend, (-bend, posterior.mean)), None


def _constant(posterior: Posterior, x_t: Tensor, t: Level, s: Level, noise: Noise | None) -> Tensor:
    """The step with a constant mean: ancestral sampling with the small variance."""
    q = transition(t, s)
    drawn = () if s.clean else ((sqrt(q.var), draw(noise, x_t)),)
    return posterior.combine(q.from_noisy, x_t, q.from_clean, *drawn)


def _bend(t: Level, s: Level) -> Scalar:
    """alpha_s int_0^1 H e^(-H (1-u)) u du = alpha_s (1 - (1 - e^-H)/H), H = lambda_s - lambda_t."""
    rise = s.log_snr - t.log_snr
    return s.alpha * (1.0 + expm1(-rise) / rise)


def _where_noisy(s: Level, value: Scalar) -> Scalar:
    """0 where s is clean: there is no line to infinite log-SNR."""
    if isinstance(s.sigma, Tensor):
        return torch.where(s.sigma > 0, value, 0.0)
    return 0.0 if s.clean else value
