"""Models of discrete codes: the VQ-VAE and its prior, with one level of codes or several.

    vq-vae      Generator(VqVae, autoregressive prior over its codes)
    vq-vae-2    Generator(VqVae of two levels or more, prior of the lowest codes given the upper ones,
                CodesAbove(prior of the upper ones, by CodesAbove of those above them ...))

One run does all of it: the codebooks start from the data by k-means, the autoencoder is trained, then a prior
for each level, the coarsest first. It is not done before it can draw images from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.errors import DataError, UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..models.autoregressive import Autoregressive, CodesAbove
from ..models.codec import Pixels
from ..models.conditioner import Conditioner
from ..models.generator import Generator
from ..models.vqvae import CodeLevel, VqVae
from ..nets.causal import CausalNet
from ..nets.kmeans import PER_CODE
from ..nets.pixelcnn import PixelCnn
from ..nets.quantize import Quantizer, ScalarQuantizer, VectorQuantizer
from ..nets.spatial import SpatialDecoder, SpatialEncoder, grid_of
from ..nets.transformer import CausalTransformer
from ..objectives.likelihood import CodeLikelihood
from ..objectives.quantized import Quantized
from ..training.rates import Cosine
from ..training.stage import Fit, Recipe, Stage
from .dials import check_legal, check_unused
from .diffusion import class_count, labels
from .sizes import SMALL, spread

CODEC_SHARE = 0.4  # of the budget for the autoencoder
MOST_CODES = 512
VECTORS_PER_CODE = 200  # of the data, from which a code is worth having
POSITIONS = 64  # most codes of an image on the coarsest level; four times as many on each below
VALUES = 2**26  # pixels held at once to start the codebooks from
MOST_VALUES = 2**28  # the same where a large codebook needs more to start at all: a gigabyte
LEAST_IMAGES = 64  # held in any case
LEVELS = {64: (4, 4, 4), 125: (5, 5, 5), 256: (8, 8, 4), 512: (8, 8, 8), 1000: (8, 5, 5, 5)}
DIM, BETA, GAMMA, PATIENCE = 32, 0.25, 0.99, 100  # of a codebook of which nothing else is said


def vq_vae(
    facts: Facts,
    *,
    codes: int = 0,
    dim: int | None = None,
    width: int = 0,
    beta: float | None = None,
    gamma: float | None = None,
    patience: int | None = None,
    scalar: bool = False,
    pixelcnn: bool = False,
    prior_width: int = 128,
    prior_depth: int = 4,
    dropout: float = 0.1,
    conditional: bool = False,
    batch: int = 64,
) -> Recipe:
    """VQ-VAE (van den Oord et al. 2017): images as a small grid of integers, and a prior that draws grids.

    The codebook starts by k-means, follows averages, and restarts dead codes; the prior is a causal
    transformer. Reconstruction is sharper than a VAE's at equal size; samples are as coherent as the prior.

    codes        size of the codebook; 0: by the amount of data, up to 512
    dim          dimensions of a code's vector; not said: 32
    width        channels of the autoencoder; 0: 64 (small images: 128)
    beta         weight of the commitment; not said: 0.25
    gamma        decay of the averages the codebook follows; 0: train it by its gradient; not said: 0.99
    patience     a code idle for patience * codes vectors is restarted; 0: never; not said: 100
    scalar       finite scalar quantisation in place of a codebook (Mentzer et al. 2023): codes is 64, 125,
                 256, 512 or 1000 (0: the nearest), and dim, beta, gamma and patience are refused
    pixelcnn     a gated PixelCNN with attention as prior in place of the transformer
    prior_width  channels of the prior
    prior_depth  layers of the prior (a PixelCNN has twice as many)
    dropout      within the prior; more where few images are trained on for long
    conditional  give the class to the prior
    batch        images in a training step
    """
    return _recipe("vq-vae", **locals(), levels=1)


def vq_vae_2(
    facts: Facts,
    *,
    levels: int = 2,
    codes: int = 0,
    dim: int | None = None,
    width: int = 0,
    beta: float | None = None,
    gamma: float | None = None,
    patience: int | None = None,
    scalar: bool = False,
    pixelcnn: bool = False,
    prior_width: int = 128,
    prior_depth: int = 4,
    dropout: float = 0.1,
    conditional: bool = False,
    batch: int = 64,
) -> Recipe:
    """VQ-VAE-2 (Razavi et al. 2019): codes on several levels, the upper for the whole, the lower for detail.

    A lower level sees what those above say and describes the rest; its prior continues what the priors of
    the levels above drew.

    levels       grids of codes, each coarser than the one below; 2 or more
    codes        size of each codebook; 0: by the amount of data, up to 512
    dim          dimensions of a code's vector; not said: 32
    width        channels of the autoencoder; 0: 64 (small images: 128)
    beta         weight of the commitment; not said: 0.25
    gamma        decay of the averages the codebooks follow; 0: train them by their gradient; not said: 0.99
    patience     a code idle for patience * codes vectors is restarted; 0: never; not said: 100
    scalar       finite scalar quantisation in place of codebooks (Mentzer et al. 2023): codes is 64, 125,
                 256, 512 or 1000 (0: the nearest), and dim, beta, gamma and patience are refused
    pixelcnn     gated PixelCNNs with attention as priors in place of transformers
    prior_width  channels of each prior
    prior_depth  layers of each prior (a PixelCNN has twice as many)
    dropout      within the priors; more where few images are trained on for long
    conditional  give the class to all priors
    batch        images in a training step
    """
    if levels < 2:
        raise UsageError(
            f"{levels} levels of codes", where="recipe vq-vae-2", remedy="Give 2 or more, or use vq-vae."
        )
    return _recipe("vq-vae-2", **locals())


def _recipe(
    name: str,
    facts: Facts,
    *,
    levels: int,
    codes: int,
    dim: int | None,
    width: int,
    beta: float | None,
    gamma: float | None,
    patience: int | None,
    scalar: bool,
    pixelcnn: bool,
    prior_width: int,
    prior_depth: int,
    dropout: float,
    conditional: bool,
    batch: int,
) -> Recipe:
    if not facts.space:
        raise UsageError(
            "codes lie on a grid, and these data are points",
            where=facts.source or None,
            remedy="Use vae or diffusion for points.",
        )
    classes, grids = class_count(facts, conditional), _grids(facts, _halvings(facts, levels))
    if len(set(grids)) < levels:
        raise UsageError(
            f"{levels} levels of codes for images of {' x '.join(map(str, facts.space))}",
            where=f"recipe {name}",
            remedy=f"Give levels={len(set(grids))} or fewer.",
        )
    if scalar:
        why = "scalar quantisation has no codebook"
        check_unused(name, why, dim=dim, beta=beta, gamma=gamma, patience=patience)
        codes = _scalar_codes(name, facts, codes, grids)
    _check_dials(name, codes, dim, beta, gamma, patience)
    codes = codes or _codes(facts, grids)
    _check(facts, codes, grids, scalar)
    learned = (
        DIM if dim is None else dim,
        GAMMA if gamma is None else gamma,
        PATIENCE if patience is None else patience,
    )
    quantizers = [
        lazy(ScalarQuantizer)(LEVELS[codes]) if scalar else lazy(VectorQuantizer)(codes, *learned)
        for _ in grids
    ]
    codec = _codec(facts, quantizers, width or (128 if max(facts.space) <= SMALL else 64))
    make = lazy(PixelCnn) if pixelcnn else lazy(CausalTransformer)
    depth = 2 * prior_depth if pixelcnn else prior_depth
    nets = [
        make(
            *(codes, grid, tuple((codes, higher) for higher in grids[:k])),
            classes=classes,
            width=prior_width,
            depth=depth,
            dropout=dropout,
        )
        for k, grid in enumerate(grids)
    ]
    objective = lazy(Quantized)(
        BETA if beta is None else beta, round(spread(facts) ** 2, 6), max(1, facts.count)
    )
    start = () if scalar else (_start(facts, codes, grids),)
    return lazy(Recipe)(
        model=_generators(codec, nets, labels(classes)),
        stages=(
            *start,
            lazy(Stage)(
                name="codes",
                objective=objective,
                on="codec",
                rate=lazy(Cosine)(peak=1e-3),
                batch=batch,
                share=CODEC_SHARE,
            ),
            *(_prior_stage(levels, k, grids, batch) for k in range(levels)),
        ),
    )


def _generators(codec: VqVae, nets: Sequence[CausalNet], label: Conditioner) -> Generator:
    """One generator a level, each holding that of the level above; the finest owns the codec."""
    conditioner = label
    for net in nets[:-1]:
        above = lazy(Generator)(
            codec=lazy(Pixels)(), density=lazy(Autoregressive)(net), conditioner=conditioner
        )
        conditioner = lazy(CodesAbove)(above)
    return lazy(Generator)(codec=codec, density=lazy(Autoregressive)(nets[-1]), conditioner=conditioner)


def _prior_stage(levels: int, number: int, grids: list[tuple[int, ...]], batch: int) -> Stage:
    """The stage of one level's prior, 0 the coarsest; a level gets budget by the logarithm of its codes."""
    above = levels - 1 - number
    weights = [math.log(1 + math.prod(grid)) for grid in grids]
    return lazy(Stage)(
        name="prior" if levels == 1 else f"prior-{number + 1}",
        objective=lazy(CodeLikelihood)(above),
        train=".".join(["conditioner.first"] * above + ["density"]),
        rate=lazy(Cosine)(peak=1e-3),
        batch=batch,
        share=round((1.0 - CODEC_SHARE) * weights[number] / sum(weights), 3),
        decay=0.01,
    )


