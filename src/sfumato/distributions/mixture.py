"""A mixture of discretised logistics for every pixel, its channels coupled (PixelCNN++).

    P(x) = prod over pixels  sum_k  pi_k  prod_c  P_k(x_c given x_1 .. x_{c-1})
    P_k(x_c given ...) = discretised logistic with location m_kc + sum_{b < c} a_kcb x_b, scale s_kc

One component is chosen for a whole pixel, so its channels are dependent; within a component the location
of a channel moves linearly with the channels before it (Salimans et al. 2017, section 2.2, there for three
channels; here for any number). Every factor sums to one over the grey levels, hence so does P.
`mean` leaves out what the outer bins cut off, as that of a single logistic does:

    mu_kc = m_kc + sum_{b < c} a_kcb mu_kb,        E[x_c] = sum_k pi_k mu_kc
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
        """sum_k pi_k mu_k, (B, C, *space)."""
        means: list[Tensor] = []
        for c in range(self.locations.shape[2]):
            means.append(self.locations[:, :, c] + self._before(c, means))
        return (self.log_weights.exp().unsqueeze(2) * torch.stack(means, 2)).sum(1)

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
