"""What `traverse` moves: one thing at a time around a sample, that which carries most first.

a latent z   unit j from -reach to +reach standard deviations of its prior, or of itself over unseen
             images where it has none (app/units.py)
a ladder     level l on its way to another draw of itself (app/levels.py)
codes        names without an order, but their embeddings e have directions: with m the mean of e over
             unseen images, and v_j and s_j^2 eigenvector and eigenvalue of its covariance,
                 c(t) = the codes nearest to  e + (<v_j, m - e> + s_j t) v_j,    t from -reach to reach
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..data.dataset import Batch
from ..evaluation.units import units
from ..models.density import Plan
from ..models.given import Given, seeds_of
from ..models.hvae import Hvae
from ..models.trace import LatentVariableModel
from ..models.vqvae import VqVae
from .levels import moved, title
from .opened import Opened
from .paths import ends_of
from .rows import Images, Traversals
from .units import principal, ranked

RANKED_BY = 2048  # unseen images that say what a latent, or a direction, carries
LEVELS_BY = 256  # the same of a level of a ladder
NUMBERS = 2**24  # of all embeddings that directions are found in: of large images fewer are looked at


@dataclass(frozen=True)
class Around:
    """The sample that is moved around, in how many images and how far, and what says which way.

    unseen  at most so many unseen images
    """

    run: Opened
    plan: Plan
    given: Given
    seed: int
    count: int
    reach: float
    unseen: Callable[[int], Iterator[Batch]]

    @property
    def steps(self) -> Tensor:
        """(count,) from -reach to +reach."""
        return torch.linspace(-self.reach, self.reach, self.count, device=self.run.device)

    def traversals(self, latents: int) -> Traversals:
        """A row for each of the `latents` things that carry most."""
        codec = self.run.generator.codec
        if isinstance(codec, VqVae):
            return self.of_codes(codec, latents)
        _, model = self.run.latent()
        return self.of_levels(model, latents) if isinstance(model, Hvae) else self.of_units(model, latents)

    def of_units(self, model: LatentVariableModel, latents: int) -> Traversals:
        """One unit of z at a time."""
        ranking = ranked(model, self.unseen(RANKED_BY))
        here = self.run.generator.draw(seeds_of(self.seed, 1), self.plan, self.given)
        assert here.z is not None
        rows = {}
        for unit in ranking.units[:latents]:
            z = here.z.repeat(self.count, 1)
            z[:, unit.index] = unit.middle + unit.spread * self.steps
            rows[ranking.title(unit)] = self._drawn(replace(here, z=z))
        return Traversals(rows, tuple((u.index, u.carries) for u in ranking.units[:latents]), ranking.word)

    def of_codes(self, codec: VqVae, latents: int) -> Traversals:
        """The embeddings of all codes along one of their principal directions at a time."""
        (here,) = ends_of(self.run.generator, self.plan, self.given, [self.seed])
        assert here.codes is not None
        with torch.inference_mode():
            e = codec.embed(here.codes)
            most = max(2, min(RANKED_BY, NUMBERS // e.shape[1]))
            found = principal(torch.cat([codec.embed(codec.encode(b.x)) for b in self.unseen(most)]), latents)
            rows = {}
            for j, (way, spread) in enumerate(zip(found.ways, found.spreads, strict=True), 1):
                shift = (found.mean - e) @ way + spread * self.steps
                codes = codec.nearest(e + shift[:, None] * way)
                rows[f"direction {j}  {spread:.2f} spread"] = self._drawn(replace(here, codes=codes))
        return Traversals(rows, tuple(enumerate(found.spreads.tolist())), "spread", of="direction")

    def of_levels(self, model: Hvae, latents: int) -> Traversals:
        """One level of a ladder at a time; and samples level by level."""
        nats = [level.kl.value for level in units(model, (batch.x for batch in self.unseen(LEVELS_BY)))]
        order = sorted(range(len(nats)), key=lambda i: -nats[i])[:latents]
        seeds = seeds_of(self.seed, max(self.count, 2))
        here = self.run.generator.draw(seeds, self.plan)
        assert here.z is not None
        rows, levels = {}, {}
        for level in order:
            z = moved(model, here.z[:1], here.z[1:2], level, self.count, self.reach)
            rows[title(model, level, nats[level])] = self._drawn(Given(z=z))
        for level in range(len(nats)):
            z = model.up_to(here.z, level + 1)[: self.count]
            levels[title(model, level, nats[level])] = self._drawn(Given(z=z), seeds[: self.count])
        return Traversals(rows, tuple((i, nats[i]) for i in order), "nats", levels, of="level")

    def _drawn(self, known: Given, seeds: list[int] | None = None) -> Images:
        """`count` images of what is known; seeds: of what is not, the first one for all unless given."""
        seeds = seeds or seeds_of(self.seed, 1) * self.count
        return self.run.images(self.run.generator.sample(self.count, self.plan, known, seeds=seeds))
