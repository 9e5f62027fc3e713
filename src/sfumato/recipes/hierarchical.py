"""The hierarchical VAE: a ladder of latents from one global vector to the finest detail.

hvae   Generator(Hvae(features, ladder), N(0, I) in standardised coordinates)        ELBO, one stage
"""

from __future__ import annotations

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.generator import Generator
from ..models.hvae import Hvae
from ..models.prior import StandardNormalPrior
from ..nets.ladder import BottomUp, Ladder, latents, scales_of
from ..objectives.elbo import Elbo
from ..training.rates import Cosine
from ..training.stage import Recipe, Stage
from .sizes import PATCH_FROM, likelihood_of, mixture_of

LEVELS, MOST_LEVELS = 12, 1_000
EPOCHS = 100.0


def hvae(
    facts: Facts,
    *,
    levels: int = LEVELS,
    latent: int = 8,
    width: int = 0,
    components: int = 5,
    beta: float = 1.0,
    warmup: float = 0.25,
    free_bits: float = 0.0,
    batch: int = 16,
) -> Recipe:
    """A hierarchical VAE (NVAE, VDVAE): latents from coarse to fine, each with a learned prior.

    Integers get a mixture of discretised logistics per pixel with coupled channels, so the ELBO is in true
    bits; floats a Gaussian of learned scale. There is no prior to fit: the ladder is its own.

    levels       latent variables; the scales of the data share them, the finest gets most
    latent       channels of each
    width        channels of the networks; 0: 48 (points: 64)
    components   logistics per pixel
    beta         weight of the KL; 1 is the ELBO
    warmup       share of the training (above 1: examples) over which beta rises from 0; without it the
                 first levels that learn to speak leave nothing to the others
    free_bits    nats of KL per unit below which nothing is gained
    batch        images in a training step; small ones learn most in little time, a GPU wants more
    """
    if not 1 <= levels <= MOST_LEVELS or latent < 1:
        remedy = f"Give 1 to {MOST_LEVELS} levels, and 1 channel or more."
        raise UsageError(f"a ladder of {levels} levels with {latent} channels", remedy=remedy)
    patch = 2 if facts.space and max(facts.space) >= PATCH_FROM and min(facts.space) > 1 else 1
    scales = len(scales_of(facts.space or (1,), patch))
    if levels < scales:
        raise UsageError(
            f"{levels} levels for data with {scales} scales", remedy=f"Give levels={scales} or more."
        )
    return lazy(Recipe)(
        model=ladder(facts, levels=levels, latent=latent, width=width, components=components, patch=patch),
        stages=(
            lazy(Stage)(
                name="hvae",
                objective=lazy(Elbo)(beta, warmup, free_bits),
                on="codec",
                rate=lazy(Cosine)(peak=4e-3, warmup=5_000),
                batch=batch,
                epochs=EPOCHS,
            ),
        ),
    )


def ladder(facts: Facts, *, levels: int, latent: int, width: int, components: int, patch: int) -> Generator:
    """The postponed generator: a ladder as codec, and the standard normal its own priors amount to."""
    wide = width or (48 if facts.space else 64)
    shape = (facts.channels, facts.space)
    outputs, likelihood = (
        (facts.channels, likelihood_of(facts)) if facts.levels is None else mixture_of(facts, components)
    )
    down = lazy(Ladder)(outputs, facts.space, levels=levels, latent=latent, width=wide, patch=patch)
    return lazy(Generator)(
        codec=lazy(Hvae)(lazy(BottomUp)(*shape, width=wide, patch=patch), down, likelihood),
        density=lazy(StandardNormalPrior)(latents(facts.space, levels=levels, latent=latent, patch=patch)),
    )
