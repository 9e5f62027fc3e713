"""A step-by-step chain of noise and its closed form have the same moments. On real images, for the linear
and the cosine table of DDPM and for the variance-exploding, sub-VP and linear paths.

    chain   x_i = (alpha_i / alpha_{i-1}) x_{i-1} + c_i eps_i,     c_i^2 = sigma_i^2 (1 - SNR_i / SNR_{i-1})
    closed  x_i = alpha_i x_0 + sigma_i eps

Source: Ho et al. 2020, eq. 2 and 4; Song et al. 2021, sec. 3.4.

Passes: composed without chance, scale and variance agree to 1e-10 at every level; drawn step by step for the
64 pixels of 1,797 digits, the residual (x_i - alpha_i x_0) / sigma_i has mean 0 and variance 1 at eleven
levels, each within the bounds that all of them together leave with probability 1 %.
"""

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import chi2, norm

from sfumato.core.noise import Noise
from sfumato.data.builtin import digits
from sfumato.diffusion.clocks import FlowTime, LinearBeta, geometric
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.paths import SubVariancePreserving
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas
from sfumato.diffusion.transition import forward

from .style import INK, colour, figure, tidy

STEPS, LOOKS = 1000, 11
PROCESSES = {
    "VP, linear beta": lambda: BetaTable(linear_betas(STEPS)),
    "VP, cosine": lambda: BetaTable(cosine_betas(STEPS)),
    "sub-VP": lambda: LinearBeta(path=SubVariancePreserving()),
    "linear (flow)": lambda: FlowTime(),
    "VE": lambda: geometric(0.01, 50.0),
}


def levels_of(schedule, steps):
    """Clean data, then the levels at times i / steps; a flow's pure noise is left out, where alpha = 0."""
    last = 1.0 if float(schedule.log_snr(1.0)) > -50 else 1.0 - 1e-3
    return [CLEAN, *(schedule.level(last * (i + 1) / steps) for i in range(steps))]


def composed(levels):
    """The largest relative error of scale and variance over all levels, by composing the steps."""
    scale, var, worst = 1.0, 0.0, 0.0
    for s, t in pairwise(levels):
        step = forward(s, t)
        scale, var = scale * step.alpha, var * step.alpha**2 + step.sigma**2
        worst = max(worst, abs(scale / t.alpha - 1.0), abs(var / t.sigma**2 - 1.0))
    return worst


def walk(x, levels, looks, seed):
    """(level, x_i) of the chain at some steps."""
    noise, kept = Noise([seed], rows=len(x)), {}
    x_i = x
    for i, (s, t) in enumerate(pairwise(levels), 1):
        x_i = forward(s, t).mix(x_i, noise.normal(x.shape, x.dtype))
        if i in looks:
            kept[i] = x_i
    return kept


def run(claim):
    x = digits().batch(range(1797)).x.double()
    steps = 100 if claim.quick else STEPS
    looks = sorted({int(v) for v in np.linspace(1, steps, LOOKS)})
    tests = 2 * len(looks) * len(PROCESSES) * len(claim.seeds)
    limit = float(norm.ppf(1 - 0.01 / tests / 2))
    low, high = (float(chi2.ppf(q, x.numel())) / x.numel() for q in (0.01 / tests / 2, 1 - 0.01 / tests / 2))
    rows, curves = [], {}
    for name, make in PROCESSES.items():
        levels = levels_of(make(), steps)
        exact, worst_mean, least, most = composed(levels), 0.0, 1.0, 1.0
        for seed in claim.seeds:
            for i, x_i in walk(x, levels, looks, seed).items():
                residual = (x_i - levels[i].alpha * x) / levels[i].sigma
                worst_mean = max(worst_mean, abs(float(residual.mean())) * x.numel() ** 0.5)
                variance = float(residual.square().mean())
                least, most = min(least, variance), max(most, variance)
                curves.setdefault(name, {})[i / steps] = float(x_i.std())
        rows.append(
            {
                "process": name,
                "largest error, composed": f"{exact:.1e}",
                "largest mean, in standard errors": round(worst_mean, 2),
                "variance of the residual": f"{least:.4f} ... {most:.4f}",
            }
        )
        claim.record(f"composed error, {name}", exact)
        claim.check(f"{name}: composed moments agree to {exact:.1e} (wanted 1e-10)", exact < 1e-10)
        claim.check(
            f"{name}: drawn means within {worst_mean:.2f} standard errors of 0 (wanted {limit:.2f}), "
            f"variances in {least:.4f} ... {most:.4f} (wanted {low:.4f} ... {high:.4f})",
            worst_mean < limit and low < least and most < high,
        )
    claim.table(f"{steps:,} steps, {x.numel():,} numbers, {len(claim.seeds)} seeds", rows)
    claim.figure("spread", draw(curves, x, steps))


def draw(curves, x, steps) -> Figure:
    """Standard deviation of x_t: the closed form as lines, the chain as points."""
    picture, axes = figure(7.2, 3.6)
    times = np.linspace(0.002, 1.0, 200)
    for k, (name, make) in enumerate(PROCESSES.items()):
        schedule = make()
        level = [schedule.level(float(t)) for t in times * (1.0 if name != "linear (flow)" else 0.999)]
        line = [(v.alpha**2 * float(x.var()) + v.sigma**2) ** 0.5 for v in level]
        axes.plot(times, line, color=colour(k), lw=1.6, label=name)
        axes.plot(list(curves[name]), list(curves[name].values()), "o", color=colour(k), ms=4.5, mew=0)
    axes.set_yscale("log")
    axes.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set_xlabel("t")
    axes.set_ylabel("standard deviation of $x_t$")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    axes.set_title(f"Chain of {steps:,} steps (points) on the closed form (lines)", loc="left", color=INK)
    return tidy(picture)
