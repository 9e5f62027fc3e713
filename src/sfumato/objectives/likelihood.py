"""The likelihood of codes under their prior, which it is trained on, in nats per image.

    loss = -sum_i log p(c_i given c_<i, the levels above, the class),     c the codec's code of the image
    bits per code = loss / (length log 2);   uniform codes cost log2 K

The codec is not trained by it, and encodes in float32 whatever the prior computes in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..data.dataset import Batch
from ..models.autoregressive import Autoregressive, CodesAbove
from ..models.generator import Generator
from .denoising import droppable
from .objective import Judge, Loss, Objective


def level_of(generator: Generator, above: int) -> tuple[Generator, Autoregressive]:
    """The generator and density of the level `above` steps above the finest."""
    for _ in range(above):
        if not isinstance(generator.conditioner, CodesAbove):
            raise TypeError(f"there are not {above} levels of codes above this one")
        generator = generator.conditioner.first
    if not isinstance(generator.density, Autoregressive):
        raise TypeError("the likelihood of codes is for a Generator whose density is Autoregressive")
    return generator, generator.density


@final
class CodeLikelihood(Objective, Judge):
    """-log p of one level's codes given those above; `above`: 0 is the finest level, 1 the next, ...

    dropout: share of the examples whose class is withheld, so that one prior knows both.
    """

    def __init__(self, above: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        if above < 0 or not 0.0 <= dropout <= 1.0:
            raise ValueError("a level is 0 or more above the finest, and a dropout lies in [0, 1]")
        self.above, self.dropout = above, dropout

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `codes` in nats per image and `bits_per_code`."""
        nats, bits = self._nats(model, batch, noise, self.dropout)
        return Loss({"codes": nats, "bits_per_code": bits}, {"codes": 1.0})

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: nats per image; `bits_per_code`."""
        nats, bits = self._nats(model, batch, noise, 0.0)
        return {"loss": nats, "bits_per_code": bits}

    def _nats(self, model: nn.Module, batch: Batch, noise: Noise, dropout: float) -> tuple[Tensor, Tensor]:
        assert isinstance(model, Generator)
        level, density = level_of(model, self.above)
        with torch.no_grad():
            codes = model.codec.encode(batch.x)
        cond = droppable(level.conditioner.observe(batch, noise=noise), dropout, len(codes), noise)
        nats = -density.log_prob(codes, cond)
        return nats, nats.detach() / (density.net.length * math.log(2.0))
