"""The beta-VAE: a VAE whose KL is weighed, or held at a capacity, so that its units come apart.

beta-vae   the generator of `vae`           beta KL, or gamma |KL - C| with C rising; then the prior is fitted
"""

from __future__ import annotations

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.likelihood import BernoulliLikelihood
from ..objectives.capacity import Capacity
from ..objectives.elbo import Elbo
from ..objectives.objective import Objective
from ..training.stage import Fit, Recipe
from .dials import check_unused
from .latent import vae_generator, vae_stage

UNITS = 10
BETA, GAMMA, RISE = 4.0, 100.0, 100_000


def beta_vae(
    facts: Facts,
    *,
    beta: float | None = None,
    capacity: float = 0.0,
    gamma: float | None = None,
    rise: int | None = None,
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

    beta         weight of the KL; 1 is the ELBO; not said: 4. Refused with a capacity
    capacity     nats at which the KL is held, instead of beta; 0: beta is used
    gamma        weight of the distance between KL and capacity; not said: 100. Refused without a capacity
    rise         examples over which the capacity rises from 0; not said: 100,000. Refused without one
    latent       dimensions of z
    width        channels of the first level; 0: 32 (points: 128)
    components   largest number of components of the prior on z
    batch        images in a training step
    """
    likelihood = None if facts.levels is None else lazy(BernoulliLikelihood)()
    return lazy(Recipe)(
        model=vae_generator(facts, latent, width, components, 0, likelihood),
        stages=(
            vae_stage(_objective(beta, capacity, gamma, rise), on="codec", share=1.0, batch=batch),
            lazy(Fit)(name="prior", on="density", through="codec"),
        ),
    )


def _objective(beta: float | None, capacity: float, gamma: float | None, rise: int | None) -> Objective:
    """The postponed objective; UsageError for dials of the one where the other is asked for."""
    if not capacity >= 0:
        raise UsageError(
            f"a capacity of {capacity:g} nats",
            where="recipe beta-vae",
            remedy="A KL is 0 or more: choose a capacity above 0, or 0 to use beta.",
        )
    if capacity > 0:
        check_unused("beta-vae", "a capacity takes the place of beta", beta=beta)
        return lazy(Capacity)(capacity, GAMMA if gamma is None else gamma, RISE if rise is None else rise)
    check_unused("beta-vae", "it belongs to a capacity, and none is set", gamma=gamma, rise=rise)
    return lazy(Elbo)(BETA if beta is None else beta)
