"""Laws of continuous-time consistency, in the worlds of distillation."""

import math

import pytest
import torch
from distilled_worlds import (
    BATCH,
    EXACT,
    ROW,
    SCHEDULES,
    Flow,
    error,
    generator,
    name,
    scene,
)
from exact_worlds import F64, PATHS, STD, gaussian

from sfumato.core.condition import NOTHING
from sfumato.core.noise import Noise
from sfumato.diffusion.clocks import CosineTime, geometric
from sfumato.diffusion.scaling import Scaled
from sfumato.diffusion.times import LogNormalSigma
from sfumato.objectives.continuous import Continuous, Frame
from sfumato.objectives.distiller import Scene


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_the_exact_flow_has_no_continuous_time_tangent(schedule):
    """With the teacher's direction: the teacher is the posterior mean, the student the exact flow."""
    objective = Continuous(LogNormalSigma(-0.5, 1.0), 0.0, EXACT)
    place = scene(objective, Flow(), schedule, teacher=gaussian())
    with torch.no_grad():
        flow = float(objective.error(place, Noise([1], rows=BATCH)).max())
        mean = float(objective.error(scene_of(place, gaussian(), schedule), Noise([1], rows=BATCH)).mean())
    assert flow < 1e-5 and mean > 1e-2


class LogTan(torch.nn.Module):
    """F = log(d tan phi), up to a factor: as steep at both ends as a network's own input."""

    def forward(self, x, c_noise, cond=NOTHING):
        return 4.0 * c_noise.reshape(-1, 1) + 0.0 * x


def test_the_slope_of_the_network_is_right_up_to_both_ends_of_the_angle():
    """d log tan phi / dphi = 1 / (sin phi cos phi), to a part 1 / 192 from the least angle to the largest."""
    phi = torch.linspace(0.01, math.pi / 2 - 0.01, 200, dtype=F64)
    frame = Frame(Scene(None, geometric(), None, NOTHING, None, 1.0), STD)
    y = torch.ones(200, 1, dtype=F64)
    now, change = frame.slope(Scaled(LogTan(), ROW), y, phi, torch.zeros_like(y))
    exact = 1.0 / (torch.sin(phi) * torch.cos(phi))
    assert float((change[:, 0] / exact - 1.0).abs().max()) < 1.1 / 192
    assert float((now[:, 0] - torch.log(STD * torch.tan(phi))).abs().max()) < 0.01


def test_the_difference_in_angle_stays_between_clean_data_and_pure_noise():
    """The loss is finite at every quantile of the widest distribution of levels."""
    objective = Continuous(LogNormalSigma(-1.1, 4.0), 0.0, EXACT)
    assert bool(torch.isfinite(error(objective, gaussian(), geometric())).all())


def scene_of(place, denoiser, schedule):
    return place._replace(density=generator(denoiser, schedule).density)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_frame_of_the_angle_is_the_same_on_every_path(path):
    schedule = CosineTime(path=path)
    place = Scene(None, schedule, None, NOTHING, None, 1.0)
    phi = torch.linspace(0.1, 1.4, 7, dtype=F64)
    y = torch.linspace(-1, 1, 7, dtype=F64)[:, None]
    frame = Frame(place, STD)
    _, level = frame.place(y, phi)
    assert torch.allclose(torch.atan(level.sigma / (level.alpha * STD)), phi, rtol=1e-10)
    mean = frame.mean(gaussian(), y, phi)
    other = Frame(Scene(None, geometric(), None, NOTHING, None, 1.0), STD).mean(gaussian(), y, phi)
    assert torch.allclose(mean, other, rtol=0, atol=1e-10)
