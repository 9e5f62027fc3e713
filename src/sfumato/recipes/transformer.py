"""Diffusion on pixels by transformers over patches.

    dit    `diffusion` with a transformer for its U-Net: all else is equal          (Peebles & Xie 2023)
    jit    the network answers with the clean image itself, on large raw patches    (Li & He 2025)

jit in this library's terms, on the straight path x_t = (1 - s) x_0 + s eps:

    mean = F(x_t)                                   x-prediction: X0Scaling
    loss = |v - v_F|^2 = |x_0 - F|^2 / s^2          the error of v = eps - x_0: the weight Flow
    logit s ~ N(mean, 0.8^2)                        LogitNormalTime

A patch of noise fills all of its p x p x C dimensions, a patch of an image few of them. Hence a network
whose width is no more than that cannot carry noise or velocity to its output, but can carry the image.
"""

from __future__ import annotations

from torch import nn

from ..core.errors import UsageError
from ..core.lazy import lazy
from ..data.facts import Facts
from ..diffusion.clocks import FlowTime
from ..diffusion.scaling import Scaled, X0Scaling
from ..diffusion.times import LogitNormalTime
from ..diffusion.weighting import Flow
from ..models.diffusion import Diffusion
from ..objectives.denoising import Denoising
from ..training.rates import Cosine
from ..training.stage import Recipe
from .diffusion import class_count, modern_density, modern_objective, one_stage
from .sizes import transformer

MEAN = 0.0  # of logit s; the paper's 0.8 is for images of 256 x 256, small ones need less noise


def dit(
    facts: Facts,
    *,
    conditional: bool = False,
    width: int = 0,
    patch: int = 0,
    dropout: float = 0.0,
    batch: int = 64,
) -> Recipe:
    """`diffusion` with a transformer over patches (DiT) in place of the U-Net.

    Width 384, 768 and 1024 are the paper's S, B and L. On a CPU a FLOP of it takes five times as long as one
    of the U-Net (docs/log.md): `diffusion` is the better choice there.

    conditional  give the class to the network, with dropout 0.1 for guidance
    width        features of a token; 0: 192, for two CPU cores
    patch        positions a side of a token; 0: the smallest power of two that leaves 64 tokens (wide: 256)
    dropout      within the blocks' perceptrons
    batch        images in a training step
    """
    classes, net = _class_count_and_net(facts, conditional, width, patch, dropout)
    return one_stage(
        modern_density(facts, net), modern_objective(facts), classes, lazy(Cosine)(peak=1e-3), batch
    )


def jit(
    facts: Facts,
    *,
    conditional: bool = False,
    width: int = 0,
    patch: int = 0,
    dropout: float = 0.0,
    batch: int = 64,
) -> Recipe:
    """A plain transformer that answers with the clean image, trained on the error of the velocity (JiT).

    Takes large raw patches: with 16 x 16 x 3 numbers a patch it works where predicting velocity or noise
    breaks down (Li & He 2025, table 2).

    conditional  give the class to the network, with dropout 0.1 for guidance
    width        features of a token; 0: 192, for two CPU cores
    patch        positions a side of a token; 0: the smallest power of two that leaves 64 tokens (wide: 256)
    dropout      within the blocks' perceptrons
    batch        images in a training step
    """
    classes, net = _class_count_and_net(facts, conditional, width, patch, dropout)
    denoiser = lazy(Scaled)(net, lazy(X0Scaling)())
    density = lazy(Diffusion)(denoiser=denoiser, schedule=lazy(FlowTime)(), shape=facts.shape)
    objective = lazy(Denoising)(lazy(Flow)(), lazy(LogitNormalTime)(MEAN, 0.8))
    return one_stage(density, objective, classes, lazy(Cosine)(peak=1e-3), batch)


def _class_count_and_net(
    facts: Facts, conditional: bool, width: int, patch: int, dropout: float
) -> tuple[int, nn.Module]:
    if not facts.space:
        raise UsageError(
            "a transformer reads signals, images and volumes, and these data are points",
            where=facts.source or None,
            remedy="Use the recipe diffusion, which takes a perceptron for points.",
        )
    classes = class_count(facts, conditional)
    return classes, transformer(facts, width=width, patch=patch, dropout=dropout, classes=classes)
