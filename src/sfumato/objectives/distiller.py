"""What every distiller has: a student that is trained, and a teacher that stays as it was.

The teacher is the model itself as it stands when the stage opens: a student starts from its teacher, so
its first weights *are* the teacher's, and round after round of one recipe each student becomes the next
teacher with nothing handed over. It is copied, frozen, stored with the state of the objective (a stage that
resumes needs no other folder) and never part of the trained model.

    teacher = clip( guide( read(copy of the network) ) )

read: through the row of diffusion/scaling.py that the network was trained with, where the student's is
another; guide: classifier-free guidance, whose strength the student then has built in; clip: to the range of
the data. What is wrapped is a denoiser (diffusion/denoiser.py), so that the library's solvers run on it,
with a level of its own for each sample.

Dropout rests, whatever the network was trained with: a student is compared with itself or its teacher over
a small step, and two masks differ by far more than the answer does. (Song and Dhariwal 2023, section 3.2,
give both answers one mask; on digits that and none at all were equally good.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ..core.condition import Condition
from ..core.noise import Noise
from ..core.shapes import event_mean
from ..data.dataset import Batch
from ..diffusion.denoiser import Clipped, Denoiser
from ..diffusion.level import Level
from ..diffusion.scaling import Scaled, Scaling
from ..diffusion.schedule import Schedule, Until, check_clock
from ..diffusion.times import Times
from ..guidance.classifier_free import ClassifierFree
from ..guidance.strength import Strength
from ..models.diffusion import Diffusion
from ..models.generator import evaluating
from .denoising import diffusion_of, droppable
from .objective import Judge, Loss, Objective

JUDGED = 4  # quantiles of the training levels at which held-out data are judged


@final
class Teaching:
    """How the teacher is read; plain values of a recipe.

    scaling   the row its network was trained with; None: the student's
    scale, interval    guidance that the student is to have built in (models/density.Plan)
    clip      clamp its answers to [-1, 1]
    """

    def __init__(
        self,
        scaling: Scaling | None = None,
        scale: float = 1.0,
        interval: tuple[float, float] | None = None,
        clip: bool = True,
    ) -> None:
        Strength(scale, interval)  # a ValueError for a strength that is none, before anything is trained
        self.scaling, self.scale, self.interval, self.clip = scaling, scale, interval, clip

    def copy(self, student: Denoiser) -> Scaled:
        """The student's network as it stands, frozen, read as the teacher's."""
        student = scaled(student)
        return Scaled(frozen(student.net), self.scaling or student.scaling)

    def wrapped(self, teacher: Denoiser) -> Denoiser:
        """The teacher, guided and clipped."""
        guided = teacher if self.scale == 1.0 else ClassifierFree(teacher, self.scale, self.interval)
        return self.limited(guided)

    def limited(self, denoiser: Denoiser) -> Denoiser:
        """A denoiser, clipped where the data have a range."""
        return Clipped(denoiser) if self.clip else denoiser


class Scene(NamedTuple):
    """What a distillation loss is computed from.

    density   the student's;  x, cond  clean codes (B, ...) and their condition
    u         (B,) float64 in [0, 1): where among the training levels each example stands
    progress  the part of the stage that is done, 0 to 1
    """

    density: Diffusion
    schedule: Schedule
    x: Tensor
    cond: Condition
    u: Tensor
    progress: float

    def level(self, log_snr: Tensor) -> Level:
        """The levels (B,) of the path at log-SNRs (B,), +infinity being clean data."""
        level = self.schedule.path.level(log_snr)
        return Level.known(level.alpha, level.sigma, log_snr)


class Distiller(Objective, Judge):
    """A loss between the student's answer and what it should have been.

    dropout   part of the examples whose condition is dropped
    start     largest sigma/alpha that is trained, for a student that starts from a first guess; None: all
    alone     whether the loss needs no teacher, so that none is kept
    average   decay per step of the weights that make the student's own targets; 0: those it has
    """

    decides: bool = False

    def __init__(
        self,
        teaching: Teaching | None = None,
        dropout: float = 0.0,
        start: float | None = None,
        *,
        alone: bool = False,
        average: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"a dropout probability lies in [0, 1], not at {dropout}")
        if not 0.0 <= average < 1.0:
            raise ValueError(f"a decay lies in [0, 1), not at {average}")
        self.teaching, self.dropout, self.start = teaching or Teaching(), dropout, start
        self.teacher: Scaled | None = None
        self.follower: Scaled | None = None
        self.alone, self.average, self.target = alone, average, 0

    def open(self, model: nn.Module, target: int) -> None:
        """The student as it stands becomes the teacher; UsageError for a clock that does not fall."""
        _, density = diffusion_of(model)
        check_clock(density.schedule)
        self.teacher = None if self.alone else self.teaching.copy(density.denoiser)
        if self.average:
            student = scaled(density.denoiser)
            self.follower = Scaled(frozen(student.net), student.scaling)
        self.target = target

    @torch.no_grad()
    def after_step(self, model: nn.Module, seen: int) -> None:
        """Move the average towards the student's weights."""
        if self.follower is not None:
            student = diffusion_of(model)[1].denoiser
            for mine, theirs in zip(self.follower.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, 1.0 - self.average)

    def behind(self, student: Denoiser) -> Denoiser:
        """What makes the student's own targets: the average of its weights, or itself."""
        return student if self.follower is None else self.follower

    @abstractmethod
    def error(self, scene: Scene, noise: Noise) -> Tensor:
        """The loss of each example (B,)."""

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """The single term `distillation`, of a network without dropout (see the module)."""
        for fixed in (self.teacher, self.follower):
            if fixed is not None:
                fixed.eval()
        generator, density = diffusion_of(model)
        x, cond = generator.observe(batch, noise=noise)
        cond = droppable(cond, self.dropout, len(x), noise)
        progress = min(1.0, seen / self.target) if self.target else 0.0
        scene = Scene(density, self.part(density), x, cond, noise.stratified(len(x)), progress)
        with evaluating(density):
            return Loss({"distillation": self.error(scene, noise)}, {"distillation": 1.0})

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """`loss`: the average over fixed quantiles of the levels as at the end, and the loss at each."""
        generator, density = diffusion_of(model)
        x, cond = generator.observe(batch, noise=noise)
        found = {}
        for k in range(JUDGED):
            u = torch.full((len(x),), (k + 0.5) / JUDGED, dtype=torch.float64, device=x.device)
            scene = Scene(density, self.part(density), x, cond, u, 1.0)
            found[f"loss_at_quantile_{(k + 0.5) / JUDGED:.2f}"] = self.error(scene, noise)
        return {"loss": torch.stack(list(found.values())).mean(0)} | found

    def part(self, density: Diffusion) -> Schedule:
        """The part of the student's schedule that is trained."""
        return density.schedule if self.start is None else Until(density.schedule, self.start)

    @property
    def taught(self) -> Denoiser:
        """The teacher as it is asked; a ValueError before the stage is open, or if the loss needs none."""
        if self.teacher is None:
            raise ValueError("no teacher: open the objective on a model first")
        return self.teaching.wrapped(self.teacher)


def ratios(times: Times, scene: Scene) -> Tensor:
    """sigma/alpha (B,) at the quantiles of a scene, within its schedule; UsageError as `Times.check`."""
    times.check(scene.schedule)
    first, last = (float(scene.schedule.log_snr(t)) for t in (1.0, max(scene.schedule.earliest, 1e-6)))
    log_snr = times.quantile(scene.schedule, scene.u).clamp(max(first, -40.0), min(last, 40.0))
    return torch.exp(-0.5 * log_snr)


def scaled(student: Denoiser) -> Scaled:
    """A student, which is a network read through a scaling; TypeError for another denoiser."""
    if not isinstance(student, Scaled):
        raise TypeError(f"a student is a network read through a scaling, not a {type(student).__name__}")
    return student


def frozen(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters are not trained."""
    copy = deepcopy(module).eval()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return copy


def squared(answer: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each example, (B,)."""
    return event_mean((answer - target) ** 2)
