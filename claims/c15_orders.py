"""With an exact denoiser the error of every solver falls with the order it promises: no slower, no faster.
On a Gaussian and on a mixture of two, along the variance-preserving, variance-exploding, sub-VP and linear
paths; of the stochastic solvers, the law in which they end, on the Gaussian.

Levels are equally spaced in log-SNR from -5 to 5 (to 4 for the stochastic solvers), numbers are float64.
Errors of the ODE's solvers are those of the end point against the exact flow: the closed form for the
Gaussian, the map that keeps quantiles for the mixture. Errors of the SDE's solvers are those of the mean and
of the standard deviation of the end, added; they are exact too, since on the Gaussian such a solver is an
affine map of its start and draws. The order is the slope of log error over log steps from 192 to 768 steps.
Fewer are not yet asymptotic: between 48 and 192 the error of UniPC-3 falls by a power of up to 4.3.

Source: Song et al. 2021 (DDIM, 1), Karras et al. 2022 (Heun, 2), Lu et al. 2022 (DPM-Solver++ 2M and its
stochastic version, 2), Zhao et al. 2023 (UniPC-p, p + 1), Ho et al. 2020 (ancestral), Kloeden & Platen 1992
(weak orders of Euler-Maruyama, 1, and of the trapezoid, 2).

Passes: every measured order is within 0.15 of the promised one, on both sides, without exception.
"""

import math

import torch

from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import levels_at
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.sde import EulerMaruyama, SdeDpmPlusPlus2M, SdeHeun
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
WEAK = {
    "Euler-Maruyama": (EulerMaruyama(), 1),
    "ancestral": (Ancestral(), 1),
    "SDE-DPM++ 2M": (SdeDpmPlusPlus2M(), 2),
    "SDE trapezoid": (SdeHeun(), 2),
}
COUNTS = (12, 24, 48, 96, 192, 384, 768)
FROM, TO = COUNTS.index(192), COUNTS.index(768)


def line(path, steps, high=5.0):
    """steps + 1 levels equally spaced in log-SNR."""
    return levels_at(path, torch.linspace(-5.0, high, steps + 1, dtype=F64))


def starts(level):
    """Nine starting points at a level."""
    eps = torch.linspace(-2.0, 2.0, 9, dtype=F64)[:, None]
    return level.mix(torch.full_like(eps, 0.3), eps)


def truth(world, path):
    """Where the exact flow ends."""
    t, s = line(path, 1)
    if world == "mixture":
        return kept_quantiles(WORLDS[world], starts(t), t, s)
    wide = spread(s) / spread(t)
    return s.alpha * MEAN + wide * (starts(t) - t.alpha * MEAN)


def spread(level):
    """Standard deviation of x_t on the Gaussian."""
    return math.hypot(level.alpha * STD, level.sigma)


def kept_quantiles(data, x, t, s):
    """F_s^-1(F_t(x)), by bisection: in one dimension trajectories do not cross, so quantiles are kept."""

    def share(x, level):
        """F(x), (n, 1)."""
        wide = torch.sqrt((level.alpha * data.stds) ** 2 + level.sigma**2)
        return (data.weights * torch.special.ndtr((x - level.alpha * data.means[:, 0]) / wide)).sum(1, True)

    wanted, reach = share(x, t), 10.0 * (s.alpha + s.sigma)
    low, high = torch.full_like(x, -reach), torch.full_like(x, reach)
    for _ in range(64):
        middle = 0.5 * (low + high)
        below = share(middle, s) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)


def errors(world, path, solver):
    """The largest error of the end points for each number of steps."""
    exact = truth(world, path)
    found = []
    for steps in COUNTS:
        levels = line(path, steps)
        end = integrate(WORLDS[world], solver, levels, starts(levels[0]))
        found.append(float((end - exact).abs().max()))
    return found


class UnitNoise:
    """Draw k is 1 in row k + 2 and 0 elsewhere: it reads off how an affine sampler weighs each draw."""

    def __init__(self):
        self.drawn = 0

    def normal(self, shape, dtype):
        z = torch.zeros(shape, dtype=dtype)
        z[self.drawn + 2] = 1.0
        self.drawn += 1
        return z


def weak_errors(path, solver):
    """Error of the mean plus that of the standard deviation of the end, by x_0 = a + b x_T + sum c_i z_i."""
    found = []
    for steps in COUNTS:
        levels = line(path, steps, 4.0)
        first, last = levels[0], levels[-1]
        x = torch.zeros(steps + 2, 1, dtype=F64)
        x[1] = 1.0
        out = integrate(WORLDS["Gaussian"], solver, levels, x, noise=UnitNoise())[:, 0]
        a, b, c = float(out[0]), float(out[1] - out[0]), out[2:] - out[0]
        mean, std = a + b * first.alpha * MEAN, math.sqrt((b * spread(first)) ** 2 + float((c**2).sum()))
        found.append(abs(mean - last.alpha * MEAN) + abs(std - spread(last)))
    return found


def run(claim):
    curves = {}
    rows = [measured(claim, name, WORLDS, curves) for name in SOLVERS]
    claim.table("measured orders", rows)
    rows = [measured(claim, name, ("law on the Gaussian",), curves) for name in WEAK]
    claim.table("measured weak orders", rows)
    claim.figure("errors", picture(curves))


def measured(claim, name, worlds, curves):
    """The orders of one solver in each world and on each path, checked against the promised one."""
    solver, promised = (SOLVERS | WEAK)[name]
    row, orders = {"solver": name, "promised": promised}, []
    for world in worlds:
        for where, path in PATHS.items():
            error = errors(world, path, solver) if name in SOLVERS else weak_errors(path, solver)
            order = math.log(error[FROM] / error[TO]) / math.log(COUNTS[TO] / COUNTS[FROM])
            claim.record(f"order of {name}, {world}, {where}", order)
            orders.append(order)
            row[f"{world}, {where}"] = round(order, 2)
            if where == "VP":
                curves.setdefault(world, {})[name] = error
    low, high = min(orders), max(orders)
    kind = "orders" if name in SOLVERS else "weak orders"
    holds = promised - 0.15 < low <= high < promised + 0.15
    claim.check(f"{name}: {kind} {low:.2f} to {high:.2f}, promised {promised} (within 0.15)", holds)
    return row


def picture(curves):
    """Error over steps on the VP path, with the slopes promised."""
    whole, axes = figure(12.6, 3.9, 1, 3)
    for ax, (world, lines) in zip(axes, curves.items(), strict=True):
        for k, (name, error) in enumerate(lines.items()):
            promised = (SOLVERS | WEAK)[name][1]
            ax.loglog(COUNTS, error, "o-", color=colour(k), lw=1.5, ms=3.5, label=f"{name} ({promised})")
            guide = [1.6 * error[-1] * (COUNTS[-1] / n) ** promised for n in COUNTS[FROM:]]
            ax.loglog(COUNTS[FROM:], guide, ":", color=colour(k), lw=0.9)
        ax.set_xticks(COUNTS, [str(n) for n in COUNTS], minor=False)
        ax.minorticks_off()
        ax.set_xlabel("steps")
        ax.set_title(world, color=INK, fontsize=10.5)
        ax.set_ylim(1e-11, 3.0)
    axes[0].set_ylabel("largest error of the end points")
    axes[2].set_ylabel("error of mean and deviation")
    for ax in axes[1:]:
        ax.legend(
            frameon=False, fontsize=8, title="solver (promised order)", title_fontsize=8, loc="lower left"
        )
    return tidy(whole)
