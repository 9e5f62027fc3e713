"""Students and teachers in worlds whose denoiser and flow map are known in closed form."""

import torch
from exact_worlds import F64, MEAN, STD

from sfumato.core.condition import NOTHING
from sfumato.core.noise import Noise
from sfumato.diffusion.clocks import CosineTime, geometric
from sfumato.diffusion.denoiser import Denoiser, Posterior
from sfumato.diffusion.scaling import EdmScaling, Scaled
from sfumato.diffusion.times import LogNormalSigma
from sfumato.models.codec import Pixels
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.objectives.distiller import Scene, Teaching

ROW = EdmScaling(STD)
BATCH = 64


class Flow(Denoiser):
    """The exact consistency function of the Gaussian world: the clean end of the trajectory through x_t."""

    def forward(self, x_t, level, cond=NOTHING):
        a, s = (v.reshape(-1, 1) if isinstance(v, torch.Tensor) else v for v in (level.alpha, level.sigma))
        return Posterior(MEAN + STD / ((a * STD) ** 2 + s**2) ** 0.5 * (x_t - a * MEAN))


class Reads(torch.nn.Module):
    """A network that answers, read through a row, exactly as a denoiser does."""

    def __init__(self, denoiser, row, path):
        super().__init__()
        self.denoiser, self.row, self.path = denoiser, row, path
        self.scale = torch.nn.Parameter(torch.ones((), dtype=F64))

    def forward(self, x, c_noise, cond=NOTHING):
        level = self.path.level(-8.0 * c_noise)
        x_t = x / self.row(level).input.reshape(-1, 1)
        mean = self.denoiser(x_t, level, cond).mean
        return self.scale * self.row.target(mean, x_t, level)


class Drops(Reads):
    """A network with dropout of its output."""

    def forward(self, x, c_noise, cond=NOTHING):
        return torch.nn.functional.dropout(super().forward(x, c_noise, cond), 0.3, self.training)


def generator(denoiser, schedule, row=ROW):
    student = Scaled(Reads(denoiser, row, schedule.path), row)
    return Generator(Pixels(), Diffusion(student, schedule, (1,)))


def scene(objective, denoiser, schedule, progress=1.0, teacher=None):
    """An opened objective and what its loss is computed from, on data of the Gaussian world."""
    model = generator(denoiser, schedule)
    objective.open(generator(teacher or denoiser, schedule), 1000)
    g = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.randn(BATCH, 1, dtype=F64, generator=g)
    u = (torch.arange(BATCH, dtype=F64) + 0.5) / BATCH
    return Scene(model.density, schedule, x, NOTHING, u, progress)


def error(objective, denoiser, schedule, progress=1.0, teacher=None):
    place = scene(objective, denoiser, schedule, progress, teacher)
    with torch.no_grad():
        return objective.error(place, Noise([1], rows=BATCH))


EXACT = Teaching(clip=False)
TIMES = LogNormalSigma(-1.1, 2.0)
SCHEDULES = [geometric(), CosineTime()]


def name(thing):
    return type(thing).__name__


class Hears(Denoiser):
    """Another denoiser, whose calls with a gradient are those that are trained: (log-SNR, end) of each."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.trained, self.asked = inner, [], []

    def forward(self, x_t, level, cond=NOTHING):
        (self.trained if torch.is_grad_enabled() else self.asked).append((level, cond.vector))
        return self.inner(x_t, level, cond)
