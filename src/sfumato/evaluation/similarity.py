"""How near a picture is to the one it stands for: mean squared error, and structural similarity.

    SSIM(x, y) = mean over positions of
        (2 m_x m_y + c_1)(2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1)(s_x^2 + s_y^2 + c_2))

with local means m, variances s^2 and covariance s_xy under a Gaussian window of standard deviation 1.5
(11 x 11, cut down to the picture where that is smaller), c_1 = (0.01 R)^2, c_2 = (0.03 R)^2 and R = 2, the
range of model values, which are raised to 0 ... 2 for it. Only positions whose window lies inside count;
channels are averaged (Wang et al. 2004, eq. 13, and the settings of their section III.C). Signals and
volumes use windows of their own dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA, REACH = 1.5, 5  # of the window; it ends 5 positions from its centre
RANGE = 2.0
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each example (B, C, *space) in model units, (B,)."""
    return (x - y).square().flatten(1).mean(1)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of examples (B, C, *space) of one to three axes of space, (B,), at most 1."""
    dims = x.ndim - 2
    if dims not in _CONV or x.shape != y.shape:
        raise ValueError(f"no structural similarity of {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = x.double() + 1.0, y.double() + 1.0  # the measure is of light, which is not negative
    parts = torch.cat([x, y, x * x, y * y, x * y], 1)
    m_x, m_y, xx, yy, xy = _windowed(parts).chunk(5, 1)
    c_1, c_2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    alike = (2 * m_x * m_y + c_1) * (2 * (xy - m_x * m_y) + c_2)
    scale = (m_x**2 + m_y**2 + c_1) * (xx - m_x**2 + yy - m_y**2 + c_2)
    return (alike / scale).flatten(1).mean(1)


def _windowed(x: Tensor) -> Tensor:
    """The Gaussian mean around every position whose window lies inside, axis by axis."""
    channels, dims = x.shape[1], x.ndim - 2
    for axis in range(dims):
        reach = min(REACH, (x.shape[2 + axis] - 1) // 2)
        at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        weights = torch.exp(-0.5 * (at / SIGMA) ** 2)
        shape = [1] * dims
        shape[axis] = len(at)
        kernel = (weights / weights.sum()).reshape(1, 1, *shape)
        x = _CONV[dims](x.flatten(0, 1).unsqueeze(1), kernel).reshape(-1, channels, *_cut(x, axis, reach))
    return x


def _cut(x: Tensor, axis: int, reach: int) -> list[int]:
    return [n - 2 * reach * (i == axis) for i, n in enumerate(x.shape[2:])]


def peak_ratio(error: float) -> float:
    """Peak signal-to-noise ratio in decibels of a mean squared error, 10 log_10(R^2 / error)."""
    return math.inf if error == 0 else 10.0 * math.log10(RANGE**2 / error)
