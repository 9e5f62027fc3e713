"""Autoencoders without randomness, and a mixture fitted to their codes so that they can be sampled.

ae               a small code and the squared error
denoising-ae     the same, from corrupted images
sparse-ae        many sigmoid units, of which each is rarely active
k-sparse-ae      many linear units, of which k speak for an image
contractive-ae   sigmoid units that hardly move when the image does

All are Generator(Autoencoder, mixture prior). `shallow` replaces the networks by one layer on either side.
"""

from __future__ import annotations

import math

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.autoencoder import Autoencoder, tied
from ..models.generator import Generator
from ..models.likelihood import FixedGaussianLikelihood
from ..models.prior import MixturePrior
from ..nets.shallow import LinearDecoder, LinearEncoder
from ..nets.units import LinearUnits, SigmoidUnits, TopUnits, Units
from ..objectives.corruption import Corruption, GaussianCorruption, InTurn, Masking, SaltAndPepper
from ..objectives.jacobian import ExactJacobian, OneLayerJacobian
from ..objectives.penalties import BatchMean, Contraction, KlSparsity, RunningMean
from ..objectives.reconstruction import ReconstructionLoss
from ..training.rates import Cosine
from ..training.stage import Fit, Recipe, Stage
from .dials import check_legal, check_unused
from .sizes import encoder_and_decoder, latent_size

EPOCHS = 60.0  # most passes over the data, as for a VAE
MANY = 8  # times the code of a plain autoencoder, for codes of which little is active at a time
MOST_UNITS = 256
PEAK, PEAK_SHALLOW = 2e-3, 1e-2  # learning rates; one layer learns a third more from as many images so
MIXED_TO = 64  # units up to which a mixture of full covariances is fitted in seconds, not minutes


def ae(
    facts: Facts,
    *,
    latent: int = 0,
    width: int = 0,
    shallow: bool = False,
    components: int = 16,
    batch: int = 128,
) -> Recipe:
    """A plain autoencoder: the squared error through a small code, and a mixture prior fitted to codes.

    The code is free to lie as it likes, so samples of the fitted prior are worse than a VAE's.

    latent       numbers of the code; 0: about the square root of the data's, 8 to 128
    width        channels of the first level; 0: 32 (points: 128)
    shallow      one linear layer on either side, without channels: width is refused
    components   largest number of components of the prior on codes
    batch        images in a training step
    """
    latent = _length("ae", latent, latent_size(facts))
    return _recipe(
        _autoencoder("ae", facts, latent, width, shallow, lazy(LinearUnits)()),
        latent,
        lazy(ReconstructionLoss)(),
        components,
        batch,
        shallow,
    )


def denoising_ae(
    facts: Facts,
    *,
    masked: float = 0.3,
    gaussian: float = 0.0,
    salt_and_pepper: float = 0.0,
    latent: int = 0,
    width: int = 0,
    shallow: bool = False,
    components: int = 16,
    batch: int = 128,
) -> Recipe:
    """An autoencoder that gives back images it saw corrupted (Vincent et al. 2010).

    Claim C01 compares it with a plain autoencoder on images of which 30 % of the values are hidden.

    masked            probability with which a value is hidden (black)
    gaussian          standard deviation of noise added to every value, in model units (the range is 2)
    salt_and_pepper   probability with which a value becomes the lowest or the highest
    latent            numbers of the code; 0: about the square root of the data's, 8 to 128
    width             channels of the first level; 0: 32 (points: 128)
    shallow           one linear layer on either side, without channels: width is refused
    components        largest number of components of the prior on codes
    batch             images in a training step
    """
    kinds: list[Corruption] = []
    if masked:
        kinds.append(lazy(Masking)(masked))
    if gaussian:
        kinds.append(lazy(GaussianCorruption)(gaussian))
    if salt_and_pepper:
        kinds.append(lazy(SaltAndPepper)(salt_and_pepper))
    if not kinds:
        raise UsageError(
            "a denoising autoencoder without any corruption",
            remedy="Set masked, gaussian or salt_and_pepper above 0, or train the recipe ae.",
        )
    latent = _length("denoising-ae", latent, latent_size(facts))
    return _recipe(
        _autoencoder("denoising-ae", facts, latent, width, shallow, lazy(LinearUnits)()),
        latent,
        lazy(ReconstructionLoss)(kinds[0] if len(kinds) == 1 else lazy(InTurn)(tuple(kinds))),
        components,
        batch,
        shallow,
    )


