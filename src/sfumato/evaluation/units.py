"""What each unit of a latent carries: its KL, and whether it answers to the data at all.

    KL_j = E_x KL(q(z_j given x, ..) || p(z_j given ..))               nats, per unit; summed, per level
    a unit is active if A_j = Var_x(E[z_j given x]) > 0.01 in prior variances             (Burda et al. 2016)

For a ladder the mean m_j of a level is taken relative to its prior given a draw of the levels above, in units
of that prior's standard deviation (the standardised coordinates of models/hvae.py). It varies with that draw
too, even where a unit is deaf to the data; but two draws z, z' of the same image share nothing else than x:

    A_j = Cov_x(m_j(x, z), m_j(x, z')),        Var(m_j) - A_j = D_j is the part of the draws

Its standard error over N images is D_j / N^1/2 where A_j = 0, and A_j must be twice that. The spread of a
level's KL is the standard error over images.

A latent that is drawn n times for an example, each time of another part of it (TD-VAE: of pairs of frames),
has the units of one of its draws, and the KL of one draw, the mean over the n. Two draws of a clip are of
different times, so that no covariance over clips says that a unit answers: none is called active.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
    """One latent variable: its shape, KL in nats (all units together, and of each), how many units are
    active, and how far each answers to the data, A_j in prior variances.

    name: what it is for in a model that draws it several times for an example, where `answers` is empty.
    """

    shape: tuple[int, ...]
    kl: Estimate
    per_unit: tuple[float, ...]
    active: int
    answers: tuple[float, ...]
    name: str = ""


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
    if model.conditional is not None:
        return _drawn_several_times(model, batches, model.conditional.latents, seed)
    kept: list[list[Tensor]] = []
    sums: list[list[Tensor]] = []
    seen, shapes = 0, list[tuple[int, ...]]()
    with torch.inference_mode():
        for x in batches:
            at = range(seen, seen + len(x))
            latents = model.trace(x, noise=Noise.keyed("units", seed, at=at, device=x.device)).latents
            means = _means(latents)
            if not means:
                return ()
            again = means
            if len(latents) > 1:  # a single level has no draws above it
                noise = Noise.keyed("units", "again", seed, at=at, device=x.device)
                again = _means(model.trace(x, noise=noise).latents)
            if not kept:
                kept, sums = [[] for _ in latents], [[] for _ in latents]
                shapes = [tuple(latent.z.shape[1:]) for latent in latents]
            for level, (latent, one, two) in enumerate(zip(latents, means, again, strict=True)):
                per_unit = latent.kl_per_unit().double().flatten(1)
                kept[level].append(per_unit.sum(1).cpu())
                parts = (per_unit, one, two, one.square(), two.square(), one * two)
                sums[level].append(torch.stack([part.sum(0) for part in parts]).cpu())
            seen += len(x)
    return tuple(
        _level(s, torch.cat(k), torch.stack(m).sum(0)) for s, k, m in zip(shapes, kept, sums, strict=True)
    )


def _drawn_several_times(
    model: LatentVariableModel, batches: Iterable[Tensor], names: Sequence[str], seed: int
) -> tuple[LevelUnits, ...]:
    """The KL of one draw of every latent z (B, n, ...), by name; no activity (see the module)."""
    kept: list[list[Tensor]] = [[] for _ in names]
    seen = 0
    with torch.inference_mode():
        for x in batches:
            noise = Noise.keyed("units", seed, at=range(seen, seen + len(x)), device=x.device)
            for rows, latent in zip(kept, model.trace(x, noise=noise).latents, strict=True):
                rows.append(latent.kl_per_unit().double().mean(1).cpu())
            seen += len(x)
    found = []
    for name, rows in zip(names, kept, strict=True):
        kl = torch.cat(rows)
        shape, flat = tuple(kl.shape[1:]), kl.flatten(1)
        found.append(LevelUnits(shape, mean_of(flat.sum(1)), tuple(flat.mean(0).tolist()), 0, (), name))
    return tuple(found)


def _means(latents: Sequence[Latent]) -> list[Tensor]:
    """The standardised means of every level, (B, units) float64; none where a level is no Gaussian."""
    found = [standardised(latent) for latent in latents]
    return [] if any(m is None for m in found) else [m.double().flatten(1) for m in found if m is not None]


def _level(shape: tuple[int, ...], kl: Tensor, sums: Tensor) -> LevelUnits:
    """From the KL of every image and the sums over images of KL, means, their squares and product."""
    per_unit, one, two, one_square, two_square, product = sums / len(kl)
    answers = product - one * two
    variance = 0.5 * (one_square - one.square() + two_square - two.square())
    by_chance = 2.0 * (variance - answers).clamp_min(0.0) / math.sqrt(len(kl))
    active = int((answers > by_chance.clamp_min(ACTIVE)).sum())
    return LevelUnits(shape, mean_of(kl), tuple(per_unit.tolist()), active, tuple(answers.tolist()))
