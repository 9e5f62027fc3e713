"""Models of clips: states that move.

td-vae   Generator(TD-VAE, mixture prior on the state of a clip's first frame)
"""

from __future__ import annotations

import math

from torch import nn

from ..core.errors import DataError, UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.generator import Generator
from ..models.prior import MixturePrior
from ..models.tdvae import TdVae
from ..nets.plain import ConvDecoder, ConvEncoder, MlpDecoder, MlpEncoder
from ..objectives.elbo import Elbo
from ..training.rates import Cosine
from ..training.stage import Fit, Recipe, Stage
from .dials import check_legal
from .sizes import likelihood_of

FEATURES = 64  # numbers that describe a frame to the belief
SMALL, NARROW = 512, 8  # values of a small frame, and the shortest side that convolutions find things in


def td_vae(
    facts: Facts,
    *,
    jump: int = 0,
    latent: int = 16,
    width: int = 0,
    belief: int = 128,
    pairs: int = 8,
    past: int = 3,
    warmup: float = 0.0,
    components: int = 16,
    batch: int = 16,
) -> Recipe:
    """A temporal-difference VAE of clips: predicts frames at once or step by step (Gregor et al. 2019).

    `sfumato rollout RUN` shows both beside the truth. A sample is a clip rolled out from a first state.

    jump         longest jump in frames; 0: 10, or what half a shorter clip holds
    latent       dimensions of the state
    width        channels of the first level of the networks of a frame; 0: 16 (small frames: 8); of frames
                 without two sides of 8 or more, the width of perceptrons; 0: 256
    belief       numbers of the belief, and width of the maps between Gaussians
    pairs        pairs of times drawn from each clip in a training step
    past         in training a state explains the frame so many before its own as well; 0: as in the paper
    warmup       examples (up to 1: share of the training) over which the weight of the KL rises from 0
    components   largest number of components of the prior on first states
    batch        clips in a training step
    """
    if not facts.time:
        raise DataError(
            "td-vae learns from clips, and these data have no time",
            where=facts.source or None,
            remedy="Give moving-digits, an array with --layout NTHWC, or Parquet with a column n_frames.",
        )
    jump = jump or min(10, max(1, facts.frames // 2))
    if not 1 <= jump < facts.frames:
        raise UsageError(
            f"a jump of {jump} frames does not fit into clips of {facts.frames}",
            where=facts.source or None,
            remedy=f"Choose a jump from 1 to {facts.frames - 1}, or longer clips.",
        )
    check_legal("td-vae", "past", past, past >= 0, "0 or more; 3 is usual")
    encoder, decoder = _frame_networks(facts.frame, latent, width)
    model = lazy(TdVae)(
        encoder,
        decoder,
        likelihood_of(facts),
        latent,
        FEATURES,
        facts.frames,
        jump,
        belief,
        pairs,
        min(past, facts.frames - 1),
    )
    return lazy(Recipe)(
        model=lazy(Generator)(codec=model, density=lazy(MixturePrior)(latent, components)),
        stages=(
            lazy(Stage)(
                name="td-vae",
                objective=lazy(Elbo)(warmup=warmup),
                on="codec",
                rate=lazy(Cosine)(peak=3e-3),
                batch=batch,
            ),
            lazy(Fit)(name="prior", on="density", through="codec"),
        ),
    )


def _frame_networks(frame: Facts, latent: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The postponed encoder and decoder of one frame."""
    shape, size = (frame.channels, frame.space), math.prod(frame.shape)
    if size <= SMALL and sum(n >= NARROW for n in frame.space) < 2:
        wide = width or 256
        return lazy(MlpEncoder)(*shape, FEATURES, width=wide), lazy(MlpDecoder)(latent, *shape, width=wide)
    wide = width or (8 if size <= SMALL else 16)
    return lazy(ConvEncoder)(*shape, FEATURES, width=wide), lazy(ConvDecoder)(latent, *shape, width=wide)
