"""The terms of a diffusion model's variational bound, in nats per example.

    -log P(x) <= L_T + sum_t L_{t-1} + L_0                                       (Ho et al. 2020, eq. 5)

    prior    L_T      KL(q(x_T | x) || N(0, sigma_T^2 I)) = SNR_T |x|^2 / 2
    steps    L_{t-1}  E KL(q(x_s | x_t, x) || N(mean_s, v I)),  s the level before t
    decoder  L_0      E -log P(x | x_1),  a Gaussian integrated over each grey level

With q's variance u, c the weight of x_0 in its mean and e = x - E[x_0 | x_t], a step costs

    KL = 1/2 sum over elements of  log v/u + u/v - 1 + c^2 e^2 / v

which for v = u is (SNR_s - SNR_t) |e|^2 / 2. Steps of length zero make the sum an integral over log-SNR,

    sum_t L_{t-1} -> 1/2 integral E |eps - eps_hat|^2 dlambda,      |eps - eps_hat|^2 = SNR |e|^2

between the two ends and of nothing else: neither of the path nor of the clock (Kingma et al. 2021,
eq. 15-19). There the decoder asks which grey level explains x_0 seen at the last level (lattice.py).

The prior is what a sampler starts from. On the variance-preserving path it is N(0, I) but for
alpha_T^2, and the term is equal to the one of Ho et al. up to alpha_T^4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.shapes import event_sum, per_sample
from ..core.stable import Scalar, exp
from ..distributions.discretized import DiscretizedGaussian
from ..distributions.lattice import lattice_log_prob
from .denoiser import Posterior
from .level import Level
from .transition import ReverseVariance, transition


def prior_term(x: Tensor, level: Level) -> Tensor:
    """L_T of examples x (B, ...) whose process ends at a level, (B,) float64."""
    return 0.5 * event_sum(x.double() ** 2) * exp(level.log_snr)


def step_term(posterior: Posterior, x: Tensor, t: Level, s: Level, variance: ReverseVariance) -> Tensor:
    """L_{t-1} for one x_t, whose posterior it is, (B,); t noisier than s, s not clean."""
    q = transition(t, s)
    error = (x - posterior.mean) ** 2
    own = _elements(q.var, error)
    wide = _elements(variance(t, s, posterior), error)
    weight = _elements(q.from_clean**2, error)
    return 0.5 * event_sum(torch.log(wide / own) + own / wide - 1.0 + weight / wide * error)


def decoder_term(posterior: Posterior, x: Tensor, t: Level, variance: ReverseVariance, levels: int) -> Tensor:
    """L_0 for one x_t of the least noisy level, whose posterior it is, (B,); x on its grey levels."""
    mean = posterior.mean
    log_scale = 0.5 * torch.log(_elements(variance.decoder(t, posterior), mean))
    return -DiscretizedGaussian(mean, log_scale, levels).log_prob(x)


def flow_term(posterior: Posterior, x: Tensor, t: Level) -> Tensor:
    """|eps - eps_hat|^2 / 2 for one x_t, whose posterior it is: nats per unit of log-SNR, (B,)."""
    return 0.5 * event_sum((x - posterior.mean) ** 2).double() * exp(t.log_snr)


def reveal_term(x: Tensor, x_t: Tensor, t: Level, levels: int) -> Tensor:
    """-log P(x | x_t) over grey levels equally likely beforehand, without a network, (B,)."""
    alpha, sigma = (_elements(v, x_t) for v in (t.alpha, t.sigma))
    return -lattice_log_prob(x, x_t / alpha, sigma / alpha, levels)


def _elements(value: Scalar, like: Tensor) -> Tensor:
    """A float, (B,) or (B, ...) as a tensor that broadcasts to `like` (B, ...)."""
    value = per_sample(value, like)
    return value if isinstance(value, Tensor) else like.new_full((1,) * like.ndim, value)