def sparse_ae(
    facts: Facts,
    *,
    weight: float = 3.0,
    rho: float = 0.05,
    memory: int = 0,
    latent: int = 0,
    width: int = 0,
    shallow: bool = True,
    components: int = 0,
    batch: int = 128,
) -> Recipe:
    """An autoencoder with many sigmoid units, each active for few images: mean activation rho (Ng 2011).

    By default one layer, as in the source: deep networks obey the penalty by units that all stay near rho,
    on every image, and tell images apart by tiny differences.

    weight       beta, the weight of sum_j KL(rho || mean activation of unit j)
    rho          the mean activation that is wanted
    memory       images over which the mean activation is remembered, as a running mean that forgets; 0: it is
                 that of the images at hand
    latent       units of the code; 0: eight times those of a plain autoencoder, at most 256
    width        channels of the first level of a deep one (a shallow one refuses it); 0: 32 (points: 128)
    shallow      one layer on either side, whose weights are the units' filters; false: convolutional networks
    components   largest number of components of the prior on codes; 0: 16, above 64 units 1
    batch        images in a training step; without memory the mean activation is that of a micro-batch, so a
                 batch split to fit into memory is trained on a slightly different, noisier penalty
    """
    latent = _length("sparse-ae", latent, _many(facts))
    check_legal(
        "sparse-ae", "memory", memory, memory >= 0, "0, or so many images as a running mean goes back"
    )
    mean = lazy(RunningMean)(latent, memory) if memory else lazy(BatchMean)()
    penalty = lazy(KlSparsity)(weight, rho, mean)
    return _recipe(
        _autoencoder("sparse-ae", facts, latent, width, shallow, lazy(SigmoidUnits)()),
        latent,
        lazy(ReconstructionLoss)(penalties=(penalty,)),
        components,
        batch,
        shallow,
    )


