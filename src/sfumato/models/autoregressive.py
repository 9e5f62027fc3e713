"""An autoregressive density over the codes of a codec (van den Oord et al. 2017, sec. 3.3).

    log p(c) = sum_i log p(c_i given c_<i)                   nats

The code of an image is a row of integers (B, N) in a fixed order. Any first part of it can be continued: a
draw has as many codes as are known, none or those of the levels above, and sampling adds the rest,

    c_i = F_i^-1(u_i),   F_i the distribution function of p(c_i given c_<i),   u_i uniform

with u_i from the sample's own seed. Several levels are one generator each: the density of a level continues
what `CodesAbove` draws from the generator of the level above (Razavi et al. 2019, algorithm 2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.noise import Noise
from ..data.dataset import Batch
from ..distributions.discrete import Categorical
from ..nets.causal import CausalNet
from .conditioner import Conditioner
from .density import Density, Plan
from .generator import Generator
from .given import Given, Streams


@final
class Autoregressive(Density):
    """p(codes of one level given those of the levels above) by a causal network; see the module.

    A code as it is handed about holds the levels above too: (B, known + length).
    """

    slot: ClassVar[str] = "codes"

    def __init__(self, net: CausalNet) -> None:
        super().__init__()
        self.net = net

    @property
    def end(self) -> int:
        """Codes of an image up to and with this level."""
        return self.net.known + self.net.length

    @property
    def fresh(self) -> bool:
        """Whether the network still says uniform, as every one does before its first step."""
        return not any(bool(p.any()) for p in self.net.last.parameters())

    def log_prob(self, codes: Tensor, cond: Condition = NOTHING) -> Tensor:
        """log p of this level's codes given those above, (B, at least end) -> (B,) nats."""
        above, mine = codes[:, : self.net.known], codes[:, self.net.known : self.end]
        return Categorical(self.net(mine, above, cond)).log_prob(mine)

    def draw(self, count: int, plan: Plan, *, cond: Condition = NOTHING, noise: Noise) -> Tensor:
        """Codes (count, length) from the first on, at the plan's latent temperature."""
        nothing = torch.empty(count, 0, dtype=torch.int64, device=self.device)
        return self.sample(nothing, plan, cond=cond, noise=noise)

    def sample(
        self, start: Tensor, plan: Plan, *, cond: Condition = NOTHING, noise: Noise | None = None
    ) -> Tensor:
        """`start` (B, n), continued to (B, end); as it is where nothing is missing."""
        given = start.shape[1] - self.net.known
        if given >= self.net.length:
            return start
        if given < 0:
            raise ValueError(f"this level needs the {self.net.known} codes above it, not {start.shape[1]}")
        if noise is None:
            raise ValueError("codes are drawn, and this needs noise")
        u = noise.uniform((len(start), self.net.length), torch.float64)
        advance = self.net.walk(start[:, : self.net.known], cond)
        codes = start
        for i in range(self.net.length):
            logits = advance(codes[:, self.net.known + i - 1] if i else None)
            if i >= given:
                drawn = Categorical(logits).quantile(u[:, i], plan.latent_temperature)
                codes = torch.cat([codes, drawn[:, None]], 1)
        return codes


@final
class CodesAbove(Conditioner):
    """The codes of the levels above: drawn by their own generator, and then continued.

    first is a generator in the space of codes (its codec is the identity): `Autoregressive` over the level
    above, conditioned on a class or on `CodesAbove` again. In training the levels above are known from the
    image, and all that is observed is what `first` is conditioned on.
    """

    def __init__(self, first: Generator) -> None:
        super().__init__()
        if not isinstance(first.density, Autoregressive):
            raise TypeError(f"codes above are drawn from codes, not {type(first.density).__name__}")
        self.first, self.slots = first, first.slots

    def observe(self, batch: Batch, *, noise: Noise) -> Condition:
        """What the generator above observes: the class, or nothing."""
        return self.first.conditioner.observe(batch, noise=noise)

    def draw(self, given: Given, plan: Plan, *, streams: Streams) -> Given:
        """`given` with the codes of all levels above, from a stream of their own."""
        density = self.first.density
        assert isinstance(density, Autoregressive)
        given = self.first.drawn(given, plan, streams)
        assert given.codes is not None
        cond, noise = self.first.conditioner.imagine(given), streams[f"codes {density.net.known}"]
        return replace(given, codes=density.sample(given.codes, plan, cond=cond, noise=noise))

    def imagine(self, given: Given) -> Condition:
        """What the generator above imagines: the class, or nothing."""
        return self.first.conditioner.imagine(given)

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Given:
        """Nothing: the codec knows the codes of an image."""
        return Given()
