"""Langevin dynamics on data loses the weights of far modes, and annealed Langevin dynamics recovers them.

Two Gaussians in the plane, weights 0.8 and 0.2, so far apart that no path crosses between them, with the
true score in place of a network. Plain dynamics starts uniformly over the square and settles at the score of
the data; annealed dynamics descends a ladder of noise levels from far above the distance to far below the
width of a mode. The predictor-corrector has the same ladder, at a fraction of the calls.

Source: Song & Ermon 2019, sec. 3.2.2 and figure 3; Song et al. 2021, alg. 1.

Passes: over three seeds of 10,000 samples the share that plain dynamics gives the first mode is off by more
than 0.2, and the share that annealed dynamics gives it is within 0.03 of 0.8 for every seed.
"""

import math

import torch

from sfumato.core.noise import Noise
from sfumato.diffusion.exact import MixtureDenoiser
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.paths import VarianceExploding
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.grids import levels_at
from sfumato.samplers.langevin import AnnealedLangevin, PredictorCorrector
from sfumato.samplers.solver import integrate

from .style import INK, SOFT, bare, colour, figure

WEIGHT, APART, WIDTH, SQUARE = 0.8, 5.0, 1.0, 8.0
RUNGS = 40


def world():
    """0.8 N((-5, -5), I) + 0.2 N((5, 5), I), as in the source."""
    means = torch.tensor([[-APART, -APART], [APART, APART]], dtype=torch.float64)
    weights = torch.tensor([WEIGHT, 1 - WEIGHT], dtype=torch.float64)
    return MixtureDenoiser(weights, means, torch.full((2,), WIDTH, dtype=torch.float64))


def ladder(high, low, count):
    """Levels of sigma in equal ratios, then clean data."""
    ends = (-2 * math.log(high), -2 * math.log(low))
    return [*levels_at(VarianceExploding(), torch.linspace(*ends, count, dtype=torch.float64)), CLEAN]


METHODS = {
    "plain": (ladder(0.1, 0.1, 1), AnnealedLangevin(2000, 0.9)),
    "annealed": (ladder(50.0, 0.1, RUNGS), AnnealedLangevin(50, 0.4)),
    "predictor-corrector": (ladder(50.0, 0.1, 4 * RUNGS), PredictorCorrector(Ancestral(), 1, 0.2)),
}


def draw(name, count, seed):
    """Samples (count, 2) of one method, and its network calls."""
    levels, solver = METHODS[name]
    noise = Noise([seed], rows=count)
    uniform = SQUARE * (2 * noise.uniform((count, 2), torch.float64) - 1)
    start = uniform if name == "plain" else levels[0].sigma * noise.normal((count, 2), torch.float64)
    calls = 0

    def count_call(*_):
        nonlocal calls
        calls += 1

    denoiser = world()
    denoiser.register_forward_hook(count_call)
    return integrate(denoiser, solver, levels, start, noise=noise), calls


def first(x):
    """The share of samples nearer to the first mode."""
    return float((x.sum(1) < 0).double().mean())


def run(claim):
    count = 500 if claim.quick else 10_000
    kept, rows = {}, []
    for name in METHODS:
        for seed in claim.seeds:
            x, calls = draw(name, count, seed)
            claim.record(f"share of the first mode, {name}", first(x), seed=seed)
            kept.setdefault(name, x)
        shares = claim.values(f"share of the first mode, {name}")
        off = max(abs(v - WEIGHT) for v in shares)
        rows.append(
            {
                "method": name,
                "network calls": calls,
                "share of the first mode": f"{claim.mean(f'share of the first mode, {name}'):.3f}",
                "largest error over seeds": round(off, 3),
                "spread of a mode (true 1)": round(spread_of_mode(kept[name]), 3),
            }
        )
        if name == "plain":
            least = min(abs(v - WEIGHT) for v in shares)
            claim.check(f"plain dynamics is off by {least:.3f} at least (wanted above 0.2)", least > 0.2)
        if name == "annealed":
            claim.check(f"annealed dynamics is within {off:.3f} of 0.8 (wanted 0.03)", off <= 0.03)
    claim.table(f"{count:,} samples, weights 0.8 and 0.2", rows)
    claim.figure("modes", picture(kept, count))


def spread_of_mode(x):
    """Standard deviation within the first mode, averaged over both axes."""
    return float(x[x.sum(1) < 0].std(0).mean())


def picture(kept, count):
    """The data and what each method makes of them, as points of the plane."""
    drawn = {"data": world().sample(Noise([7], rows=count), torch.float64), **kept}
    whole, axes = figure(10.4, 3.0, 1, 4)
    for ax, (name, x) in zip(axes, drawn.items(), strict=True):
        bare(ax, reach=SQUARE + 1.5)
        points = x[:4000].numpy()
        side = points.sum(1) < 0
        for k, half in enumerate((side, ~side)):
            ax.plot(*points[half].T, ".", ms=1.6, mew=0, alpha=0.35, color=colour(k), rasterized=True)
        ax.set_title(name, color=INK, fontsize=10.5, pad=5)
        for k, (place, share) in enumerate((((-5, -9), first(x)), ((5, 8.6), 1 - first(x)))):
            ax.text(*place, f"{share:.2f}", color=colour(k), ha="center", va="center", fontsize=10)
    whole.supxlabel(
        "share of the samples in each mode; the data have 0.80 and 0.20", color=SOFT, fontsize=9.5
    )
    return whole
