"""The squared norm of a code's Jacobian, |dh/dx|_F^2 = sum_ji (dh_j / dx_i)^2, for each example.

    one layer, h = s(W x + b)   sum_j s'(a_j)^2 sum_i W_ji^2                   (Rifai et al. 2011, eq. 7)
    exact                       row j of the Jacobian is the gradient of h_j: D backward passes
    trace estimate              E_v |v^T dh/dx|^2 = tr(J J^T),  v = +-1        (Hutchinson 1990)

The exact norm of a deep encoder takes `chunk` rows at a time by repeating the batch: memory grows with
chunk, time hardly does. The estimate is unbiased, costs `probes` backward passes, and its variance is
2 sum_{i != j} (J J^T)_ij^2 / probes: none where the units' gradients are orthogonal.

All three can be differentiated once more, with the networks in the form that allows it (nets/compute.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..core.shapes import event_sum
from ..models.autoencoder import Autoencoder
from ..nets.compute import twice_differentiable
from ..nets.shallow import LinearEncoder


class JacobianNorm(nn.Module, ABC):
    """|dh/dx|_F^2 of an autoencoder's code."""

    @abstractmethod
    def forward(self, model: Autoencoder, x: Tensor, *, noise: Noise) -> Tensor:
        """The squared norm at each x, (B,); differentiable in the encoder's parameters."""

    def check(self, model: Autoencoder) -> None:
        """TypeError where this way does not fit the model."""


@final
class OneLayerJacobian(JacobianNorm):
    """The closed form, for an encoder of one layer (`LinearEncoder`) under any units."""

    def check(self, model: Autoencoder) -> None:
        """Only one layer has this form."""
        if not isinstance(model.encoder, LinearEncoder):
            raise TypeError(
                f"the closed form of the Jacobian is for a LinearEncoder, not {type(model.encoder).__name__}"
            )

    def forward(self, model: Autoencoder, x: Tensor, *, noise: Noise) -> Tensor:
        """sum_j s'(a_j)^2 |W_j|^2: s' by one derivative of the units, which act one by one."""
        self.check(model)
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            a = model.encoder(x)
            a = a if graph else a.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(model.units(a).sum(), a, create_graph=graph)
            weight: Tensor = model.encoder.weight  # type: ignore[assignment]
            return _as_before(slope.square() @ weight.square().sum(1), graph)


@final
class ExactJacobian(JacobianNorm):
    """Every row of the Jacobian, `chunk` rows at a time, for an encoder of any depth."""

    def __init__(self, chunk: int = 8) -> None:
        super().__init__()
        if chunk < 1:
            raise ValueError(f"a Jacobian is computed at least one row at a time, not {chunk}")
        self.chunk = chunk

    def forward(self, model: Autoencoder, x: Tensor, *, noise: Noise) -> Tensor:
        """The sum over rows j of |dh_j/dx|^2."""
        parts = []
        for first in range(0, model.latent, self.chunk):
            rows = torch.arange(first, min(first + self.chunk, model.latent), device=x.device)
            directions = torch.eye(model.latent, dtype=x.dtype, device=x.device)[rows]
            parts.append(_pulled(model, x, directions.repeat_interleave(len(x), 0)).sum(0))
        return torch.stack(parts).sum(0)


@final
class JacobianTraceEstimate(JacobianNorm):
    """Hutchinson's unbiased estimate with `probes` random signs v for each example."""

    def __init__(self, probes: int = 1) -> None:
        super().__init__()
        if probes < 1:
            raise ValueError(f"an estimate needs at least one probe, not {probes}")
        self.probes = probes

    def forward(self, model: Autoencoder, x: Tensor, *, noise: Noise) -> Tensor:
        """The mean over probes of |v^T dh/dx|^2."""
        signs = 2.0 * noise.integers(2, (len(x), self.probes, model.latent)).to(x) - 1.0
        return _pulled(model, x, signs.transpose(0, 1).flatten(0, 1)).mean(0)


def _pulled(model: Autoencoder, x: Tensor, directions: Tensor) -> Tensor:
    """|v^T dh/dx|^2 for directions v (n B, D) at x repeated n times, (n, B)."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad(), twice_differentiable(model.encoder):
        many = x.detach().repeat(len(directions) // len(x), *(1,) * (x.ndim - 1)).requires_grad_(True)
        # examples do not meet in the encoder, so one gradient of the sum is the gradient of each
        (pulled,) = torch.autograd.grad((model.code(many) * directions).sum(), many, create_graph=graph)
        return _as_before(event_sum(pulled.square()).reshape(-1, len(x)), graph)


def _as_before(value: Tensor, graph: bool) -> Tensor:
    """The value with its graph only where gradients were asked for."""
    return value if graph else value.detach()
