"""The variational bound and the ODE's likelihood of an exact denoiser equal the true entropy. Gaussian data
and a mixture of two modes, as images of 1, 96 and 60 numbers with one, three and four axes, once on 256 grey
levels and once as floats.

    grey levels   VLB with T = 1,000 and the exact reverse variance;  ODE on uniformly dequantised data
    floats        ODE: log p(x) itself

The truth is the probability of each image's grey levels, or its density, in closed form. Up to 16 numbers
the ODE's divergence is exact, above it is estimated with one Rademacher probe an image.

Source: Ho et al. 2020, eq. 5; Kingma et al. 2021, sec. 4; Song et al. 2021, sec. 4.3 and app. D.2.

Passes: every mean over the images of three seeds lies within 0.01 bits/dim of the truth's mean over the same
images.
"""

import math

import torch

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import LogSnrLine
from sfumato.diffusion.exact import MixtureDenoiser
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.tables import BetaTable, cosine_betas
from sfumato.diffusion.transition import MatchedVariance
from sfumato.distributions.discretized import DiscretizedGaussian
from sfumato.evaluation.flow import Flow, flow_log_prob
from sfumato.evaluation.variational import vlb
from sfumato.models.codec import Pixels
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator

from .style import INK, colour, figure, tidy

F64 = torch.float64
LEVELS = 256
BIN = 2 / (LEVELS - 1)
WORLDS = {"Gaussian": ([1.0], [0.1], [0.25]), "two modes": ([0.3, 0.7], [-0.4, 0.3], [0.1, 0.15])}
SHAPES = {(1,): 100_000, (3, 8, 4): 2000, (1, 3, 4, 5): 3000}
TERMS = 96


def denoiser_of(world, shape):
    """The exact denoiser of a mixture of products of Gaussians."""
    weights, means, stds = (torch.tensor(v, dtype=F64) for v in WORLDS[world])
    return MixtureDenoiser(
        weights, torch.stack([torch.full(shape, float(m), dtype=F64) for m in means]), stds
    )


def log_mass(denoiser, x):
    """log P of images on grey levels, (B,) nats: every number of a mode integrated over its bin."""
    parts = [
        DiscretizedGaussian(m.expand_as(x), s.log(), LEVELS).log_prob(x)
        for m, s in zip(denoiser.means, denoiser.stds, strict=True)
    ]
    return torch.logsumexp(denoiser.weights.log()[:, None] + torch.stack(parts), 0)


def gaps(world, shape, count, seed):
    """What each number is off the truth by, image by image in bits/dim, and the truth's mean."""
    denoiser = denoiser_of(world, shape)
    x = denoiser.sample(Noise([seed], rows=count), F64)
    grey = ((x.clamp(-1, 1) + 1) / BIN).round() * BIN - 1
    size = math.prod(shape) * math.log(2.0)

    def model(schedule):
        return Generator(Pixels(), Diffusion(denoiser, schedule, shape), plan=Plan(clip=False))

    def of(images):
        return Batch(images, None, torch.arange(count))

    def noise():
        return Noise([seed + 100], rows=count)

    flow = model(LogSnrLine(-14.0, 14.0))
    mass, density = log_mass(denoiser, grey), denoiser.log_prob(x, CLEAN)
    table = model(BetaTable(cosine_betas()))
    bound = vlb(table, of(grey), LEVELS, terms=TERMS, noise=noise(), variance=MatchedVariance()).total
    dequantised = flow_log_prob(flow, of(grey), LEVELS, noise=noise(), how=Flow(uniform=True))
    floats = flow_log_prob(flow, of(x), None, noise=noise())
    off = {"VLB": bound + mass, "ODE, grey levels": mass - dequantised, "ODE, floats": density - floats}
    return {k: v / size for k, v in off.items()}, float(-mass.mean()) / size, float(-density.mean()) / size


def run(claim):
    rows = []
    for world in WORLDS:
        for shape, count in SHAPES.items():
            place, truth = f"{world}, {'x'.join(map(str, shape))}", (0.0, 0.0)
            for seed in claim.seeds:
                off, *truth = gaps(world, shape, 200 if claim.quick else count, seed)
                for name, gap in off.items():
                    claim.record(f"{place}: {name}", float(gap.mean()), seed=seed, unit="bits/dim")
            row = {"data": place, "entropy, grey levels": f"{truth[0]:.4f}"}
            row["entropy, floats"] = f"{truth[1]:.4f}"
            for name in ("VLB", "ODE, grey levels", "ODE, floats"):
                mean, spread = claim.mean(f"{place}: {name}"), claim.spread(f"{place}: {name}")
                row[f"{name} - truth"] = f"{mean:+.4f} ± {spread:.4f}"
                claim.check(f"{place}: {name} off by {mean:+.4f} bits/dim (wanted 0.01)", abs(mean) < 0.01)
            rows.append(row)
    claim.table("bits/dim of the truth, and what each number is off by (spread over seeds)", rows)
    claim.figure("gaps", picture(claim, [r["data"] for r in rows]))


def picture(claim, places):
    """Every gap as a point with its spread, between lines at 0.01."""
    drawn, axes = figure(7.4, 3.4)
    axes.axhspan(-0.01, 0.01, color=colour(2), alpha=0.10, lw=0)
    axes.axhline(0.0, color=INK, lw=0.8)
    for k, name in enumerate(("VLB", "ODE, grey levels", "ODE, floats")):
        for i, place in enumerate(places):
            label = name if i == 0 else None
            values = claim.values(f"{place}: {name}")
            axes.plot(
                [i + 0.18 * (k - 1)] * len(values), values, "o", ms=5, mew=0, color=colour(k), label=label
            )
    axes.set_xticks(range(len(places)), [p.replace(", ", "\n") for p in places])
    axes.set_ylabel("bits/dim above the truth")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, ncols=3, loc="upper left")
    axes.set_ylim(-0.016, 0.019)
    axes.set_title(
        "An exact denoiser's likelihood is the entropy of its data", loc="left", color=INK, fontsize=11
    )
    return tidy(drawn)
