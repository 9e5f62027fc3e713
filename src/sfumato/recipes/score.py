"""Score-based models: the gradient of log q(x_t) at every level of noise, sampled by Langevin dynamics.

    loss = sigma^2 |score(x_t) + eps / sigma|^2 = |eps_hat - eps|^2,    x_t = x_0 + sigma eps

Denoising score matching with the weight sigma^2, which makes all levels count alike (Vincent 2011; Song &
Ermon 2019, eq. 5-6), is the eps error: the same objective as every diffusion model's here, on the path
where noise is only added. The network's output is divided by sigma to make a score (Song & Ermon 2020,
technique 3), which is the `EpsScaling` of score = -eps_hat / sigma.

The ladder of levels follows from the data (Song & Ermon 2020): its top reaches across them (technique 1),
neighbouring rungs overlap by half (technique 2), and the Langevin step is the one that leaves each rung with
the right variance (technique 4); samplers/langevin.py computes the last two.
"""

from __future__ import annotations

import math

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..diffusion.clocks import geometric
from ..diffusion.scaling import EpsScaling, Scaled
from ..diffusion.times import UniformTime
from ..diffusion.weighting import Simple
from ..models.codec import Pixels
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..objectives.denoising import Denoising
from ..samplers.grids import LogSnr
from ..samplers.langevin import AnnealedLangevin, best_ratio, rungs
from ..training.rates import Cosine
from ..training.stage import Recipe, Stage
from .diffusion import class_count, labels
from .sizes import backbone, spread

LOWEST = 0.01


def ncsn(
    facts: Facts,
    *,
    conditional: bool = False,
    width: int = 0,
    levels: int = 0,
    moves: int = 5,
    batch: int = 128,
) -> Recipe:
    """Noise-conditional score network: denoising score matching, sampled by annealed Langevin dynamics.

    For comparison with the literature (Song & Ermon 2019, 2020): the dynamics takes about levels * moves
    network calls a sample. `--solver pc` takes two a step, for any number of steps.

    conditional  give the class to the network, with dropout 0.1 for guidance
    width        channels of the first level; 0: chosen by image size
    levels       rungs of the ladder; 0: so many that neighbours overlap by half
    moves        Langevin steps on each rung
    batch        images in a training step
    """
    for name, value, least in (("levels", levels, 0), ("moves", moves, 1)):
        if value < least:
            raise UsageError(f"{name} = {value}", remedy=f"Give {least} or more, or leave {name} out.")
    classes = class_count(facts, conditional)
    size = math.prod(facts.shape)
    highest = round(3.0 * math.sqrt(size) * spread(facts), 1)  # about the longest distance between examples
    levels = levels or rungs(size, LOWEST, highest)
    factor = (highest / LOWEST) ** (1.0 / max(levels - 1, 1))
    return lazy(Recipe)(
        model=lazy(Generator)(
            codec=lazy(Pixels)(),
            density=lazy(Diffusion)(
                denoiser=lazy(Scaled)(backbone(facts, width=width, classes=classes), lazy(EpsScaling)()),
                schedule=lazy(geometric)(LOWEST, highest),
                shape=facts.shape,
            ),
            conditioner=labels(classes),
            plan=lazy(Plan)(
                steps=levels,
                solver=lazy(AnnealedLangevin)(moves, best_ratio(factor, moves)),
                grid=lazy(LogSnr)(LOWEST, highest),
            ),
        ),
        stages=(
            lazy(Stage)(
                name="score",
                objective=lazy(Denoising)(lazy(Simple)(), lazy(UniformTime)()),
                train="density",
                rate=lazy(Cosine)(peak=1e-3),
                batch=batch,
            ),
        ),
    )
