"""What each unit of a latent carries: its KL, and whether it answers to the data at all.

    KL_j = E_x KL(q(z_j given x, ..) || p(z_j given ..))               nats, per unit; summed, per level
    a unit is active if Var_x(E[z_j given x]) > 0.01 in prior standard deviations    (Burda et al. 2016)

For a ladder the mean of a level is taken relative to its prior given one draw of the levels above, in
units of that prior's standard deviation (the standardised coordinates of models/hvae.py). The spread of
a level's KL is the standard error over images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.noise import Noise
from ..distributions.gaussian import Gaussian, StandardNormal
from ..models.trace import Latent, LatentVariableModel
from .spread import Estimate, mean_of

ACTIVE = 0.01


@dataclass(frozen=True, slots=True)
class LevelUnits:
    """One latent variable: its shape, KL in nats (all units together, and of each), and the active units."""

    shape: tuple[int, ...]
    kl: Estimate
    per_unit: tuple[float, ...]
    active: int


def standardised(latent: Latent) -> Tensor | None:
    """The posterior's mean in standard deviations of the prior, (B, ...); None for other families."""
    if not isinstance(latent.posterior, Gaussian):
        return None
    if isinstance(latent.prior, StandardNormal):
        return latent.posterior.mean
    if not isinstance(latent.prior, Gaussian):
        return None
    return (latent.posterior.mean - latent.prior.mean) * torch.exp(-latent.prior.log_std)


def units(model: LatentVariableModel, batches: Iterable[Tensor], *, seed: int = 0) -> tuple[LevelUnits, ...]:
    """Every Gaussian latent of a model over images; none where a latent is of another family.

    Image i draws from a noise of its own, a function of seed and i: the batches do not matter.
    """
    kept: list[list[Tensor]] = []
    sums: list[list[Tensor]] = []
    seen, shapes = 0, list[tuple[int, ...]]()
    with torch.inference_mode():
        for x in batches:
            noise = Noise.keyed("units", seed, at=range(seen, seen + len(x)), device=x.device)
            latents = model.trace(x, noise=noise).latents
            means = [standardised(latent) for latent in latents]
            if not latents or any(m is None for m in means):
                return ()
            if not kept:
                kept, sums = [[] for _ in latents], [[] for _ in latents]
                shapes = [tuple(latent.z.shape[1:]) for latent in latents]
            for level, (latent, mean) in enumerate(zip(latents, means, strict=True)):
                assert mean is not None
                per_unit = latent.kl_per_unit().double().flatten(1)
                kept[level].append(per_unit.sum(1).cpu())
                flat = mean.double().flatten(1)
                sums[level].append(torch.stack([per_unit.sum(0), flat.sum(0), flat.square().sum(0)]).cpu())
            seen += len(x)
    return tuple(
        _level(s, torch.cat(k), torch.stack(m).sum(0)) for s, k, m in zip(shapes, kept, sums, strict=True)
    )


def _level(shape: tuple[int, ...], kl: Tensor, sums: Tensor) -> LevelUnits:
    """From the KL of every image and the sums over images of KL, mean and squared mean of every unit."""
    per_unit, first, second = sums / len(kl)
    active = int((second - first.square() > ACTIVE).sum())
    return LevelUnits(shape, mean_of(kl), tuple(per_unit.tolist()), active)
