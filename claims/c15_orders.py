"""With an exact denoiser the error of every solver falls with the order it promises. On a Gaussian and on a
mixture of two, along the variance-preserving, variance-exploding, sub-VP and linear paths.

Levels are equally spaced in log-SNR from -5 to 5, errors are those of the end point against the exact flow
(closed form for the Gaussian, UniPC with 800 steps for the mixture), the order is the slope of log error over
log steps from 48 to 192 steps.

Source: Song et al. 2021 (DDIM, 1), Karras et al. 2022 (Heun, 2), Lu et al. 2022 (DPM-Solver++ 2M, 2), Zhao
et al. 2023 (UniPC-p, p + 1).

Passes: every measured order is within 0.15 of the promised one; UniPC-3's may be higher.
"""

import math

import torch

from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import levels_at
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

from .style import INK, colour, figure, tidy

F64 = torch.float64
MEAN, STD = 0.7, 0.5
PATHS = {
    "VP": VariancePreserving(),
    "VE": VarianceExploding(),
    "sub-VP": SubVariancePreserving(),
    "linear": Linear(),
}
SOLVERS = {
    "DDIM": (Ddim(), 1),
    "Heun": (Heun(), 2),
    "DPM++ 2M": (DpmPlusPlus2M(), 2),
    "UniPC-1": (UniPC(1), 2),
    "UniPC-2": (UniPC(2), 3),
    "UniPC-3": (UniPC(3), 4),
}
WORLDS = {
    "Gaussian": GaussianDenoiser(torch.tensor(MEAN, dtype=F64), torch.tensor(STD, dtype=F64)),
    "mixture": MixtureDenoiser(
        torch.tensor([0.3, 0.7], dtype=F64),
        torch.tensor([[-1.0], [1.0]], dtype=F64),
        torch.tensor([0.4, 0.6], dtype=F64),
    ),
}
COUNTS = (12, 24, 48, 96, 192)


def line(path, steps):
    """steps + 1 levels equally spaced in log-SNR."""
    return levels_at(path, torch.linspace(-5.0, 5.0, steps + 1, dtype=F64))


def starts(level):
    """Nine starting points at a level."""
    eps = torch.linspace(-2.0, 2.0, 9, dtype=F64)[:, None]
    return level.mix(torch.full_like(eps, 0.3), eps)


def truth(world, path):
    """Where the exact flow ends."""
    t, s = line(path, 1)
    if world == "mixture":
        return integrate(WORLDS[world], UniPC(3), line(path, 800), starts(t))
    wide = [math.hypot(level.alpha * STD, level.sigma) for level in (t, s)]
    return s.alpha * MEAN + wide[1] / wide[0] * (starts(t) - t.alpha * MEAN)


def errors(world, path, solver):
    """The largest error of the end points for each number of steps."""
    exact = truth(world, path)
    found = []
    for steps in COUNTS:
        levels = line(path, steps)
        end = integrate(WORLDS[world], solver, levels, starts(levels[0]))
        found.append(float((end - exact).abs().max()))
    return found


def run(claim):
    rows, curves = [], {}
    for name, (solver, promised) in SOLVERS.items():
        row, orders = {"solver": name, "promised": promised}, []
        for world in WORLDS:
            for where, path in PATHS.items():
                error = errors(world, path, solver)
                order = math.log(error[2] / error[4]) / math.log(4.0)
                claim.record(f"order of {name}, {world}, {where}", order)
                orders.append(order)
                row[f"{world}, {where}"] = round(order, 2)
                curves.setdefault(world, {}).setdefault(name, error if where == "VP" else [])
        rows.append(row)
        low, high = min(orders), max(orders)
        holds = low > promised - 0.15 and (high < promised + 0.15 or promised == 4)
        claim.check(f"{name}: orders {low:.2f} to {high:.2f}, promised {promised} (within 0.15)", holds)
    claim.table("measured orders", rows)
    claim.figure("errors", picture(curves))


def picture(curves):
    """Error over steps on the VP path, with the slopes promised."""
    whole, axes = figure(9.6, 3.7, 1, 2)
    for ax, (world, lines) in zip(axes, curves.items(), strict=True):
        for k, (name, error) in enumerate(lines.items()):
            promised = SOLVERS[name][1]
            ax.loglog(COUNTS, error, "o-", color=colour(k), lw=1.5, ms=3.5, label=f"{name} ({promised})")
            guide = [1.6 * error[-1] * (COUNTS[-1] / n) ** promised for n in COUNTS[2:]]
            ax.loglog(COUNTS[2:], guide, ":", color=colour(k), lw=0.9)
        ax.set_xticks(COUNTS, [str(n) for n in COUNTS], minor=False)
        ax.minorticks_off()
        ax.set_xlabel("steps")
        ax.set_title(world, color=INK, fontsize=10.5)
    axes[1].set_ylim(axes[0].get_ylim())
    axes[0].set_ylabel("largest error of the end points")
    axes[1].legend(frameon=False, fontsize=8.5, title="solver (promised order)", title_fontsize=8.5)
    return tidy(whole)
