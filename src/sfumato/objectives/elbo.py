"""The evidence lower bound of a latent-variable model, in nats per image.

    loss = -E_q[log p(x given z)] + beta (KL(q(z given x) || p(z)) + free)

beta = 1 and no free bits is the negative ELBO itself; nothing is divided by a number of pixels or weighed
by hand (the likelihood's learned scale does that; see models/likelihood.py). The options, all off:

    warmup     beta rises linearly from 0 over so many examples; up to 1: over that share of the stage's
               (Sonderby et al. 2016)
    free_bits  no unit gains from a KL below so many nats: free = sum_j max(free_bits - KL_j, 0)
               (Kingma et al. 2016, appendix C.8, per unit and per image, so that the loss of an image
               does not depend on its batch; KL_j is the average over the draws)
    samples    the average of so many draws of z per image (less variance, the same bound)

`reconstruction` and `kl` are always reported as they are: their sum is minus the ELBO, whatever the options.
`ImportanceWeighted` is the tighter bound of several draws (Burda et al. 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ..core.noise import Noise
from ..core.shapes import event_sum
from ..data.dataset import Batch
from ..models.trace import LatentVariableModel, Trace, importance_bound
from .objective import Judge, Loss, Objective


@final
class Elbo(Objective, Judge):
    """-ELBO of a `LatentVariableModel` with the options above; terms in nats per image."""

    def __init__(
        self, beta: float = 1.0, warmup: float = 0.0, free_bits: float = 0.0, samples: int = 1
    ) -> None:
        super().__init__()
        if beta < 0 or warmup < 0 or free_bits < 0 or samples < 1:
            raise ValueError("beta, warmup and free_bits are 0 or more, samples 1 or more")
        self.beta, self.warmup, self.free_bits, self.samples = beta, warmup, free_bits, samples
        # the ELBO of another beta is best long before that beta has had its effect
        self.decides = beta == 1.0
        self.rise = warmup if warmup > 1 else 0.0  # examples; of a share they are known when the stage opens

    def open(self, model: nn.Module, target: int) -> None:
        """A warm-up told as a share is one of the examples planned."""
        self.rise = self.warmup if self.warmup > 1 else self.warmup * target

    def weight(self, seen: int) -> float:
        """The weight of the KL after so many examples."""
        return self.beta * min(1.0, seen / self.rise) if self.rise else self.beta

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """Terms `reconstruction`, `kl`, where asked for `free_bits`, and of a ladder `kl_level_1` ...

        Notes: `kl_per_unit` and, of a ladder, `kl_per_level`, from coarse to fine.
        """
        assert isinstance(model, LatentVariableModel)
        traces = [model.trace(batch.x, noise=noise) for _ in range(self.samples)]
        if seen == 0:
            traces[0].check()
        units = _mean_units(traces)
        reconstruction = torch.stack([-trace.log_likelihood() for trace in traces]).mean(0)
        terms = {"reconstruction": reconstruction, "kl": _mean_kl(traces)}
        weights = {"reconstruction": 1.0, "kl": self.weight(seen)}
        if self.free_bits:
            terms["free_bits"] = torch.stack(
                [event_sum((self.free_bits - u).clamp_min(0.0)) for u in units]
            ).sum(0)
            weights["free_bits"] = self.weight(seen)
        # where a prior knows the past, a small KL is a good prediction: nothing to be diagnosed
        told = [] if any(latent.sampled for latent in traces[0].latents) else units
        return Loss(terms | _levels(units), weights, _notes(told))

    def judge(self, model: nn.Module, batch: Batch, *, noise: Noise) -> Mapping[str, Tensor]:
        """The negative ELBO (beta = 1) and its two parts, (B,) in nats."""
        assert isinstance(model, LatentVariableModel)
        trace = model.trace(batch.x, noise=noise)
        reconstruction, kl = -trace.log_likelihood(), _mean_kl([trace])
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}


@final
class ImportanceWeighted(Objective):
    """-log (1/K) sum_k p(x, z_k) / q(z_k given x), K = samples; K = 1 is the negative ELBO."""

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"an importance-weighted bound needs at least one sample, not {samples}")
        self.samples = samples

    def forward(self, model: nn.Module, batch: Batch, *, noise: Noise, seen: int) -> Loss:
        """The single term `bound`, minus the bound in nats per image."""
        assert isinstance(model, LatentVariableModel)
        bound = importance_bound(model, batch.x, self.samples, noise=noise)
        return Loss({"bound": -bound}, {"bound": 1.0})


def _levels(units: list[Tensor]) -> dict[str, Tensor]:
    """The KL of each of several latents, (B,); reported, not weighed."""
    return {f"kl_level_{i}": event_sum(u.detach()) for i, u in enumerate(units, 1)} if len(units) > 1 else {}


def _notes(units: list[Tensor]) -> dict[str, Tensor]:
    """Means over the batch of the KL of every unit, and of every latent where there are several."""
    if not units:
        return {}
    means = [u.detach().flatten(1).mean(0) for u in units]
    notes = {"kl_per_unit": torch.cat(means)}
    return notes | ({"kl_per_level": torch.stack([m.sum() for m in means])} if len(units) > 1 else {})


def _mean_units(traces: list[Trace]) -> list[Tensor]:
    """KL of every unit of each latent, (B, ...), averaged over traces, as `_mean_kl` is."""
    latents = zip(*(trace.latents for trace in traces), strict=True)
    return [torch.stack([latent.kl_per_unit() for latent in draws]).mean(0) for draws in latents]


def _mean_kl(traces: list[Trace]) -> Tensor:
    """KL of all latents, (B,), averaged over traces (a ladder's KL depends on the draw; a VAE's does not)."""
    kls = [torch.stack([latent.kl() for latent in trace.latents]).sum(0) for trace in traces if trace.latents]
    if not kls:
        return torch.zeros(len(traces[0].data), device=traces[0].data.device)
    return torch.stack(kls).mean(0)
