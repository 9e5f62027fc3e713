"""On a linear-Gaussian model the ELBO and the importance-weighted bound meet the exact log p(x). The bound
rises with the number of importance samples.

    p(z) = N(0, I),   p(x given z) = N(W z + b, s^2 I),   log p(x) = log N(x; b, W W^T + s^2 I)

A VAE with a linear encoder and decoder is trained by the ELBO on data drawn from such a model; its own
evidence is then known in closed form, and the true one too.

Source: Kingma & Welling 2014, eq. 3; Burda et al. 2016, theorem 1.

Passes: in the mean over three seeds, the trained model's ELBO is at most 0.02 nats below its exact log p(x);
with a posterior spoilt by hand the bounds for K = 1 ... 4,096 rise throughout (to 0.01 nats, their own
chance) and end within 0.05 nats of the exact evidence, which none exceeds by more.
"""

from itertools import pairwise

import torch
from torch import nn

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.distributions.gaussian import Gaussian
from sfumato.evaluation.bits import bounds
from sfumato.models.likelihood import GaussianLikelihood
from sfumato.models.vae import Vae
from sfumato.objectives.elbo import Elbo

from .style import INK, colour, figure, tidy

DIM, LATENT, COUNT, SPOILT = 8, 2, 4096, 0.35
FEW = 1000  # points of the importance-weighted bounds: their chance is then well below 0.01 nats
DRAWS = (1, 2, 4, 16, 64, 256, 1024, 4096)


def world(seed):
    """Data of a linear-Gaussian model with orthogonal columns, for which a factorised posterior is exact."""
    g = torch.Generator().manual_seed(seed)
    w = torch.linalg.qr(torch.randn(DIM, LATENT, generator=g))[0] * torch.tensor([1.6, 0.8])
    x = torch.randn(COUNT, LATENT, generator=g) @ w.T + 0.5 * torch.randn(COUNT, DIM, generator=g)
    return x


def trained(x, steps, seed):
    """A linear VAE trained on x by the ELBO; its encoder sees x once, linearly, with a free variance."""
    torch.manual_seed(seed)
    vae = Vae(Encoder(), nn.Linear(LATENT, DIM), GaussianLikelihood(), LATENT)
    optimizer = torch.optim.Adam(vae.parameters(), 2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    g = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(0, len(x), (512,), generator=g)
        loss = Elbo()(vae, Batch(x[rows], None, rows), noise=Noise([step], rows=512), seen=512 * step)
        optimizer.zero_grad()
        loss.total.mean().backward()
        optimizer.step()
        schedule.step()
    return vae


class Encoder(nn.Module):
    """x -> (W x + b, c): the posterior of a linear-Gaussian model has a variance that does not see x."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_std = nn.Linear(DIM, LATENT), nn.Parameter(torch.zeros(LATENT))

    def forward(self, x):
        return torch.cat([self.mean(x), self.log_std.expand(len(x), LATENT)], 1)


@torch.no_grad()
def evidence(vae, x):
    """The model's exact log p(x), (B,)."""
    w, b = vae.decoder.weight.double(), vae.decoder.bias.double()
    variance = vae.likelihood(b).log_std.double().exp() ** 2
    cov = w @ w.T + variance * torch.eye(DIM)
    return torch.distributions.MultivariateNormal(b, cov).log_prob(x.double())


@torch.no_grad()
def elbo(vae, x):
    """The ELBO of the model, its expectation in closed form, (B,).

    E_q log N(x; W z + b, s^2) = log N(x; W m + b, s^2) - sum_j |W_j|^2 v_j / (2 s^2).
    """
    q = vae.posterior(x)
    w, scale = vae.decoder.weight, vae.likelihood(x).log_std.exp()
    lost = (w.square().sum(0) * q.std.square()).sum(1) / (2 * scale**2)
    prior = 0.5 * (q.mean.square() + q.std.square() - 2 * q.log_std - 1).sum(1)
    return (Gaussian(vae.decoder(q.mean), scale.log()).log_prob(x) - lost - prior).double()


def run(claim):
    """Train, compare with the closed form, then spoil the posterior and weigh."""
    x = [world(seed) for seed in claim.seeds]
    curves = []
    for seed, data in zip(claim.seeds, x, strict=True):
        vae = trained(data, 50 if claim.quick else 1500, seed)
        exact = evidence(vae, data)
        claim.record(
            "gap of the trained ELBO", float((exact - elbo(vae, data)).mean()), seed=seed, unit="nats"
        )
        with torch.no_grad():
            vae.encoder.mean.bias += SPOILT
            vae.encoder.log_std += SPOILT
        few = data[:FEW]
        curve = []
        for k in DRAWS[: 4 if claim.quick else None]:
            found = bounds(vae, [few], None, draws=k, seed=seed)[-1]
            nats = found.nats - float(exact[:FEW].mean())
            curve.append(nats)
            claim.record(f"bound less evidence, K = {k}", nats, seed=seed, unit="nats")
        curves.append(curve)
    gap = claim.mean("gap of the trained ELBO")
    claim.check(
        f"trained: the ELBO is {gap:.4f} nats below the exact evidence (at most 0.02)", -1e-3 < gap <= 0.02
    )
    mean = [sum(c[i] for c in curves) / len(curves) for i in range(len(curves[0]))]
    rising = all(b > a - 0.01 for a, b in pairwise(mean))
    told = ", ".join(f"{m:.3f}" for m in mean)
    claim.check(
        f"spoilt: bound less evidence for K = {DRAWS[: len(mean)]}: {told}; it rises throughout", rising
    )
    claim.check(
        f"at the largest K it is {mean[-1]:.3f} nats from the evidence (at most 0.05)", abs(mean[-1]) <= 0.05
    )
    worst = max(max(c) for c in curves)
    claim.check(f"no bound exceeds the evidence by more than chance: at most {worst:+.3f} nats", worst < 0.05)
    claim.figure("bounds", picture(curves))
    claim.note(
        "The ELBO's expectation over the posterior is computed in closed form; the importance-weighted bound "
        f"is estimated, with one set of draws for each K, over {FEW:,} points."
    )


def picture(curves):
    """Bound less evidence against K."""
    found, axes = figure(5.2, 3.2)
    for i, curve in enumerate(curves):
        axes.plot(DRAWS[: len(curve)], curve, "o-", color=colour(i), markersize=3, label=f"seed {i}")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xscale="log", xlabel="importance samples K", ylabel="bound − log p(x)  (nats)")
    axes.legend(frameon=False)
    return tidy(found)
