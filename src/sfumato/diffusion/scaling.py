"""What the raw network F predicts: one row of a table per parametrisation.

    mean = c_skip x_t + c_out F(c_in x_t, c_noise)              (Karras et al. 2022, eq. 7, on any path)

    row     F estimates                         c_skip                  c_out
    eps     eps                                 1/alpha                 -sigma/alpha
    x0      x_0                                 0                       1
    v       (alpha eps - sigma x_0)/r           alpha/r^2               -sigma/r
    score   grad log q(x_t) = -eps/sigma        1/alpha                 sigma^2/alpha
    flow    eps - x_0                           1/(alpha+sigma)         -sigma/(alpha+sigma)
    edm     unit-variance mix of both           alpha d^2/e^2           sigma d/e
    consistency   the same, anchored at f       alpha d^2/(g^2 + alpha^2 d^2)     g d/e

with r^2 = alpha^2 + sigma^2 (1 on the VP path), d the standard deviation of the data, and
e^2 = sigma^2 + alpha^2 d^2 the variance of x_t, and g = max(sigma - f alpha, 0). The last row answers
x_t/alpha up to the level sigma/alpha = f, whatever the network says: the boundary condition of a
consistency function (Song et al. 2023, app. C). All rows but x0 have it at f = 0.

c_in = 1/r (edm: 1/e) gives the network inputs of unit variance, and c_noise = log(sigma/alpha)/4 is EDM's
coordinate, which is -log_snr/8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, cast

from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.shapes import per_sample
from ..core.stable import Scalar, sqrt
from .denoiser import Denoiser, Line, Posterior
from .level import CLEAN, Level, combine

REACH = 3.0  # |c_noise| beyond this (log-SNR beyond +-24) carries no information; keeps both ends finite


class Coefficients(NamedTuple):
    """c_skip, c_out and c_in at a level, floats or (B,)."""

    skip: Scalar
    out: Scalar
    input: Scalar


class Scaling(ABC):
    """A row of the table: the linear map between a network's output and the posterior mean."""

    @abstractmethod
    def __call__(self, level: Level) -> Coefficients:
        """The coefficients at a level."""

    def mean(self, output: Tensor, x_t: Tensor, level: Level) -> Tensor:
        """The posterior mean that a network's output (B, C, *space) stands for."""
        c = self(level)
        return combine((c.skip, x_t), (c.out, output))

    @property
    def anchored(self) -> bool:
        """Whether the answer at a clean level is x_t itself, whatever the network says."""
        c = self(CLEAN)
        return bool(c.skip == 1.0 and c.out == 0.0)

    def target(self, x: Tensor, x_t: Tensor, level: Level) -> Tensor:
        """The output that stands for the mean x: (x - c_skip x_t) / c_out; needs c_out != 0."""
        c = self(level)
        return combine((1.0 / c.out, x), (-c.skip / c.out, x_t))


class EpsScaling(Scaling):
    """The network predicts the noise (Ho et al. 2020, eq. 11); needs alpha > 0."""

    def __call__(self, level: Level) -> Coefficients:
        """1/alpha, -sigma/alpha."""
        a, s = level.alpha, level.sigma
        inverse = _inverse(a)
        return Coefficients(inverse, -s * inverse, 1.0 / sqrt(a * a + s * s))


class X0Scaling(Scaling):
    """The network predicts the clean sample."""

    def __call__(self, level: Level) -> Coefficients:
        """0, 1."""
        a, s = level.alpha, level.sigma
        return Coefficients(0.0 * a, 0.0 * a + 1.0, 1.0 / sqrt(a * a + s * s))


class VScaling(Scaling):
    """The network predicts v = (alpha eps - sigma x_0)/r (Salimans & Ho 2022, app. D); any level."""

    def __call__(self, level: Level) -> Coefficients:
        """alpha/r^2, -sigma/r."""
        a, s = level.alpha, level.sigma
        r = 1.0 / sqrt(a * a + s * s)
        return Coefficients(a * r * r, -s * r, r)


class ScoreScaling(Scaling):
    """The network predicts the score itself (Song et al. 2021, eq. 7; Tweedie); needs alpha > 0."""

    def __call__(self, level: Level) -> Coefficients:
        """1/alpha, sigma^2/alpha."""
        a, s = level.alpha, level.sigma
        inverse = _inverse(a)
        return Coefficients(inverse, s * s * inverse, 1.0 / sqrt(a * a + s * s))


