"""A ladder in which all is known: z_1 ~ N(0, 1), z_2 = a z_1 + c + s e, x = W z + b + r e."""

import math

import torch
from linear_gaussian import F64, STD, FixedGaussian
from torch import nn

from sfumato.models.hvae import Hvae

DIM, A, C, S = 4, 0.8, -0.3, 0.5


class Same(nn.Module):
    """The features of x are x."""

    def forward(self, x):
        return [x]


class LinearLadder(nn.Module):
    """The exact prior and posterior of each level; spoil moves and widens the posterior."""

    shapes = ((1,), (1,))

    def __init__(self, spoil=0.0):
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.register_buffer("w", torch.randn(DIM, 2, generator=g, dtype=F64))
        self.register_buffer("b", torch.randn(DIM, generator=g, dtype=F64))
        self.spoil = spoil
        # joint of (z_1, z_2): mean and covariance
        self.mean = torch.tensor([0.0, C], dtype=F64)
        self.cov = torch.tensor([[1.0, A], [A, A * A + S * S]], dtype=F64)

    def forward(self, choose, count):
        h = torch.zeros(count, 2, dtype=F64)
        for level in range(2):
            mean, std = (0.0 * h[:, :1], 1.0) if level == 0 else (A * h[:, :1] + C, S)
            z = choose(level, h, mean, torch.full_like(mean, math.log(std)))
            h = torch.cat([z, h[:, 1:]], 1) if level == 0 else torch.cat([h[:, :1], z], 1)
        return h @ self.w.T + self.b

    def posterior(self, x):
        """Mean (B, 2) and covariance of (z_1, z_2) given x."""
        cov_x = self.w @ self.cov @ self.w.T + STD**2 * torch.eye(DIM, dtype=F64)
        gain = self.cov @ self.w.T @ torch.linalg.inv(cov_x)
        return self.mean + (x - self.b - self.w @ self.mean) @ gain.T, self.cov - gain @ self.w @ self.cov

    def residual(self, level, h, features):
        """The posterior relative to the prior: of z_1 given x, then of z_2 given z_1 and x."""
        mean, cov = self.posterior(features[0])
        if level == 0:
            shift, log_ratio = mean[:, :1], 0.5 * cov[0, 0].log()
        else:
            slope = cov[0, 1] / cov[0, 0]
            m = mean[:, 1:] + slope * (h[:, :1] - mean[:, :1])
            shift = (m - A * h[:, :1] - C) / S
            log_ratio = 0.5 * (cov[1, 1] - slope * cov[0, 1]).log() - math.log(S)
        return shift + self.spoil, log_ratio.expand_as(shift) + self.spoil


def linear_ladder(spoil=0.0, count=200):
    """The model as an Hvae, the exact log p(x), and data."""
    decoder = LinearLadder(spoil)
    cov = decoder.w @ decoder.cov @ decoder.w.T + STD**2 * torch.eye(DIM, dtype=F64)
    marginal = torch.distributions.MultivariateNormal(decoder.b + decoder.w @ decoder.mean, cov)
    torch.manual_seed(7)
    x = marginal.sample((count,))
    return Hvae(Same(), decoder, FixedGaussian()), marginal.log_prob(x), x
