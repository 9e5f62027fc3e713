"""Between two levels: the forward kernel, its Bayes inverse, and the variance of the reverse step.

With keep = e^(lambda_t - lambda_s) = SNR_t / SNR_s (t noisier than s) and fresh = 1 - keep:

    q(x_t | x_s)      = N(alpha_t/alpha_s x_s,  sigma_t^2 fresh)
    q(x_s | x_t, x_0) = N((sigma_s/sigma_t) keep^1/2 x_t + alpha_s fresh x_0,  sigma_s^2 fresh)

(Kingma et al. 2021, app. A; Ho et al. 2020, eq. 6-7). Two log-SNRs give every table of DDPM, on any
path, and expm1 keeps fresh exact for near levels. A model replaces x_0 by its posterior mean and
chooses a variance for x_s given x_t (on the VP path beta~ and beta of the step from s to t):

    small         sigma_s^2 fresh                      exact if x_0 is a point
    large         sigma_t^2 fresh                      exact if x_0 is N(0, I), on the VP path
    interpolated  small^(1-f) large^f, learned f       (Nichol & Dhariwal 2021, eq. 15)
    matched       small + (alpha_s fresh)^2 var        exact second moment, where var[x_0 | x_t] is known
                                                       (Bao et al. 2022, eq. 12)

Where s is clean, small is 0, and the step is a decoder: its Gaussian, integrated over grey levels, needs
a width. The large one is 1/SNR_t, the variance of x_0 given x_t under a flat prior (separated modes exceed
it), and the small one is taken to be half of that, where DDPM's tables arrive by repeating the beta~ of the
second step (beta~_2 = beta_2 / 2 for equal betas).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.shapes import per_sample
from ..core.stable import Scalar, exp, expm1, log, sqrt
from .denoiser import Posterior
from .level import Level, combine


@dataclass(frozen=True, slots=True)
class Transition:
    """q(x_s | x_t, x_0) = N(from_noisy x_t + from_clean x_0, var); floats or (B,)."""

    from_noisy: Scalar
    from_clean: Scalar
    var: Scalar

    def mean(self, x_t: Tensor, x: Tensor) -> Tensor:
        """The mean of x_s (B, ...) for given ends."""
        return combine((self.from_noisy, x_t), (self.from_clean, x))


def fresh(t: Level, s: Level) -> Scalar:
    """1 - SNR_t/SNR_s: the part of the noise at t that was added after s, in [0, 1]."""
    return -expm1(t.log_snr - s.log_snr)


def transition(t: Level, s: Level) -> Transition:
    """q(x_s | x_t, x_0) for t noisier than s."""
    new, root = fresh(t, s), exp(0.5 * (t.log_snr - s.log_snr))
    return Transition(s.sigma / t.sigma * root, s.alpha * new, s.sigma**2 * new)


def forward(s: Level, t: Level) -> Level:
    """q(x_t | x_s) as a level: x_t = alpha x_s + sigma eps, for t noisier than s; needs alpha_s > 0."""
    return Level(t.alpha / s.alpha, t.sigma * sqrt(fresh(t, s)))


class ReverseVariance(ABC):
    """The variance of a model's reverse step p(x_s | x_t); `name` is what a report calls it."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, t: Level, s: Level, posterior: Posterior) -> Scalar:
        """A float, (B,), or (B, C, *space) where the denoiser gives one value per element."""

    @abstractmethod
    def decoder(self, t: Level, posterior: Posterior) -> Scalar:
        """The variance of x_0 itself given x_t, of the same kinds, never zero."""


class SmallVariance(ReverseVariance):
    """The variance of q(x_s | x_t, x_0), DDPM's beta~: a lower bound of the true one."""

    name = "small (beta~)"

    def __call__(self, t: Level, s: Level, posterior: Posterior) -> Scalar:
        """sigma_s^2 fresh."""
        return s.sigma**2 * fresh(t, s)

    def decoder(self, t: Level, posterior: Posterior) -> Scalar:
        """1/(2 SNR)."""
        return 0.5 * exp(-t.log_snr)


class LargeVariance(ReverseVariance):
    """DDPM's beta: right for data of unit variance on the VP path."""

    name = "large (beta)"

    def __call__(self, t: Level, s: Level, posterior: Posterior) -> Scalar:
        """sigma_t^2 fresh."""
        return t.sigma**2 * fresh(t, s)

    def decoder(self, t: Level, posterior: Posterior) -> Scalar:
        """1/SNR."""
        return exp(-t.log_snr)


class InterpolatedVariance(ReverseVariance):
    """Learned: between small and large on a log scale by the posterior's fraction f (B, C, *space)."""

    name = "learned"

    def __call__(self, t: Level, s: Level, posterior: Posterior) -> Scalar:
        """exp((1 - f) log small + f log large) = small e^(f log(large/small)); 0 where s is clean."""
        f = _fraction(posterior)
        small = s.sigma**2 * fresh(t, s)
        ratio = 2.0 * (log(t.sigma) - log(s.sigma))
        if isinstance(ratio, Tensor):
            ratio = torch.where(torch.isfinite(ratio), ratio, 0.0)
        elif small == 0:
            return 0.0
        return per_sample(small, f) * torch.exp(per_sample(ratio, f) * f)

    def decoder(self, t: Level, posterior: Posterior) -> Scalar:
        """2^(f - 1)/SNR."""
        f = _fraction(posterior)
        return per_sample(exp(-t.log_snr), f) * torch.exp2(f - 1.0)


class MatchedVariance(ReverseVariance):
    """The exact variance of x_s given x_t, element by element, from a denoiser that knows var[x_0 | x_t]."""

    name = "matched"

    def __call__(self, t: Level, s: Level, posterior: Posterior) -> Scalar:
        """small + (alpha_s fresh)^2 var."""
        q, var = transition(t, s), _known(posterior)
        return per_sample(q.var, var) + per_sample(q.from_clean**2, var) * var

    def decoder(self, t: Level, posterior: Posterior) -> Scalar:
        """var."""
        return _known(posterior)


def _fraction(posterior: Posterior) -> Tensor:
    if posterior.fraction is None:
        raise ValueError("an interpolated variance needs a network with twice the output channels")
    return posterior.fraction


def _known(posterior: Posterior) -> Tensor:
    if posterior.var is None:
        raise ValueError("a matched variance needs a denoiser that knows the variance of x_0")
    return posterior.var
