"""DDIM: from x_t to x_s along the posterior mean (Song, Meng & Ermon 2021, eq. 12).

    x_s = alpha_s mean + (sigma_s^2 - c^2)^1/2 eps + c z,     eps = (x_t - alpha_t mean) / sigma_t
    c^2 = eta^2 sigma_s^2 (1 - e^(lambda_t - lambda_s))

eta = 0 is deterministic: the Euler step of the probability-flow ODE in sigma/alpha (order 1).
eta = 1 is ancestral sampling with the small variance. Eliminating eps leaves two coefficients,

    x_s = k x_t + (alpha_s - k alpha_t) mean + c z,           k = (sigma_s^2 - c^2)^1/2 / sigma_t.
"""

from __future__ import annotations

from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.stable import Scalar, expm1, sqrt
from ..diffusion.denoiser import Denoiser, Posterior
from ..diffusion.level import Level, Term
from ..diffusion.transition import fresh
from .solver import Solver, draw


class Ddim(Solver[None]):
    """DDIM with eta in [0, 1]: 0 deterministic (no noise is drawn), 1 ancestral."""

    order = 1

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta lies in [0, 1], not {eta}")
        self.eta = eta

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
        """x_s from one posterior mean."""
        posterior: Posterior = denoiser(x_t, t, cond)
        if self.eta == 0:
            keep, gain = exponential(t, s)
            return posterior.combine(keep, x_t, gain), None
        new = self.eta**2 * fresh(t, s)  # part of sigma_s^2 that is drawn anew
        k = s.sigma * sqrt(1.0 - new) / t.sigma
        drawn: tuple[Term, ...] = () if s.clean else ((s.sigma * sqrt(new), draw(noise, x_t)),)
        return posterior.combine(k, x_t, s.alpha - k * t.alpha, *drawn), None


def exponential(t: Level, s: Level) -> tuple[Scalar, Scalar]:
    """(keep, gain) of the step keep x_t + gain mean, exact wherever the mean is constant from t to s.

    keep = sigma_s/sigma_t and gain = alpha_s (1 - e^-h) with h = (lambda_s - lambda_t)/2. Both ends are
    exact: alpha_t = 0 gives gain = alpha_s, sigma_s = 0 gives keep = 0 and gain = alpha_s.
    """
    return s.sigma / t.sigma, -s.alpha * expm1(0.5 * (t.log_snr - s.log_snr))