def k_sparse_ae(
    facts: Facts,
    *,
    k: int = 0,
    latent: int = 0,
    width: int = 0,
    shallow: bool = False,
    components: int = 0,
    batch: int = 128,
) -> Recipe:
    """An autoencoder of whose many units only the k largest speak for an image (Makhzani & Frey 2014).

    k            units that are not zero; 0: an eighth of the code. Training begins with half of the code
                 and comes down to k in its first half, or most units would never learn
    latent       units of the code; 0: eight times those of a plain autoencoder, at most 256
    width        channels of the first level; 0: 32 (points: 128)
    shallow      one linear layer on either side, whose weights are the units' filters; width is refused
    components   largest number of components of the prior on codes; 0: 16, above 64 units 1
    batch        images in a training step
    """
    latent = _length("k-sparse-ae", latent, _many(facts))
    k = k or max(1, latent // MANY)
    if not 1 <= k <= latent:
        longer = f", or a longer code: --set latent={2 * k}" if k > latent else ""
        raise UsageError(
            f"k = {k} of {latent} code units",
            where="recipe k-sparse-ae",
            remedy=f"Choose k from 1 to {latent}{longer}.",
        )
    return _recipe(
        _autoencoder("k-sparse-ae", facts, latent, width, shallow, lazy(TopUnits)(k, max(k, latent // 2))),
        latent,
        lazy(ReconstructionLoss)(),
        components,
        batch,
        shallow,
    )


def contractive_ae(
    facts: Facts,
    *,
    weight: float = 0.1,
    latent: int = 0,
    width: int = 0,
    shallow: bool = True,
    components: int = 0,
    batch: int = 128,
) -> Recipe:
    """An autoencoder whose code hardly moves when the image does: + weight |dh/dx|^2 (Rifai et al. 2011).

    By default it is the paper's: one layer of sigmoid units with tied weights, which cannot evade the
    penalty by a small code and large filters, and whose Jacobian has a closed form. A deep one
    (shallow=false) pays for its exact Jacobian with a backward pass for every unit of the code.

    weight       lambda, the weight of the squared norm of the Jacobian
    latent       units of the code; 0: eight times those of a plain autoencoder, at most 256 (deep: as those)
    width        channels of the first level of a deep one (a shallow one refuses it); 0: 32 (points: 128)
    shallow      one layer with tied weights; false: convolutional networks
    components   largest number of components of the prior on codes; 0: 16, above 64 units 1
    batch        images in a training step
    """
    _check_width("contractive-ae", width, shallow)
    latent = _length("contractive-ae", latent, _many(facts) if shallow else latent_size(facts))
    units, likelihood = lazy(SigmoidUnits)(), lazy(FixedGaussianLikelihood)()
    model = (
        lazy(tied)(facts.channels, facts.space, latent, units, likelihood)
        if shallow
        else _autoencoder("contractive-ae", facts, latent, width, False, units)
    )
    norm = lazy(OneLayerJacobian)() if shallow else lazy(ExactJacobian)()
    penalty = lazy(Contraction)(weight, norm)
    return _recipe(model, latent, lazy(ReconstructionLoss)(penalties=(penalty,)), components, batch, shallow)


def _length(recipe: str, latent: int, usual: int) -> int:
    """The length of the code that is asked for, or the usual one for 0; UsageError for what is none."""
    check_legal(recipe, "latent", latent, latent >= 0, f"1 or more, or 0: {usual} for these data")
    return latent or usual


def _many(facts: Facts) -> int:
    """Units of a sparse code."""
    return min(MOST_UNITS, MANY * latent_size(facts), MANY * math.prod(facts.shape))


def _check_width(recipe: str, width: int, shallow: bool) -> None:
    """UsageError for a width of networks that are not there."""
    why = "a shallow autoencoder has no channels; shallow=false has"
    check_unused(recipe, why, width=width if shallow and width else None)


def _autoencoder(
    recipe: str, facts: Facts, latent: int, width: int, shallow: bool, units: Units
) -> Autoencoder:
    """The postponed autoencoder under the squared error."""
    _check_width(recipe, width, shallow)
    if shallow:
        shape = (facts.channels, facts.space)
        encoder, decoder = lazy(LinearEncoder)(*shape, latent), lazy(LinearDecoder)(latent, *shape)
    else:
        encoder, decoder = encoder_and_decoder(facts, latent=latent, width=width, numbers=1)  # type: ignore[assignment]
    return lazy(Autoencoder)(encoder, decoder, units, lazy(FixedGaussianLikelihood)(), latent)


def _recipe(
    model: Autoencoder,
    latent: int,
    objective: ReconstructionLoss,
    components: int,
    batch: int,
    shallow: bool,
) -> Recipe:
    """The generator, its one gradient stage and the prior."""
    components = components or (16 if latent <= MIXED_TO else 1)
    return lazy(Recipe)(
        model=lazy(Generator)(codec=model, density=lazy(MixturePrior)(latent, components)),
        stages=(
            lazy(Stage)(
                name="autoencoder",
                objective=objective,
                on="codec",
                rate=lazy(Cosine)(peak=PEAK_SHALLOW if shallow else PEAK),
                batch=batch,
                epochs=EPOCHS,
            ),
            lazy(Fit)(name="prior", on="density", through="codec"),
        ),
    )
