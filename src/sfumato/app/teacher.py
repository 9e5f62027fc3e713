"""Whether a run can teach: a diffusion model that was trained, and whose training did not diverge.

A network that knows nothing answers 0, and the row it is read through (diffusion/scaling.py) makes of that
c_skip x_t. On EDM's row, and v's for data of deviation 1, that is the best answer that only looks at the
pixel itself (for a mean of 0); on the others something worse: 0 of x0, x_t / alpha of eps and score. A
teacher must do better than its own row without it, on training images:

    error = mean over noise levels of |x_0 - mean(x_t)|^2 / |x_0 - c_skip x_t|^2,    sigma/alpha = d/8 ... 2d

That one number finds a training that diverged, one that never began, and averaged weights that still hold
the initial ones: then the raw weights beside them do better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..core.condition import Condition
from ..core.errors import DivergedError, UsageError
from ..core.noise import Noise, seed_of
from ..data.dataset import Dataset
from ..diffusion.denoiser import Posterior
from ..diffusion.level import Level, combine
from ..diffusion.scaling import Scaled
from ..models.generator import Generator, evaluating
from ..objectives.denoising import diffusion_of
from ..training.keeper import MODEL
from .run import Run
from .weights import fill

LEVELS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of sigma/alpha, times the data's deviation
LOOKED_AT = 128  # images
BETTER = 0.97  # of the error of its row without the network


def check_teacher(run: Run, data: Dataset, deviation: float) -> None:
    """UsageError or DivergedError, in words, where a run has nothing to teach."""
    if "teacher" in run.about:
        raise UsageError(
            f"{run.path} is itself a few-step student, and answers no longer with what a teacher needs",
            where=run.path,
            remedy=f"Distil its teacher again: sfumato distill {run.about['teacher']['run']}",
        )
    error = relative_error(run.generator, data, deviation)
    if not math.isfinite(error):
        raise DivergedError(
            f"the answers of {run.path} are not finite numbers: its training diverged",
            where=run.path,
            remedy="Train it again with a lower rate, then distil.",
        )
    if error < BETTER:
        return
    stage = run.weights.under_way
    if stage and (raw := _raw_error(run, data, deviation)) < BETTER:
        raise UsageError(
            f"the averaged weights of {run.path} still hold the initial ones (error {error:.3g}; "
            f"the weights under training have {raw:.3g})",
            where=f"stage '{stage}' after {run.weights.seen:,} examples",
            remedy="Train it on by the command that made it; the average follows within the first tenth.",
        )
    raise UsageError(
        f"{run.path} has learned nothing that it could teach: its error in denoising training images is "
        f"{error:.3g} of that of an untrained network",
        where=run.path,
        remedy="Train it (longer) first; if its training diverged, with a lower rate.",
    )


def relative_error(generator: nn.Module, data: Dataset, deviation: float) -> float:
    """The model's mean squared error of denoised training images over the untrained network's, by level."""
    assert isinstance(generator, Generator)
    _, density = diffusion_of(generator)
    denoiser = density.denoiser
    assert isinstance(denoiser, Scaled)
    count = min(LOOKED_AT, len(data))
    with torch.inference_mode(), evaluating(generator):
        noise = Noise([seed_of("teacher", 0)], rows=count, device=density.device)
        x, cond = generator.observe(data.batch(range(count), density.device), noise=noise)
        levels = [density.schedule.path.level(-2.0 * math.log(v * deviation)) for v in LEVELS]
        pairs = [_pair(denoiser, level, x, cond, noise) for level in levels]
    return sum(error / blind for error, blind in pairs) / len(LEVELS)


def _pair(denoiser: Scaled, level: Level, x: Tensor, cond: Condition, noise: Noise) -> tuple[float, float]:
    """Errors of the network and of the row without it, at one level."""
    x_t = level.mix(x, noise.normal(x.shape, x.dtype))
    c = denoiser.scaling(level)
    answer: Posterior = denoiser(x_t, level, cond)
    error = float((answer.mean - x).square().mean())
    return error, float((combine((c.skip, x_t)) - x).square().mean())


def _raw_error(run: Run, data: Dataset, deviation: float) -> float:
    """The error with the weights under training in place of the averaged ones; the run keeps the latter."""
    found = run.folder.newest()
    if found is None:
        return math.inf
    kept = {name: value.clone() for name, value in run.model.state_dict().items()}
    fill(run.model, found.file(MODEL), None)
    try:
        return relative_error(run.generator, data, deviation)
    finally:
        run.model.load_state_dict(kept)
