"""Diffusion models of the data itself: the original, and the default that measurements chose.

    ddpm        eps prediction, linear betas, T = 1000, L_simple, ancestral sampling (Ho et al. 2020)
    diffusion   preconditioned prediction, log-normal noise levels (Karras et al. 2022), 18 UniPC steps

Both are Generator(pixels, diffusion over a U-Net, class label or nothing), trained in one stage.
"""

from __future__ import annotations

import math

from torch import nn

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..diffusion.clocks import geometric
from ..diffusion.scaling import EdmScaling, EpsScaling, Scaled
from ..diffusion.tables import BetaTable, cosine_betas, linear_betas
from ..diffusion.times import LogNormalSigma, TableTime
from ..diffusion.weighting import Edm, Simple
from ..models.codec import Pixels
from ..models.conditioner import ClassLabel, Conditioner, Unconditional
from ..models.density import Plan
from ..models.diffusion import Diffusion
from ..models.generator import Generator
from ..objectives.denoising import Denoising
from ..objectives.objective import Objective
from ..samplers.ancestral import Ancestral
from ..samplers.grids import LogSnr, Trailing
from ..samplers.unipc import UniPC
from ..training.rates import Constant, Cosine, Rate
from ..training.stage import Recipe, Stage
from .sizes import SMALL, backbone, dropout_of, spread

HIGHEST = 80.0  # sigma at which nothing of the data is left, for data in [-1, 1]
LOWEST = 0.002


def ddpm(
    facts: Facts,
    *,
    conditional: bool = False,
    cosine: bool = False,
    width: int = 0,
    steps: int = 1000,
    batch: int = 128,
) -> Recipe:
    """The model of Ho et al. 2020: eps prediction on a linear table of betas, sampled in T ancestral steps.

    For comparison with the literature. A sample takes T network calls, 1,000 unless told otherwise; one of
    `diffusion` takes 18.

    conditional  give the class to the network, with dropout 0.1 for guidance (Ho & Salimans 2022)
    cosine       the cosine table of Nichol & Dhariwal (2021) in place of the linear one
    width        channels of the first level; 0: chosen by image size
    steps        T, the length of the table and of sampling
    batch        images in a training step
    """
    classes = class_count(facts, conditional)
    return of_table(
        facts,
        backbone(facts, width=width, classes=classes),
        table(steps, cosine),
        lazy(Denoising)(lazy(Simple)(), lazy(TableTime)()),
        classes,
        lazy(Plan)(steps=steps, solver=lazy(Ancestral)(), grid=lazy(Trailing)()),
        batch,
    )


def table(steps: int, cosine: bool) -> BetaTable:
    """The postponed table of betas: linear, or cosine."""
    if steps < 1:
        raise UsageError(f"a table of {steps} steps", remedy="For example: --set steps=1000")
    return lazy(BetaTable)(lazy(cosine_betas if cosine else linear_betas)(steps))


def of_table(
    facts: Facts,
    net: nn.Module,
    schedule: BetaTable,
    objective: Objective,
    classes: int,
    plan: Plan,
    batch: int,
) -> Recipe:
    """eps prediction on a table of betas, trained in one stage as Ho et al. did."""
    return lazy(Recipe)(
        model=lazy(Generator)(
            codec=lazy(Pixels)(),
            density=lazy(Diffusion)(
                denoiser=lazy(Scaled)(net, lazy(EpsScaling)()), schedule=schedule, shape=facts.shape
            ),
            conditioner=labels(classes),
            plan=plan,
        ),
        stages=(
            lazy(Stage)(
                name="diffusion",
                objective=objective,
                train="density",
                rate=lazy(Constant)(peak=2e-4, warmup=5_000),
                batch=batch,
            ),
        ),
    )


def diffusion(
    facts: Facts, *, conditional: bool = False, width: int = 0, dropout: float | None = None, batch: int = 64
) -> Recipe:
    """The default diffusion model: preconditioned denoiser, log-normal noise levels, 18 UniPC steps.

    Digits 8 x 8, 228,000 examples (0.54 M parameters, one seed): Frechet distance to held-out digits 0.11 in
    the features of a classifier, where as many real training digits have 0.13. Images of 28 and more a side
    are seen as 2 x 2 patches.

    conditional  give the class to the network, with dropout 0.1 for guidance
    width        channels of the first level; 0: chosen by image size (48, with patches 64)
    dropout      within the residual blocks; not said: 0.1 for fewer than 5,000 images, else 0
    batch        images in a training step
    """
    classes = class_count(facts, conditional)
    blocks = 1 if max(facts.space, default=0) <= SMALL else 2
    net = backbone(facts, width=width, dropout=dropout_of(facts, dropout), classes=classes, blocks=blocks)
    return one_stage(
        modern_density(facts, net), modern_objective(facts), classes, lazy(Cosine)(peak=2e-3), batch
    )


def one_stage(
    density: Diffusion, objective: Objective, classes: int, rate: Rate, batch: int, decay: float = 0.0
) -> Recipe:
    """Diffusion on pixels, given the class or nothing, in one stage; sampled by the modern plan."""
    return lazy(Recipe)(
        model=lazy(Generator)(
            codec=lazy(Pixels)(), density=density, conditioner=labels(classes), plan=modern_plan()
        ),
        stages=(
            lazy(Stage)(
                name="diffusion",
                objective=objective,
                train="density",
                rate=rate,
                batch=batch,
                decay=decay,
            ),
        ),
    )


def modern_density(facts: Facts, net: nn.Module) -> Diffusion:
    """EDM's preconditioning around a network, on a geometric ladder of sigma."""
    return lazy(Diffusion)(
        denoiser=lazy(Scaled)(net, lazy(EdmScaling)(spread(facts))),
        schedule=lazy(geometric)(LOWEST, HIGHEST),
        shape=facts.shape,
    )


def modern_objective(facts: Facts) -> Objective:
    """The unit-variance output's error at log-normal sigma; EDM's (-1.2, 1.2) moved with the spread."""
    center = -1.2 + math.log(spread(facts) / 0.5)
    return lazy(Denoising)(lazy(Edm)(spread(facts)), lazy(LogNormalSigma)(round(center, 3), 1.2))


def modern_plan() -> Plan:
    """18 steps of UniPC, equal in log-SNR: as good as 18 Heun steps at half their network calls.

    Digits 8 x 8, 1.15 M parameters, 60,000 examples (docs/log.md): Frechet distance 0.305, of Heun 0.308;
    ten steps of UniPC on this grid have 0.93, on Karras' grid 2.2 to 2.7.
    """
    return lazy(Plan)(steps=18, solver=lazy(UniPC)(), grid=lazy(LogSnr)(LOWEST, HIGHEST))


def class_count(facts: Facts, conditional: bool) -> int:
    """The number of classes of a conditional model, 0 of an unconditional one."""
    if conditional and not facts.classes:
        raise UsageError(
            "a class-conditional model needs labelled data",
            where=facts.source or None,
            remedy="Put each class into a folder of its own, or give a table of them with --labels.",
        )
    return len(facts.classes) if conditional else 0


def labels(classes: int) -> Conditioner:
    """The postponed conditioner: a class label, or nothing."""
    return lazy(ClassLabel)(classes) if classes else lazy(Unconditional)()
