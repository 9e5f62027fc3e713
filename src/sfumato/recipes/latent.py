"""Models with a small latent: the VAE, and DiffuseVAE, which refines what a VAE draws.

vae          Generator(VAE, mixture prior)                    ELBO, then the prior is fitted to encoded data
diffusevae   Generator(pixels, diffusion, Reconstruction(vae generator))            both stages in one run
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.codec import Pixels
from ..models.generator import Generator
from ..models.likelihood import Likelihood
from ..models.prior import LatentPrior, MixturePrior, StandardNormalPrior
from ..models.reconstruction import Reconstruction, Shifted
from ..models.vae import Vae
from ..objectives.elbo import Elbo
from ..objectives.objective import Objective
from ..training.rates import Cosine
from ..training.stage import Fit, Recipe, Stage
from .diffusion import class_count, labels, modern_density, modern_objective, modern_plan
from .sizes import backbone, dropout_of, encoder_and_decoder, latent_size, likelihood_of, mixture_of

SHARE = 0.2  # of the budget of DiffuseVAE for its VAE
# most passes of a VAE over its images; on digits the held-out ELBO was best between 38 and 76 passes
EPOCHS = 60.0


def vae(
    facts: Facts,
    *,
    latent: int = 0,
    width: int = 0,
    beta: float = 1.0,
    warmup: float = 0.0,
    free_bits: float = 0.0,
    components: int = 16,
    mixture: int = 0,
    conditional: bool = False,
    batch: int = 128,
) -> Recipe:
    """A convolutional VAE trained on the true ELBO in nats, and a mixture prior fitted to its codes.

    The likelihood has a learned scale and, for integer images, a bin for every grey level: its ELBO is in
    true bits. Samples are the blurred means of a VAE, sharpest where the data are simple.

    latent       dimensions of z; 0: about the square root of the data's, 8 to 128
    width        channels of the first level; 0: 32 (points: 128)
    beta         weight of the KL; 1 is the ELBO
    warmup       examples (up to 1: share of the training) over which beta rises from 0
    free_bits    nats of KL per unit below which nothing is gained
    components   largest number of components of the prior on z; 1 is a single Gaussian, 0 the N(0, I) of
                 the ELBO, which is not fitted
    mixture      logistics in each pixel's likelihood, all read from the decoder; 0: one learned scale
    conditional  a prior for each class, so that a class can be asked for
    batch        images in a training step
    """
    classes = class_count(facts, conditional)
    if classes and not components:
        raise UsageError(
            "N(0, I) is the same for every class", remedy="Leave conditional out, or give components=16."
        )
    latent = latent or latent_size(facts)
    return lazy(Recipe)(
        model=vae_generator(facts, latent, width, components, classes, mixture=mixture),
        stages=(
            vae_stage(lazy(Elbo)(beta, warmup, free_bits), on="codec", share=1.0, batch=batch),
            *fits(components, on="density", through="codec"),
        ),
    )


def diffusevae(
    facts: Facts,
    *,
    formulation: int = 1,
    give_z: bool = False,
    latent: int = 0,
    width: int = 0,
    beta: float = 1.0,
    warmup: float = 0.0,
    free_bits: float = 0.0,
    components: int = 16,
    conditional: bool = False,
    dropout: float | None = None,
    batch: int = 64,
) -> Recipe:
    """DiffuseVAE (Pandey et al. 2022): a diffusion model that refines what a VAE draws; both in one run.

    A small z holds the structure of an image, x_T its detail. The refiner is the network of `diffusion`
    with the reconstruction joined to its input.

    formulation  1: the network sees [x_t, x_hat]; 2: the forward process is shifted by x_hat as well
    give_z       give z to the network too, as a vector beside the noise level
    latent       dimensions of z; 0: about the square root of the data's, 8 to 128
    width        channels of the refiner's first level; 0: chosen by image size
    beta         weight of the KL in the first stage; 1 is the ELBO
    warmup       examples (up to 1: share of the first stage) over which beta rises from 0
    free_bits    nats of KL per unit of z below which nothing is gained
    components   largest number of components of the prior on z; 0: the N(0, I) of the ELBO, not fitted
    conditional  give the class to the refiner, and to the prior on z
    dropout      within the refiner's residual blocks; not said: 0.1 for fewer than 5,000 images, else 0
    batch        images in a training step of the refiner
    """
    if formulation not in (1, 2):
        raise UsageError(f"no formulation {formulation}", remedy="DiffuseVAE has formulations 1 and 2.")
    classes = class_count(facts, conditional)
    latent = latent or latent_size(facts)
    net = backbone(
        facts,
        width=width,
        dropout=dropout_of(facts, dropout),
        vector_dim=latent if give_z else 0,
        classes=classes,
        concat=True,
    )
    first = vae_generator(facts, latent, 0, components, classes)
    # unless they are turned, the recipe reads as it did before it had them: runs of that time go on
    turned: dict[str, Any] = {
        name: value for name, value in (("warmup", warmup), ("free_bits", free_bits)) if value
    }
    return lazy(Recipe)(
        model=lazy(Generator)(
            codec=lazy(Pixels)(),
            density=modern_density(facts, net if formulation == 1 else lazy(Shifted)(net)),
            conditioner=lazy(Reconstruction)(first, give_z),
            plan=modern_plan(),
        ),
        stages=(
            vae_stage(lazy(Elbo)(beta, **turned), on="conditioner.first.codec", share=SHARE, batch=128),
            *fits(components, on="conditioner.first.density", through="conditioner.first.codec"),
            lazy(Stage)(
                name="refiner",
                objective=modern_objective(facts),
                train="density",
                rate=lazy(Cosine)(peak=2e-3),
                batch=batch,
                share=1.0 - SHARE,
            ),
        ),
    )


def vae_generator(
    facts: Facts,
    latent: int,
    width: int,
    components: int,
    classes: int,
    likelihood: Likelihood | None = None,
    mixture: int = 0,
) -> Generator:
    """The postponed VAE with its prior; likelihood None: the one that fits the data, or with `mixture` a
    mixture of so many logistics per pixel."""
    encoder, decoder = encoder_and_decoder(facts, latent=latent, width=width)
    if mixture:
        outputs, likelihood = mixture_of(facts, mixture)
        _, decoder = encoder_and_decoder(replace(facts, channels=outputs), latent=latent, width=width)
    return lazy(Generator)(
        codec=lazy(Vae)(encoder, decoder, likelihood or likelihood_of(facts), latent),
        density=latent_prior(latent, components, classes),
        conditioner=labels(classes),
    )


def latent_prior(latent: int, components: int, classes: int) -> LatentPrior:
    """The postponed prior on z: so many components at most, a quarter for each class; none: N(0, I)."""
    if not components:
        return lazy(StandardNormalPrior)(latent)
    return lazy(MixturePrior)(latent, components if not classes else max(1, components // 4), classes)


def fits(components: int, *, on: str, through: str) -> tuple[Fit, ...]:
    """The postponed stage that fits the prior to encoded data; none for N(0, I)."""
    return (lazy(Fit)(name="prior", on=on, through=through),) if components else ()


def vae_stage(objective: Objective, *, on: str, share: float, batch: int) -> Stage:
    """The postponed stage that trains a VAE."""
    return lazy(Stage)(
        name="vae",
        objective=objective,
        on=on,
        rate=lazy(Cosine)(peak=2e-3),
        batch=batch,
        share=share,
        epochs=EPOCHS,
    )
