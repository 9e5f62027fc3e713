"""A latent-variable model in which everything is known: z ~ N(0, I), x = W z + b + s eps."""

import torch
from torch import nn

from sfumato.distributions.gaussian import Gaussian
from sfumato.models.likelihood import Likelihood
from sfumato.models.vae import Vae

F64 = torch.float64
LATENT, DIM, STD = 2, 5, 0.6


class FixedGaussian(Likelihood):
    """N(decoded, STD^2)."""

    def forward(self, decoded):
        return Gaussian(decoded, torch.tensor(STD, dtype=F64).log())


def linear_gaussian(spoil=0.0):
    """The model as a Vae, the exact log p(x), and data; spoil moves and widens the posterior."""
    torch.manual_seed(5)
    w, b = torch.randn(DIM, LATENT, dtype=F64), torch.randn(DIM, dtype=F64)
    precision = torch.eye(LATENT, dtype=F64) + w.T @ w / STD**2
    # a factorised posterior is exact when W's columns are orthogonal
    w = torch.linalg.qr(w)[0] * torch.tensor([1.5, 0.7], dtype=F64)
    precision = torch.eye(LATENT, dtype=F64) + w.T @ w / STD**2
    covariance = torch.linalg.inv(precision)
    encoder, decoder = nn.Linear(DIM, 2 * LATENT, dtype=F64), nn.Linear(LATENT, DIM, dtype=F64)
    with torch.no_grad():
        decoder.weight.copy_(w), decoder.bias.copy_(b)
        gain = covariance @ w.T / STD**2
        encoder.weight.copy_(torch.cat([gain, torch.zeros(LATENT, DIM, dtype=F64)]))
        log_std = 0.5 * covariance.diagonal().log() + spoil
        encoder.bias.copy_(torch.cat([-gain @ b + spoil, log_std]))
    marginal = torch.distributions.MultivariateNormal(b, w @ w.T + STD**2 * torch.eye(DIM, dtype=F64))
    x = marginal.sample((200,))
    return Vae(encoder, decoder, FixedGaussian(), LATENT), marginal.log_prob(x), x
