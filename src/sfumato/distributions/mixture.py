"""A mixture of discretised logistics for every pixel, its channels coupled (PixelCNN++).

    P(x) = prod over pixels  sum_k  pi_k  prod_c  P_k(x_c given x_1 .. x_{c-1})
    P_k(x_c given ...) = discretised logistic with location m_kc + sum_{b < c} a_kcb x_b, scale s_kc

One component is chosen for a whole pixel, so its channels are dependent; within a component the location
of a channel moves linearly with the channels before it (Salimans et al. 2017, section 2.2, there for three
channels; here for any number). Every factor sums to one over the grey levels, hence so does P.

*The mean.* g(m, s) being the mean of a single discretised logistic, which lies within [-1, 1]
(logistic_mean.py),

    E[x_c] = sum_k pi_k E_k[g(m_kc + sum_{b < c} a_kcb x_b, s_kc)]

is exact for the first channel and for all where nothing couples them. Otherwise E_k over the channels before
has no closed form, g not being linear near the ends of the range, and their spread is laid on the scale, with
unit logistic e:

    x_c ~ mu_c + sum_b L_cb e_b,   L_cb = s_c [b = c] + sum_{d < c} a_cd r_d L_db,   S_c^2 = sum_b L_cb^2,
    mu_c = g(m_c + sum_{b < c} a_cb mu_b, S_c),     r_d = P(x_d within the range), the slope of g

right to first order in the spread of the channels before, and where they are far from the ends of the range.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_sum
from ..core.stable import inverse_cdf
from .discretized import Binned, DiscretizedLogistic
from .logistic_mean import logistic_mean


@final
class DiscretizedLogisticMixture(Binned):
    """K logistics per pixel over `levels` grey levels; events (B, C, *space).

    logits       (B, K, *space) of the weights pi
    locations    (B, K, C, *space)
    log_scales   (B, K, C, *space)
    couplings    (B, K, C (C - 1) / 2, *space), row by row of the lower triangle a_kcb; None: independent
    """

    def __init__(
        self, logits: Tensor, locations: Tensor, log_scales: Tensor, couplings: Tensor | None, levels: int
    ) -> None:
        channels = locations.shape[2]
        if couplings is not None and couplings.shape[2] != channels * (channels - 1) // 2:
            raise ValueError(f"{couplings.shape[2]} couplings for {channels} channels")
        self.log_weights, self.locations, self.log_scales = F.log_softmax(logits, 1), locations, log_scales
        self.couplings, self.levels = couplings, levels

    def log_prob(self, x: Tensor) -> Tensor:
        """Sum over pixels of the log-probability of their grey levels in nats, (B,)."""
        return event_sum(self.log_mass(x))

    def log_mass(self, x: Tensor) -> Tensor:
        """log P of every pixel, all its channels together, in nats, (B, *space)."""
        x = x.unsqueeze(1)
        shifted = DiscretizedLogistic(self.locations + self._shift(x), self.log_scales, self.levels)
        return torch.logsumexp(self.log_weights + shifted.log_mass(x.expand_as(self.locations)).sum(2), 1)

    @property
    def mean(self) -> Tensor:
        """E[x] over the grey levels, (B, C, *space), within [-1, 1]; see the module for coupled channels."""
        if self.couplings is None or self.locations.shape[2] == 1:
            means = logistic_mean(self.locations, self.log_scales, self.levels)
        else:
            means = self._coupled_means()
        return (self.log_weights.exp().unsqueeze(2) * means).sum(1)

    def _coupled_means(self) -> Tensor:
        """mu of every component and channel, (B, K, C, *space)."""
        scales, means, spreads = torch.exp(self.log_scales), list[Tensor](), list[Tensor]()
        for c in range(self.locations.shape[2]):
            location = self.locations[:, :, c] + self._before(c, means)
            spread = torch.zeros_like(scales)  # L_cb along the third axis
            spread[:, :, c] = scales[:, :, c]
            if c:
                spread = spread + (self._row(c).unsqueeze(3) * torch.stack(spreads, 2)).sum(2)
            scale = spread.square().sum(2).sqrt()
            inside = torch.sigmoid((1.0 - location) / scale) - torch.sigmoid((-1.0 - location) / scale)
            means.append(logistic_mean(location, scale.log(), self.levels))
            spreads.append(inside.unsqueeze(2) * spread)
        return torch.stack(means, 2)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """A component for every pixel, then its channels in turn; the temperature narrows the logistics."""
        weights = self.log_weights.exp()
        u = noise.uniform((weights.shape[0], *weights.shape[2:]), weights.dtype)
        chosen = inverse_cdf(weights, u, 1)
        drawn: list[Tensor] = []
        for c in range(self.locations.shape[2]):
            location = self._of(self.locations[:, :, c] + self._before(c, drawn, pixel=True), chosen)
            law = DiscretizedLogistic(location, self._of(self.log_scales[:, :, c], chosen), self.levels)
            drawn.append(law.sample(noise, temperature))
        return torch.stack(drawn, 1)

    def _shift(self, x: Tensor) -> Tensor:
        """sum_{b < c} a_kcb x_b for every channel c, (B, K, C, *space); x (B, 1, C, *space)."""
        channels = self.locations.shape[2]
        if self.couplings is None or channels == 1:
            return torch.zeros_like(self.locations)
        rows = [torch.zeros_like(self.locations[:, :, 0])]
        for c in range(1, channels):
            rows.append((self._row(c) * x[:, :, :c]).sum(2))
        return torch.stack(rows, 2)

    def _before(self, c: int, values: list[Tensor], pixel: bool = False) -> Tensor:
        """The same for one channel from the values before it: (B, K, *space) each, or (B, *space)."""
        if self.couplings is None or c == 0:
            return torch.zeros_like(self.log_weights)
        held = torch.stack([v.unsqueeze(1) for v in values] if pixel else values, 2)
        return (self._row(c) * held).sum(2)

    def _row(self, c: int) -> Tensor:
        """a_kcb for b < c, (B, K, c, *space)."""
        assert self.couplings is not None
        first = c * (c - 1) // 2
        return self.couplings[:, :, first : first + c]

    @staticmethod
    def _of(values: Tensor, chosen: Tensor) -> Tensor:
        """The values (B, K, *space) of the chosen components, (B, *space)."""
        return values.gather(1, chosen.unsqueeze(1)).squeeze(1)
