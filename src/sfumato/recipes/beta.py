"""The beta-VAE: a VAE whose KL is weighed, or held at a capacity, so that its units come apart.

beta-vae   the generator of `vae`           beta KL, or gamma |KL - C| with C rising; then the prior is fitted
"""

from __future__ import annotations

from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.likelihood import BernoulliLikelihood
from ..objectives.capacity import Capacity
from ..objectives.elbo import Elbo
from ..objectives.objective import Objective
from ..training.stage import Fit, Recipe
from .latent import vae_generator, vae_stage

UNITS = 10


def beta_vae(
    facts: Facts,
    *,
    beta: float = 4.0,
    capacity: float = 0.0,
    gamma: float = 100.0,
    rise: int = 100_000,
    latent: int = UNITS,
    width: int = 0,
    components: int = 16,
    batch: int = 64,
) -> Recipe:
    """The beta-VAE (Higgins et al. 2017) and its form with controlled capacity (Burgess et al. 2018).

    A KL that costs more than its nats makes the code use few units, and these for what varies
    independently. Images are seen through a cross-entropy per pixel, as in the papers, so that beta has
    the same meaning there; bits per dimension are therefore not reported. On data with known factors
    `evaluate` reports how far units and factors agree.

    beta         weight of the KL; 1 is the ELBO
    capacity     nats at which the KL is held, instead of beta; 0: beta is used
    gamma        weight of the distance between KL and capacity
    rise         examples over which the capacity rises from 0
    latent       dimensions of z
    width        channels of the first level; 0: 32 (points: 128)
    components   largest number of components of the prior on z
    batch        images in a training step
    """
    objective: Objective = lazy(Capacity)(capacity, gamma, rise) if capacity > 0 else lazy(Elbo)(beta)
    likelihood = None if facts.levels is None else lazy(BernoulliLikelihood)()
    return lazy(Recipe)(
        model=vae_generator(facts, latent, width, components, 0, likelihood),
        stages=(
            vae_stage(objective, on="codec", share=1.0, batch=batch),
            lazy(Fit)(name="prior", on="density", through="codec"),
        ),
    )
