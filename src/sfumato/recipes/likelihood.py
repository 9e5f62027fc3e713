"""Diffusion models trained for the likelihood of images: bits per dimension, not looks.

    improved-ddpm   L_hybrid, cosine table, learned reverse variance           (Nichol & Dhariwal 2021)
    vdm             the continuous bound, log-SNR learned, fine detail         (Kingma et al. 2021)

Both bound the probability of grey levels; `evaluate` reports it as VLB. Data stored as floats have none.
"""

from __future__ import annotations

import math

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..diffusion.learned import LearnedSnr
from ..diffusion.scaling import Scaled, VScaling
from ..diffusion.transition import InterpolatedVariance
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..nets.detail import COPIES, FineDetail
from ..objectives.objective import Objective
from ..objectives.variational import Hybrid, Vlb
from ..objectives.vdm import Vdm
from ..samplers.ancestral import Ancestral
from ..samplers.grids import Trailing
from ..training.rates import Cosine
from ..training.stage import Recipe
from .diffusion import class_count, of_table, one_stage, table
from .sizes import backbone

NOISIEST = -5.0  # log-SNR at the noisy end to begin with: the prior costs 0.005 bits/dim where x is +-1
FINEST = 6.0  # standard deviations in a grey level at the clean end: reading it off costs 0.01 bits/dim
SAMPLING = 100  # steps; the learned variance needs no more (Nichol & Dhariwal 2021, sec. 4)


def improved_ddpm(
    facts: Facts,
    *,
    conditional: bool = False,
    cosine: bool = True,
    vlb: bool = False,
    width: int = 0,
    steps: int = 1000,
    batch: int = 128,
) -> Recipe:
    """DDPM with a learned reverse variance, a cosine table and the hybrid loss; for likelihood.

    conditional  give the class to the network, with dropout 0.1 for guidance
    cosine       false: the linear table of DDPM
    vlb          minimise the bound alone, with rows drawn by their losses: fewer bits, worse samples
    width        channels of the first level; 0: chosen by image size
    steps        T, the length of the table (the paper's best: 4,000)
    batch        images in a training step
    """
    levels, classes = grey_levels(facts, "improved-ddpm"), class_count(facts, conditional)
    objective: Objective = lazy(Vlb)(levels) if vlb else lazy(Hybrid)(levels)
    plan = lazy(Plan)(
        steps=min(steps, SAMPLING),
        solver=lazy(Ancestral)(lazy(InterpolatedVariance)()),
        grid=lazy(Trailing)(),
    )
    net = backbone(facts, width=width, classes=classes, answers=2)
    return of_table(facts, net, table(steps, cosine), objective, classes, plan, batch)


def vdm(
    facts: Facts,
    *,
    conditional: bool = False,
    detail: bool = True,
    learned: int = 256,
    width: int = 0,
    dropout: float = 0.0,
    batch: int = 64,
) -> Recipe:
    """A variational diffusion model: the bound on log-likelihood itself, in continuous time.

    The schedule is learned with the network: its ends for the bound, its interior for a steady gradient.

    conditional  give the class to the network, with dropout 0.1 for guidance
    detail       show the network waves of the grey values as well, which tell neighbouring levels apart
    learned      sigmoids of the schedule's interior
    width        channels of the first level; 0: chosen by image size
    dropout      within the residual blocks
    batch        images in a training step
    """
    levels, classes = grey_levels(facts, "vdm"), class_count(facts, conditional)
    net = backbone(facts, width=width, dropout=dropout, classes=classes, copies=COPIES if detail else 1)
    clean = 2.0 * math.log(FINEST * (levels - 1) / 2.0)
    density = lazy(Diffusion)(
        denoiser=lazy(Scaled)(lazy(FineDetail)(net, levels) if detail else net, lazy(VScaling)()),
        schedule=lazy(LearnedSnr)(NOISIEST, round(clean, 3), learned),
        shape=facts.shape,
    )
    return one_stage(density, lazy(Vdm)(levels), classes, lazy(Cosine)(peak=2e-3), batch)


def grey_levels(facts: Facts, recipe: str) -> int:
    """The number of grey levels; UsageError where the data are floats."""
    if facts.levels is None:
        raise UsageError(
            f"{recipe} is trained on the probability of grey levels, and these data are stored as floats",
            where=facts.source or None,
            remedy="Train diffusion: the probability-flow ODE gives its density (sfumato likelihood).",
        )
    return facts.levels
