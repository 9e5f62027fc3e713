"""A generator is a codec x a density x a conditioner.

    sample:  given  = conditioner.draw ... density.draw          every named draw, each from its own stream
             cond   = conditioner.imagine(given)
             code   = density.sample(start, cond)                start = given.z or given.x_T
             x      = codec.decode(code)
    train:   code, cond = observe(batch)                         what the density is fitted to

A VAE is (VAE, prior, none); a diffusion model (pixels, diffusion, none or a class); DiffuseVAE is (pixels,
diffusion, reconstruction by a VAE generator). Sample k is a function of its own seed and its own row of
`given`: not of how many are asked for, nor of how they are put into batches. For that to hold to the
bit, networks must always see the same shape, since kernels are chosen by shape: work is done in blocks
of a fixed number of rows, the last one padded by repeating its last row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

from ..core.condition import Condition
from ..core.errors import UsageError
from ..core.noise import Noise
from ..data.dataset import Batch
from .codec import Codec
from .conditioner import Conditioner, Unconditional
from .density import Density, Plan, check_guided
from .given import Given, Streams, gather

CPU_ROWS = 16  # fewer let kernels treat the last rows of a block in another way
CODED = ("z", "codes")  # entries of Given that are the codec's code of an image


@final
class Generator(nn.Module):
    """Samples x (B, C, *space) in [-1, 1]; `plan` is how it samples unless told otherwise.

    UsageError for a plan that guides by a condition which is not there.
    """

    def __init__(
        self,
        codec: Codec,
        density: Density,
        conditioner: Conditioner | None = None,
        plan: Plan | None = None,
    ) -> None:
        super().__init__()
        self.codec, self.density = codec, density
        self.conditioner = conditioner if conditioner is not None else Unconditional()
        self.plan = plan if plan is not None else Plan()
        check_guided(self.plan, conditional=not isinstance(self.conditioner, Unconditional))

    @property
    def slots(self) -> frozenset[str]:
        """The entries of `Given` this generator understands."""
        return self.conditioner.slots | {self.density.slot}

    def observe(self, batch: Batch, *, noise: Noise) -> tuple[Tensor, Condition]:
        """The codes of a training batch and their condition."""
        cond = self.conditioner.observe(batch, noise=noise)
        return self.codec.encode(batch.x, noise=noise), cond

    # -------------------------------------------------------------------------------- sampling

    def sample(
        self,
        count: int,
        plan: Plan | None = None,
        given: Given | None = None,
        *,
        seeds: Sequence[int],
        batch: int = 64,
        drew: Callable[[int], object] | None = None,
    ) -> Tensor:
        """`count` images, one for each seed.

        batch: rows of one network call on an accelerator. On a CPU calls always have 16 rows, which costs
        no speed and makes the bits of an image independent of this number. drew: told, after each call, how
        many images it drew.
        """
        plan, given = plan or self.plan, self._checked(given, count, seeds)
        parts = []
        with torch.inference_mode(), evaluating(self):
            for rows in self._blocks(count, batch):
                streams = Streams([seeds[i] for i in rows.tolist()], self.density.device)
                parts.append(self._sample(given.take(rows), plan, streams))
                if drew is not None:
                    if rows.is_cuda:
                        torch.cuda.synchronize(rows.device)  # what was asked for is drawn only now
                    drew(int(min(len(rows), count - int(rows[0]))))
        # outside inference mode, so that the result may take part in a training step
        return torch.cat(parts)[:count] if parts else torch.empty(0)

    def draw(
        self,
        seeds: Sequence[int],
        plan: Plan | None = None,
        given: Given | None = None,
        *,
        batch: int = 64,
    ) -> Given:
        """Every entry of `Given` the samples with these seeds have: sample(given=draw(seeds)) = sample()."""
        plan, given = plan or self.plan, self._checked(given, len(seeds), seeds)
        parts = []
        with torch.inference_mode(), evaluating(self):
            for rows in self._blocks(len(seeds), batch):
                streams = Streams([seeds[i] for i in rows.tolist()], self.density.device)
                parts.append(self.drawn(given.take(rows), plan, streams))
        return gather(parts, len(seeds))

    def _checked(self, given: Given | None, count: int, seeds: Sequence[int]) -> Given:
        if len(seeds) != count:
            raise ValueError(f"{len(seeds)} seeds for {count} samples")
        given = given or Given()
        if unknown := sorted(given.names - self.slots):
            known = ", ".join(sorted(self.slots))
            raise UsageError(f"this model has no {unknown[0]}", remedy=f"It can be given: {known}.")
        return given.expanded(count).to(self.density.device)

    def _blocks(self, count: int, batch: int) -> Iterator[Tensor]:
        """Row numbers of each block, all of the same length, the last row repeated where they run out."""
        if batch < 1:
            raise UsageError(f"a batch of {batch} samples", remedy="Give a batch of 1 or more.")
        device = self.density.device
        size = CPU_ROWS if device.type == "cpu" else batch
        for first in range(0, count, size):
            yield torch.arange(first, first + size, device=device).clamp_max(count - 1)

    def drawn(self, given: Given, plan: Plan, streams: Streams) -> Given:
        """`given` with every empty entry drawn from the stream of its name."""
        given = self.conditioner.draw(given, plan, streams=streams)
        slot = self.density.slot
        if slot in given.names:
            return given
        cond = Condition(label=given.label)
        start = self.density.draw(len(streams), plan, cond=cond, noise=streams[slot])
        return given.with_drawn(Given(**{slot: start}))

    def _sample(self, given: Given, plan: Plan, streams: Streams) -> Tensor:
        given = self.drawn(given, plan, streams)
        cond = self.conditioner.imagine(given)
        start = getattr(given, self.density.slot)
        return self.codec.decode(self.density.sample(start, plan, cond=cond, noise=streams["solver"]))

    # ------------------------------------------------------------------------------- inference

    def encode(self, x: Tensor, *, batch: int = 64) -> Given:
        """What images (B, C, *space) determine: z, its posterior mean, or their discrete codes."""
        x = x.to(self.density.device)
        parts = []
        with torch.inference_mode(), evaluating(self):
            for rows in self._blocks(len(x), batch):
                if self.density.slot in CODED:
                    parts.append(Given(**{self.density.slot: self.codec.encode(x[rows])}))
                else:
                    parts.append(self.conditioner.encode(x[rows]))
        found = gather(parts, len(x))
        if parts and not {*CODED} & found.names:
            raise UsageError(
                "this model has no latent to encode images into", remedy="Use a run of vae or diffusevae."
            )
        return found

    def reconstruct(
        self,
        x: Tensor,
        plan: Plan | None = None,
        given: Given | None = None,
        *,
        seeds: Sequence[int],
        batch: int = 64,
    ) -> Tensor:
        """Images through their latents and back, through every stage; x_T and solver noise by seed."""
        known = (given or Given()).with_drawn(self.encode(x, batch=batch))
        return self.sample(len(x), plan, known, seeds=seeds, batch=batch)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) for the time being; each module's own mode is restored."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        yield
    finally:
        for m in training:
            m.training = True