def _start(facts: Facts, codes: int, grids: list[tuple[int, ...]]) -> Fit:
    """k-means over the vectors of as many images as it gains from, as far as memory allows.

    At least of as many as have a vector for every code, for which `_check` has seen to it that there is room.
    """
    vectors = math.prod(grids[0])
    wanted, needed = math.ceil(PER_CODE * codes / vectors), math.ceil(codes / vectors)
    held = max(LEAST_IMAGES, VALUES // math.prod(facts.shape), needed)
    examples = min(max(LEAST_IMAGES, wanted), held)
    return lazy(Fit)(name="codebook", on="codec", through="codec.images", examples=examples)


def _codec(facts: Facts, quantizers: Sequence[Quantizer], width: int) -> VqVae:
    """The postponed autoencoder; quantisers from the coarsest level to the finest."""
    dims, levels = len(facts.space), len(quantizers)
    halvings = _halvings(facts, levels)
    parts = [
        lazy(CodeLevel)(
            lazy(SpatialEncoder)(
                facts.channels if k == 0 else width, dims, width=width, halvings=halvings[k]
            ),
            quantizers[levels - 1 - k],
            dims,
            above=k < levels - 1,
        )
        for k in range(levels)
    ]
    decoder = lazy(SpatialDecoder)(facts.channels, facts.space, width=width, halvings=halvings[0])
    return lazy(VqVae)(tuple(parts), decoder, facts.space)


def _halvings(facts: Facts, levels: int) -> list[int]:
    """Halvings of each level from the finest to the coarsest: few enough codes on each, at least one."""
    found, space = [], facts.space
    for level in reversed(range(levels)):
        count = 1
        while math.prod(grid_of(space, count)) > POSITIONS * 4**level:
            count += 1
        found.append(count)
        space = grid_of(space, count)
    return found


def _grids(facts: Facts, halvings: list[int]) -> list[tuple[int, ...]]:
    """The grid of each level, coarsest first."""
    grids, space = [], facts.space
    for count in halvings:
        space = grid_of(space, count)
        grids.append(space)
    return grids[::-1]


def _codes(facts: Facts, grids: list[tuple[int, ...]]) -> int:
    """A power of two, 16 to 512: a code for every 200 vectors of the coarsest level."""
    vectors = (facts.count or 10_000) * math.prod(grids[0])
    return min(MOST_CODES, max(16, 2 ** int(math.log2(max(1, vectors // VECTORS_PER_CODE)))))


def _scalar_codes(name: str, facts: Facts, codes: int, grids: list[tuple[int, ...]]) -> int:
    """The number of scalar codes, for 0 the nearest to what the data ask for; UsageError for what is none."""
    if not codes:
        return min(LEVELS, key=lambda size: abs(math.log(size / _codes(facts, grids))))
    if codes not in LEVELS:
        raise UsageError(
            f"scalar quantisation into {codes} codes",
            where=f"recipe {name}",
            remedy=f"Choose codes from {', '.join(map(str, LEVELS))}, or 0 for the nearest to the usual.",
        )
    return codes


def _check_dials(
    name: str,
    codes: int,
    dim: int | None,
    beta: float | None,
    gamma: float | None,
    patience: int | None,
) -> None:
    """UsageError, with the bound, for what no codebook can have."""
    check_legal(name, "codes", codes, codes == 0 or codes >= 2, "2 or more, or 0: by the amount of data")
    check_legal(name, "dim", dim, dim is None or dim >= 1, f"1 or more; {DIM} is usual")
    check_legal(name, "beta", beta, beta is None or 0.0 <= beta < math.inf, f"0 or more; {BETA} is usual")
    check_legal(
        *(name, "gamma", gamma, gamma is None or 0.0 <= gamma < 1.0),
        f"from 0 to below 1; {GAMMA} is usual, and 0 trains the codebook by its gradient",
    )
    check_legal(
        *(name, "patience", patience, patience is None or patience >= 0),
        f"0 or more; {PATIENCE} is usual, and 0 restarts no code",
    )


def _check(facts: Facts, codes: int, grids: list[tuple[int, ...]], scalar: bool) -> None:
    """DataError for a codebook larger than the number of vectors it will see, or can start from in memory."""
    each = math.prod(grids[0])
    vectors, held = facts.count * each, max(LEAST_IMAGES, MOST_VALUES // math.prod(facts.shape))
    if facts.count and codes > vectors:
        raise DataError(
            f"a codebook of {codes:,} codes for {facts.count:,} images of {each:,} vectors each, "
            f"{vectors:,} in all",
            where=facts.source or None,
            remedy=f"Use fewer codes: --set codes={min(max(2, vectors // 10), held * each)}; or more data.",
        )
    if not scalar and codes > held * each:
        raise DataError(
            f"a codebook of {codes:,} codes cannot start from the {held * each:,} vectors of the {held:,} "
            f"images of {' x '.join(map(str, facts.space))} that are held in memory at once",
            where=facts.source or None,
            remedy=f"Use at most so many codes: --set codes={held * each}; or smaller images: --size.",
        )
