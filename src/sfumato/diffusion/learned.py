"""A learned clock: log-SNR as a monotone network of time, its ends learned too (Kingma et al. 2021, app. H).

    lambda(t) = high - (high - low) n(t),     n(0) = 0, n(1) = 1
    n(t) = (m(t) - m(0)) / (m(1) - m(0)),     m(t) = t + sum_k w_k sigmoid(a_k (t - c_k)),  w_k, a_k > 0

Positive weights make n increasing for whatever values the parameters take. The continuous bound is an
integral over log-SNR and does not depend on n, only the variance of its estimate does; the ends do change
it. `interior` gives n and its derivative n' by themselves, so that an objective can train the two kinds of
parameters for the two purposes: the ends for the bound, the interior for its variance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..core.stable import inverse_softplus
from .paths import Path, VariancePreserving
from .schedule import Schedule

NEGLIGIBLE = 1e-3  # weight of each sigmoid at the start: a line in log-SNR
HALVINGS = 60  # of [0, 1] to find a time: below the spacing of float64 at 1
NARROWEST = 1e-3  # of the learned range of log-SNR, which stays positive


class LearnedSnr(Schedule):
    """A clock whose ends `low` and `high` (log-SNR at t = 1 and 0) and interior are parameters.

    It starts as a line between the ends given. width: sigmoids of the interior. It answers in the type and on
    the device of what it is asked, whatever those of its parameters.
    """

    def __init__(
        self, low: float = -5.0, high: float = 13.3, width: int = 256, path: Path | None = None
    ) -> None:
        super().__init__(path or VariancePreserving())
        if not low < high:
            raise ValueError(f"a clock falls from a high log-SNR to a low one, not from {high} to {low}")
        if width < 1:
            raise ValueError(f"a learned clock has one sigmoid or more, not {width}")
        self.low = nn.Parameter(torch.tensor(float(low)))
        self.range = nn.Parameter(torch.tensor(inverse_softplus(high - low - NARROWEST)))
        self.weights = nn.Parameter(torch.full((width,), inverse_softplus(NEGLIGIBLE)))
        self.slopes = nn.Parameter(torch.full((width,), inverse_softplus(4.0 + math.sqrt(width))))
        centres = (torch.arange(width, dtype=torch.float32) + 0.5) / width
        self.centres = nn.Parameter(centres)

    def span(self, like: Tensor) -> Tensor:
        """high - low > 0, () in the type of `like`."""
        return softplus(self.range.to(like)) + NARROWEST

    def interior(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """n(t) in [0, 1] and n'(t) > 0, of t's shape and type."""
        w, a = (softplus(v.to(t)) for v in (self.weights, self.slopes))
        c = self.centres.to(t)
        first, last = (torch.sigmoid(a * (end - c)) for end in (0.0, 1.0))
        at = torch.sigmoid(a * (t.unsqueeze(-1) - c))
        total = 1.0 + (w * (last - first)).sum()
        value = (t + (w * (at - first)).sum(-1)) / total
        return value, (1.0 + (w * a * at * (1.0 - at)).sum(-1)) / total

    def at(self, position: Tensor) -> Tensor:
        """The log-SNR at a position n in [0, 1]: high - (high - low) n."""
        return self.low.to(position) + self.span(position) * (1.0 - position)

    def clock(self, t: Tensor) -> Tensor:
        """lambda(t)."""
        return self.at(self.interior(t)[0])

    @torch.no_grad()
    def inverse(self, log_snr: Tensor) -> Tensor:
        """The time by bisection, without gradient; 0 above high and 1 below low."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            later = self.clock(middle) > log_snr
            low, high = torch.where(later, middle, low), torch.where(later, high, middle)
        return 0.5 * (low + high)
