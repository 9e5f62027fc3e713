"""What is sampled in place of the encoder: densities p(z) over the latent space of a codec.

    StandardNormalPrior   N(0, I), the prior the VAE was trained against
    MixturePrior          sum_k w_k N(m_k, S_k), fitted to the encoded training data

A VAE's aggregate posterior E_x[q(z given x)] is never quite N(0, I), and where it is thin the decoder was
never trained: samples from N(0, I) are worse than reconstructions. A mixture fitted afterwards to draws
of the aggregate posterior closes most of the gap (Ghosh et al. 2020, "From variational to deterministic
autoencoders", ex-post density estimation; Pandey et al. 2022, DiffuseVAE, section 4.5).

With classes there is one mixture for each, p(z given class), so that a z fits the label it is used with.
The number of components is the one of least BIC = -2 log-likelihood + parameters * log n among the powers
of two up to the given number, unless that is to be taken exactly. Temperature scales every component.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor

from ..core.condition import NOTHING, Condition
from ..core.errors import DataError
from ..core.noise import Noise
from ..core.stable import inverse_cdf
from ..distributions.gaussian import LOG_SQRT_2PI
from .density import Density, Plan
from .mixture import fit_mixture

FIT_MOST = 20_000  # codes per mixture; more change nothing but the time
RAREST = 8  # examples below which a class has no mixture of its own


class LatentPrior(Density):
    """A density over vectors (dim,) whose draw is the latent z itself."""

    slot: ClassVar[str] = "z"

    @final
    def sample(
        self, start: Tensor, plan: Plan, *, cond: Condition = NOTHING, noise: Noise | None = None
    ) -> Tensor:
        """The draw itself: nothing is left to do."""
        return start

    @abstractmethod
    def log_prob(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(z) or log p(z given label) of vectors (B, dim) in nats, (B,)."""

    @abstractmethod
    def fit(self, z: Tensor, label: Tensor | None = None, *, seed: int = 0) -> None:
        """Fit to encoded data (N, dim) with labels (N,) where there are any."""


@final
class StandardNormalPrior(LatentPrior):
    """p(z) = N(0, I)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("origin", torch.zeros(()), persistent=False)

    def draw(self, count: int, plan: Plan, *, cond: Condition = NOTHING, noise: Noise) -> Tensor:
        """z = temperature * eps, (count, dim)."""
        return plan.latent_temperature * noise.normal((count, self.dim), self.dtype)

    def log_prob(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """log N(z; 0, I) in nats, (B,)."""
        return (-0.5 * z * z - LOG_SQRT_2PI).sum(1)

    def fit(self, z: Tensor, label: Tensor | None = None, *, seed: int = 0) -> None:
        """Nothing to fit."""


@final
class MixturePrior(LatentPrior):
    """p(z given class) = sum_k w_k N(m_k, L_k L_k^T); before it is fitted, N(0, I).

    components  the largest number of components of one mixture; with exact=True the number itself
    classes     0: one mixture; otherwise one for each class
    """

    weights: Tensor  # (classes or 1, K), zero for unused components: every stored number is finite
    means: Tensor  # (classes or 1, K, dim)
    factors: Tensor  # (classes or 1, K, dim, dim), lower triangular

    def __init__(self, dim: int, components: int = 16, classes: int = 0, exact: bool = False) -> None:
        super().__init__()
        if components < 1 or classes < 0:
            raise ValueError(f"a mixture of {components} components for {classes} classes does not exist")
        self.dim, self.components, self.classes, self.exact = dim, components, classes, exact
        mixtures = max(1, classes)
        weights = torch.zeros(mixtures, components)
        weights[:, 0] = 1.0
        self.register_buffer("weights", weights)
        self.register_buffer("means", torch.zeros(mixtures, components, dim))
        self.register_buffer("factors", torch.eye(dim).repeat(mixtures, components, 1, 1))

    def draw(self, count: int, plan: Plan, *, cond: Condition = NOTHING, noise: Noise) -> Tensor:
        """z = m_k + temperature * L_k eps with k drawn by weight, (count, dim)."""
        u = noise.uniform((count,), torch.float64)
        eps = noise.normal((count, self.dim), self.dtype)
        if not self.classes:
            row = torch.zeros(count, dtype=torch.int64, device=u.device)
        elif cond.label is not None:
            row = cond.label
        else:
            row = noise.integers(self.classes, (count,))
        k = inverse_cdf(self.weights[row].double(), u, 1)
        step = torch.einsum("bij,bj->bi", self.factors[row, k], eps)
        return self.means[row, k] + plan.latent_temperature * step

    def log_prob(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(z given label) in nats, (B,); without a label the average over the classes."""
        joint = torch.stack([self._log_prob(z, c) for c in range(len(self.means))])  # (classes, B)
        if self.classes and label is not None:
            return joint.gather(0, label[None])[0]
        return torch.logsumexp(joint, 0) - math.log(len(joint))

    def _log_prob(self, z: Tensor, mixture: int) -> Tensor:
        factors = self.factors[mixture]
        offset = (z[:, None] - self.means[mixture]).permute(1, 2, 0)  # (K, dim, B)
        u = torch.linalg.solve_triangular(factors, offset, upper=False)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        parts = -0.5 * u.square().sum(1) - log_det[:, None] - self.dim * LOG_SQRT_2PI
        return torch.logsumexp(self.weights[mixture].log()[:, None] + parts, 0)

    @torch.no_grad()
    def fit(self, z: Tensor, label: Tensor | None = None, *, seed: int = 0) -> None:
        """Fit by expectation-maximisation to codes (N, dim), the first 20,000 of each mixture.

        Without labels every class gets the mixture of all data.
        """
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise ValueError(
                f"a mixture over {self.dim} dimensions cannot be fitted to codes {tuple(z.shape)}"
            )
        if not bool(torch.isfinite(z).all()):
            raise DataError("the encoded data hold NaN or infinity", remedy="The first stage has diverged.")
        for c in range(len(self.means)):
            codes = z[label == c] if self.classes and label is not None else z
            # a class too rare for a mixture of its own gets that of everything
            self._fit(c, codes if len(codes) >= RAREST else z, seed)

    def _fit(self, mixture: int, z: Tensor, seed: int) -> None:
        codes = z[:FIT_MOST].detach().cpu().double().numpy()
        if len(codes) < 2:
            raise DataError(
                f"a mixture cannot be fitted to {len(codes)} encoded examples",
                remedy="Use more data, or the standard normal prior.",
            )
        weights, means, covariances = fit_mixture(codes, self.components, self.exact, seed)
        used = len(weights)
        self.weights[mixture] = 0.0
        self.weights[mixture, :used] = torch.from_numpy(weights).to(self.means)
        self.means[mixture, :used] = torch.from_numpy(means).to(self.means)
        self.factors[mixture, :used] = torch.linalg.cholesky(torch.from_numpy(covariances)).to(self.means)
