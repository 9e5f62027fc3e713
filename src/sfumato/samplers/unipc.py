"""UniPC: a multistep predictor and corrector that share their network calls (Zhao et al. 2023, alg. 5-8).

From the exact solution in half log-SNR l = lambda/2 (see multistep), with u = (l - l_t)/h in [0, 1],

    x_s = (sigma_s/sigma_t) x_t + alpha_s int_0^1 h e^(-h (1-u)) mean(u) du

Interpolate mean by the polynomial through known points r_k (mean_k; r = 0 is t itself):

    x_s = (sigma_s/sigma_t) x_t + alpha_s (phi_0 mean_t + sum_k w_k (mean_k - mean_t))
    sum_k w_k r_k^j = phi_j = int_0^1 h e^(-h (1-u)) u^j du,    phi_0 = 1 - e^-h,  phi_j = 1 - (j/h) phi_{j-1}

The predictor of order p uses the p - 1 means before t; the corrector adds the mean at s (r = 1). That
mean is evaluated anyway as the first call of the next step, which therefore begins by correcting its
x_t: one call per step, and order p + 1. With a single point, bh2 takes phi_0/2 for phi_1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..core.stable import Scalar, expm1
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level, combine
from .solver import Solver

REACH = 60.0  # half log-SNR beyond this is pure noise or clean data; keeps the nodes finite


@dataclass(frozen=True, slots=True)
class Known:
    """A posterior mean (B, ...) and the half log-SNR where it was taken."""

    half: Scalar
    mean: Tensor


@dataclass(frozen=True, slots=True)
class Past:
    """Where the last step began (corrected), its level, and the means known then, latest first."""

    x: Tensor
    level: Level
    known: tuple[Known, ...]


class UniPC(Solver[Past | None]):
    """Multistep predictor-corrector of order 1, 2 or 3 with B(h) = e^-h - 1 (bh2), deterministic."""

    def __init__(self, order: int = 3) -> None:
        if order not in (1, 2, 3):
            raise ValueError(f"UniPC is built for orders 1, 2 and 3, not {order}")
        self.order = order

    def init(self, x: Tensor) -> None:
        """Nothing is known before the first step."""

    def step(
        self,
        denoiser: Denoiser,
        x_t: Tensor,
        t: Level,
        s: Level,
        state: Past | None,
        *,
        cond: Condition = NOTHING,
        noise: Noise | None = None,
    ) -> tuple[Tensor, Past | None]:
        """Correct x_t with the mean at t, then predict x_s."""
        here = Known(_half(t), denoiser(x_t, t, cond).mean)
        before: tuple[Known, ...] = ()
        if state is not None:
            x_t = _advance(state.x, state.level, t, state.known[0], (*state.known[1:], here))
            before = state.known
        known = (here, *before)[: self.order]
        points = () if s.clean else known[1:]  # clean: h is infinite
        return _advance(x_t, t, s, here, points), Past(x_t, t, known)


def _advance(x: Tensor, t: Level, s: Level, here: Known, points: tuple[Known, ...]) -> Tensor:
    """From x at t to s with the mean interpolated through `here` (at t) and the other points."""
    h = _half(s) - here.half
    phi = _phi(h, len(points))
    weights = _solve([(p.half - here.half) / h for p in points], phi[1:])
    if isinstance(s.sigma, Tensor):
        weights = [torch.where(s.sigma > 0, w, 0.0) for w in weights]
    rest = phi[0] - sum(weights)
    bends = ((s.alpha * w, point.mean) for w, point in zip(weights, points, strict=True))
    return combine((s.sigma / t.sigma, x), (s.alpha * rest, here.mean), *bends)


def _half(level: Level) -> Scalar:
    half = 0.5 * level.log_snr
    return half.clamp(-REACH, REACH) if isinstance(half, Tensor) else min(max(half, -REACH), REACH)


def _phi(h: Scalar, count: int) -> list[Scalar]:
    """phi_0 ... phi_count; a single moment is bh2's phi_0/2.

    The recursion upwards loses digits for small h, the one downwards for large h: each is used where
    it contracts. Downwards it starts far enough out for phi_J ~ h/(J + 1) to be exact when h < 1.
    """
    first = -expm1(-h)
    if count < 2:
        return [first, 0.5 * first][: count + 1]
    small = _downwards(h, count)
    large = [first]
    for j in range(1, count + 1):
        large.append(1.0 - j / h * large[-1])
    if isinstance(h, Tensor):
        return [torch.where(h < 1.0, a, b) for a, b in zip(small, large, strict=True)]
    return small if h < 1.0 else large


def _downwards(h: Scalar, count: int) -> list[Scalar]:
    value: Scalar = h / 25.0
    kept = []
    for j in range(24, 0, -1):
        value = h / j * (1.0 - value)  # phi_{j-1} from phi_j
        if j - 1 <= count:
            kept.append(value)
    return kept[::-1]


def _solve(nodes: list[Scalar], moments: list[Scalar]) -> list[Scalar]:
    """Weights w with sum_k w_k r_k^j = phi_j, j = 1 ... n: elimination on the Vandermonde system.

    Subtracting r_m times a row from the next one removes node m, which is Newton's interpolation.
    """
    n = len(nodes)
    b = list(moments)
    for m in range(n - 1):
        for j in range(n - 1, m, -1):
            b[j] = b[j] - nodes[m] * b[j - 1]
    # now row j reads  sum_k w_k r_k prod_{m<j} (r_k - r_m) = b_j,  upper triangular in k >= j
    weights: list[Scalar] = [0.0] * n
    for j in range(n - 1, -1, -1):
        rest = b[j]
        for k in range(j + 1, n):
            rest = rest - weights[k] * _pivot(nodes, k, j)
        weights[j] = rest / _pivot(nodes, j, j)
    return weights


def _pivot(nodes: list[Scalar], k: int, j: int) -> Scalar:
    value = nodes[k]
    for m in range(j):
        value = value * (nodes[k] - nodes[m])
    return value