class FlowScaling(Scaling):
    """The network predicts eps - x_0, the velocity of the straight line (Liu et al. 2023); any level."""

    def __call__(self, level: Level) -> Coefficients:
        """1/(alpha+sigma), -sigma/(alpha+sigma)."""
        a, s = level.alpha, level.sigma
        inverse = 1.0 / (a + s)
        return Coefficients(inverse, -s * inverse, 1.0 / sqrt(a * a + s * s))


class EdmScaling(Scaling):
    """Karras et al. (2022, table 1) carried to any path; `data` is the standard deviation of the data."""

    def __init__(self, data: float = 0.5) -> None:
        if not data > 0:
            raise ValueError(f"the standard deviation of the data must be positive, not {data}")
        self.data = data

    def __call__(self, level: Level) -> Coefficients:
        """alpha d^2/e^2, sigma d/e."""
        a, s, d = level.alpha, level.sigma, self.data
        e = 1.0 / sqrt(s * s + a * a * (d * d))
        return Coefficients(a * (d * e) ** 2, s * (d * e), e)


class ConsistencyScaling(Scaling):
    """EDM's row with the identity up to sigma/alpha = floor (Song et al. 2023, app. C), on any path."""

    def __init__(self, data: float = 0.5, floor: float = 0.002) -> None:
        if not (data > 0 and floor >= 0):
            raise ValueError(f"a consistency row needs data > 0 and floor >= 0, not {data} and {floor}")
        self.data, self.floor = data, floor

    def __call__(self, level: Level) -> Coefficients:
        """alpha d^2/(g^2 + alpha^2 d^2), g d/e."""
        a, s, d = level.alpha, level.sigma, self.data
        above = s - self.floor * a
        above = above.clamp(min=0.0) if isinstance(above, Tensor) else max(above, 0.0)
        e = 1.0 / sqrt(s * s + a * a * (d * d))
        return Coefficients(a * d * d / (above * above + a * a * (d * d)), above * (d * e), e)


def _inverse(alpha: Scalar) -> Scalar:
    if not isinstance(alpha, Tensor) and alpha == 0:
        raise ValueError("noise and score say nothing of x_0 where alpha = 0; use x0, v, flow or edm scaling")
    return 1.0 / alpha


class Scaled(Denoiser):
    """A raw network read through a row of the table.

    net(x (B, C, *space), c_noise (B,), cond) -> (B, C, *space), or (B, 2C, *space) when it also learns
    the reverse variance: its second half v in [-1, 1] becomes the fraction (v + 1)/2 of the posterior
    (Nichol & Dhariwal 2021, eq. 15).
    """

    def __init__(self, net: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.net, self.scaling = net, scaling

    def forward(self, x_t: Tensor, level: Level, cond: Condition = NOTHING) -> Posterior:
        """The posterior mean, and the fraction where the network gives one."""
        c = self.scaling(level)
        net = cast(nn.Module, self._modules["net"])  # self.net is found last of all, a microsecond later
        output: Tensor = net(_scaled(c.input, x_t), c_noise(level, x_t), cond)
        if output.size(1) == x_t.size(1):
            return Posterior(Line(c.skip, x_t, c.out, output))
        output, v = output.chunk(2, 1)
        return Posterior(Line(c.skip, x_t, c.out, output), None, (v + 1.0) * 0.5)


def c_noise(level: Level, x: Tensor) -> Tensor:
    """What the network is told of the level: log(sigma/alpha)/4 as (B,) in x's type, kept within +-REACH."""
    value = -0.125 * level.log_snr
    if isinstance(value, Tensor):
        return value.clamp(-REACH, REACH).to(x.dtype).expand(x.shape[0])
    value = REACH if value > REACH else -REACH if value < -REACH else value
    return x.new_full((x.size(0),), value)


def _scaled(c: Scalar, x: Tensor) -> Tensor:
    if isinstance(c, Tensor):
        return per_sample(c, x) * x
    return x if abs(c - 1.0) < 1e-12 else x * c  # on the VP path c_in is 1 up to rounding
