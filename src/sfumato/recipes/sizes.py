"""Networks that fit the data: one rule for points, sequences, images and volumes of any size.

    points (C,)            perceptrons
    at least 28 a side     2 x 2 patches first: a quarter of the positions for the same numbers; worth more
                           than any kernel at these budgets (digits 28 x 28: twice as fast, lower Frechet)
    transformers           patches so large that at most 64 tokens remain, 256 of a wide one
    levels                 halved until at most 4 positions a side remain, at most 4 levels

Nothing here looks at the content of the data, only at its `Facts`.
"""

from __future__ import annotations

import math

from torch import nn

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.likelihood import (
    DiscretizedGaussianLikelihood,
    GaussianLikelihood,
    Likelihood,
    LogisticMixtureLikelihood,
)
from ..nets.dit import DiT
from ..nets.plain import ConvDecoder, ConvEncoder, MlpDecoder, MlpEncoder, MlpNet
from ..nets.unet import UNet

PATCH_FROM = 28  # positions a side from which patches pay
SMALL = 12  # positions a side up to which a VAE is twice as wide, and `diffusion` has one block a level
TINY = 192  # width of a transformer for two CPU cores
TOKENS = 64  # most tokens of such a transformer; wider ones have four times as many
FEW, DROPOUT = 5_000, 0.1  # fewer images are soon learned by heart
COARSEST = 4  # positions a side at which halving ends


def backbone(
    facts: Facts,
    *,
    width: int,
    dropout: float = 0.0,
    vector_dim: int = 0,
    classes: int = 0,
    concat: bool = False,
    copies: int = 1,
    answers: int = 1,
    blocks: int = 2,
) -> nn.Module:
    """The postponed network of a denoiser; width 0 chooses one.

    copies, answers: numbers it is shown and gives for every number of x (fine detail, a variance);
    blocks: residual blocks of each level of a U-Net.
    """
    extra = facts.channels if concat else 0
    seen, out = copies * facts.channels, None if copies == answers == 1 else answers * facts.channels
    if not facts.space:
        return lazy(MlpNet)(
            seen,
            width=width or 128,
            concat_channels=extra,
            vector_dim=vector_dim,
            classes=classes,
            out_channels=out,
        )
    patch, levels = patch_and_levels(facts)
    return lazy(UNet)(
        seen,
        len(facts.space),
        width=width or (48 if patch == 1 else 64),
        multipliers=(1, 2, 2, 2)[:levels],
        blocks=blocks,
        concat_channels=extra,
        vector_dim=vector_dim,
        classes=classes,
        out_channels=out,
        patch=patch,
        dropout=dropout,
    )


def transformer(
    facts: Facts, *, width: int, patch: int = 0, dropout: float = 0.0, classes: int = 0
) -> nn.Module:
    """The postponed transformer of a denoiser on patches; width 0 and patch 0 choose.

    12 blocks of width 384 or 768 are DiT's S and B, 24 of 1024 its L; narrower ones have 6 blocks.
    """
    width = width or TINY
    return lazy(DiT)(
        facts.channels,
        len(facts.space),
        width=width,
        depth=6 if width < 384 else 12 if width < 1024 else 24,
        head_dim=32 if width < 384 else 64,
        patch=patch or token_patch(facts, TOKENS if width < 384 else 4 * TOKENS),
        classes=classes,
        dropout=dropout,
    )


def token_patch(facts: Facts, tokens: int) -> int:
    """The smallest power of two, as positions a side of a patch, that leaves at most so many tokens."""
    patch = 1
    while math.prod(math.ceil(n / patch) for n in facts.space) > tokens:
        patch *= 2
    return patch


def patch_and_levels(facts: Facts) -> tuple[int, int]:
    """Patch size and number of levels of the U-Net."""
    side = max(facts.space)
    patch = 2 if side >= PATCH_FROM and len(facts.space) > 1 else 1
    side, levels = math.ceil(side / patch), 1
    while side > COARSEST and levels < 4:
        side, levels = math.ceil(side / 2), levels + 1
    return patch, max(levels, 2) if max(facts.space) > 1 else 1


def latent_size(facts: Facts) -> int:
    """Dimensions of a VAE's latent: about the square root of the data's, a power of two in 8 .. 128."""
    if not facts.space:
        return max(2, facts.channels)
    return min(128, max(8, 2 ** round(math.log2(math.sqrt(math.prod(facts.shape))))))


def encoder_and_decoder(
    facts: Facts, *, latent: int, width: int, numbers: int = 2
) -> tuple[nn.Module, nn.Module]:
    """The postponed networks of an autoencoder with `latent` dimensions; width 0 chooses one.

    numbers: what the encoder says of each dimension: 2 of a VAE (mean, log-scale), 1 of an autoencoder.
    """
    shape, code = (facts.channels, facts.space), numbers * latent
    if not facts.space:
        wide = width or 128
        return lazy(MlpEncoder)(*shape, code, width=wide), lazy(MlpDecoder)(latent, *shape, width=wide)
    wide = width or (64 if max(facts.space) <= SMALL else 32)
    return lazy(ConvEncoder)(*shape, code, width=wide), lazy(ConvDecoder)(latent, *shape, width=wide)


def likelihood_of(facts: Facts) -> Likelihood:
    """A true likelihood of the stored numbers: discretised for integers, a density for floats."""
    if facts.levels is None:
        return lazy(GaussianLikelihood)()
    return lazy(DiscretizedGaussianLikelihood)(levels=facts.levels)


def mixture_of(facts: Facts, components: int) -> tuple[int, Likelihood]:
    """Decoder channels of a mixture of logistics per pixel, and the postponed likelihood that reads them."""
    if facts.levels is None:
        raise UsageError(
            "a mixture of discretised logistics is for integers, and these data are floats",
            where=facts.source or None,
            remedy="Leave it out: floats have a Gaussian of learned scale.",
        )
    outputs = LogisticMixtureLikelihood(facts.levels, facts.channels, components).outputs
    return outputs, lazy(LogisticMixtureLikelihood)(facts.levels, facts.channels, components)


def dropout_of(facts: Facts, asked: float | None) -> float:
    """Dropout of a denoiser: what was asked for, else 0.1 where there are few images to learn by heart.

    Digits, 1,198 images, 395 passes: copies fall from 15 % of the samples to 8.5 % (unseen images: 5.0 %), at
    the same Frechet distance.
    """
    if asked is not None:
        return asked
    return DROPOUT if 0 < facts.count < FEW and facts.space else 0.0


def spread(facts: Facts) -> float:
    """Standard deviation of the data in model units, over all channels; 0.5 where it is not known."""
    if not facts.std:
        return 0.5
    return max(0.05, math.sqrt(sum(s * s for s in facts.std) / len(facts.std)))
