"""Continuous-time consistency: the answer must not change along a trajectory (Lu & Song 2024, sCM).

In the frame of the angle phi, tan phi = sigma / (alpha d), with y = x_t d / e (diffusion/scaling.py's e),
every path is y = cos phi x_0 + sin phi d eps, and EDM's row reads

    f = cos phi y + d sin phi F(y / d),        df/dphi = cos phi (y' + d F) - sin phi (y - d dF/dphi)

where y' is the direction of the teacher's trajectory, dy/dphi = -d F_teacher. The limit of the consistency
loss as r approaches t is

    loss = |F - (F' - g / (|g| + 1/10))|^2,    g = cos phi df/dphi,    F' = F without gradient

with their normalised tangent; the second half of g is faded in over the first part `warm` of the stage.
dF/dphi along the trajectory is a central difference of two calls in float32: the fused kernels have no
forward derivative. The network sees log tan phi, which is steep at either end: there h is an eighth of the
distance to the end, and the difference of log tan phi itself is off by a part 1 / 192.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from ..core.noise import Noise
from ..core.shapes import event_mean, per_sample
from ..diffusion.denoiser import Denoiser
from ..diffusion.level import Level
from ..diffusion.scaling import EdmScaling, Scaled
from ..diffusion.times import Times
from .distiller import Distiller, Scene, Teaching, ratios, squared

STEP = 0.005  # of the angle, in the central difference, at most
PART = 8.0  # distances to clean data and to pure noise, in steps, at least
EDGE = 0.01  # the angle nearest to either that is trained
FLOOR = 0.1  # of the tangent's norm


@final
class Continuous(Distiller):
    """The sCM loss for a student on EDM's row; the tangent is faded in over the first part `warm`."""

    settled: bool = False

    def __init__(
        self,
        times: Times,
        warm: float = 0.25,
        teaching: Teaching | None = None,
        dropout: float = 0.0,
        start: float | None = None,
    ) -> None:
        super().__init__(teaching, dropout, start)
        if not 0.0 <= warm <= 1.0:
            raise ValueError(f"the tangent warms up over a part of the stage, 0 to 1, not {warm}")
        self.times, self.warm = times, warm

    def error(self, scene: Scene, noise: Noise) -> Tensor:
        """The squared error of the network's output against its corrected self, (B,)."""
        student = scene.density.denoiser
        if not isinstance(student, Scaled) or not isinstance(student.scaling, EdmScaling):
            raise TypeError("continuous-time consistency is written for a student on EDM's row")
        d = student.scaling.data
        frame = Frame(scene, d)
        phi = torch.atan(ratios(self.times, scene) / d).clamp(EDGE, math.pi / 2 - EDGE)
        eps = noise.normal(scene.x.shape, scene.x.dtype)
        y = per_sample(torch.cos(phi), eps) * scene.x + per_sample(d * torch.sin(phi), eps) * eps
        output = frame.output(student, y, phi)
        with torch.no_grad(), torch.autocast(y.device.type, enabled=False):
            direction = self._direction(frame, y, phi)
            now, change = frame.slope(student, y, phi, direction)
            ready = min(1.0, scene.progress / self.warm) if self.warm else 1.0
            cos, sin = (per_sample(v, y) for v in (torch.cos(phi), torch.sin(phi)))
            g = cos * (cos * (direction + d * now) - ready * sin * (y - d * change))
            norm = torch.sqrt(event_mean(g * g))
            target = output.detach().float() - g / (per_sample(norm, g) + FLOOR)
        return squared(output, target)

    def _direction(self, frame: Frame, y: Tensor, phi: Tensor) -> Tensor:
        """dy/dphi of the teacher's trajectory through y."""
        cos, sin = (per_sample(v, y) for v in (torch.cos(phi), torch.sin(phi)))
        mean = frame.mean(self.taught, y, phi)
        return (cos * y - mean) / sin


@final
class Frame:
    """The frame of the angle around a schedule's path, for data of standard deviation d."""

    def __init__(self, scene: Scene, d: float) -> None:
        self.scene, self.d = scene, d

    def place(self, y: Tensor, phi: Tensor) -> tuple[Tensor, Level]:
        """x_t and its level for y (B, ...) at angles (B,)."""
        level = self.scene.level(-2.0 * torch.log(self.d * torch.tan(phi)))
        return per_sample(1.0 / (self.d * EdmScaling(self.d)(level).input), y) * y, level

    def mean(self, denoiser: Denoiser, y: Tensor, phi: Tensor) -> Tensor:
        """A denoiser's answer."""
        x_t, level = self.place(y, phi)
        mean: Tensor = denoiser(x_t, level, self.scene.cond).mean
        return mean

    def output(self, student: Scaled, y: Tensor, phi: Tensor) -> Tensor:
        """The student's network itself: F(y / d)."""
        x_t, level = self.place(y, phi)
        return student.scaling.target(student(x_t, level, self.scene.cond).mean, x_t, level)

    def slope(self, student: Scaled, y: Tensor, phi: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """F and dF/dphi along a direction dy/dphi, from two calls: their mean and difference."""
        step = (torch.minimum(phi, math.pi / 2 - phi) / PART).clamp(max=STEP)
        ahead, behind = (
            self.output(student, y + per_sample(h, y) * direction, phi + h) for h in (step, -step)
        )
        return (ahead + behind) / 2.0, (ahead - behind) / per_sample(2.0 * step, ahead)
