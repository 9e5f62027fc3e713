"""A diffusion model learns the Swiss roll: its samples lie as near to the data as fresh data do. The data are
points of the plane on a spiral, with a little noise across it. A perceptron learns them by two recipes: the
original one (eps prediction, 1,000 ancestral steps) and the default (18 steps of an ODE solver).

Source: Sohl-Dickstein et al. 2015, figure 1; Ho et al. 2020.

Passes: over three seeds, for the default recipe, the mean Wasserstein distance of 1,500 samples to 1,500
data points is at most 1.15 times that of 1,500 fresh points, and the mean distance of a sample to the spiral
is at most 1.25 times that of fresh points. Both distances are means over 16 sets of samples and of points:
between single sets of 1,500 the ratio varies by 0.17 (one standard deviation).
"""

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from sfumato.core.noise import Noise
from sfumato.diffusion.denoiser import Clipped
from sfumato.diffusion.level import CLEAN, Level
from sfumato.samplers.grids import LogSnr, levels_at
from sfumato.samplers.heun import Heun
from sfumato.samplers.solver import integrate

from .style import INK, bare, figure

POINTS, SETS, NOISE = 1500, 16, 0.3
EXAMPLES = {"ddpm": 400_000, "diffusion": 1_000_000}
ROLL = LinearSegmentedColormap.from_list("roll", ["#20618f", "#3f9a8f", "#c9a227", "#d0632e", "#8f2d56"])
RATIOS = (0.0, 0.06, 0.18, 0.5, 1.5, 8.0)  # sigma/alpha of the pictures


def fresh(count, seed, facts):
    """New points of the roll in model units (count, 2), and the place of each along it."""
    raw = np.random.Generator(np.random.PCG64([*np.atleast_1d(seed).tolist(), 12]))
    t = 1.5 * np.pi * (1.0 + 2.0 * raw.random(count))
    points = np.stack([t * np.cos(t), t * np.sin(t)], 1) + NOISE * raw.standard_normal((count, 2))
    return (points - facts.middle) / facts.half, t


def to_spiral(points, facts):
    """Distance of points in model units to the spiral, and the place along it."""
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 20_000)
    curve = (np.stack([t * np.cos(t), t * np.sin(t)], 1) - facts.middle) / facts.half
    distance, nearest = cKDTree(curve).query(points)
    return distance, t[nearest]


def wasserstein(a, b):
    """Mean distance of the best pairing of two sets of as many points."""
    cost = cdist(a, b)
    return float(cost[linear_sum_assignment(cost)].mean())


def samples(run, count, seed):
    """Points drawn by the run's own plan, all in one batch."""
    density, plan = run.generator.density, run.generator.plan
    noise = Noise([seed], rows=count)
    with torch.inference_mode():
        return density.sample(density.draw(count, plan, noise=noise), plan, noise=noise).numpy()


def distances(points, data, facts):
    """Wasserstein distance to as many data points, and mean distance to the spiral."""
    return wasserstein(points, data), float(to_spiral(points, facts)[0].mean())


def run(claim):
    count, sets = (100, 2) if claim.quick else (POINTS, SETS)
    rows, kept = [], None
    for recipe, examples in EXAMPLES.items():
        for seed in claim.seeds:
            trained = claim.train(recipe, "swiss-roll", examples=examples, seed=seed, settings={"batch": 256})
            facts, found, floor = trained.facts, [], []
            for k in range(sets):
                data, again = (fresh(count, [seed, k, part], facts)[0] for part in (1, 2))
                found.append(distances(samples(trained, count, sets * seed + k), data, facts))
                floor.append(distances(again, data, facts))
            ratios = np.mean(found, 0) / np.mean(floor, 0)
            for name, ratio in zip(("Wasserstein distance", "distance to the spiral"), ratios, strict=True):
                claim.record(f"{recipe}: {name} over that of fresh points", float(ratio), seed=seed)
            kept = trained
        names = [
            f"{recipe}: {n} over that of fresh points"
            for n in ("Wasserstein distance", "distance to the spiral")
        ]
        rows.append(
            {"recipe": recipe, "steps": kept.generator.plan.steps}
            | {n.partition(": ")[2]: f"{claim.mean(n):.3f} ± {claim.spread(n):.3f}" for n in names}
        )
        if recipe == "diffusion":
            for name, most in zip(names, (1.15, 1.25), strict=True):
                mean = claim.mean(name)
                claim.check(f"{name}: {mean:.3f} (wanted at most {most})", mean <= most)
    claim.table("distances relative to those of fresh data points", rows)
    draw(claim, kept)


# ------------------------------------------------------------------------------------- pictures


def framed(level):
    """What a noisy point is divided by for drawing, so that the cloud keeps its size."""
    return (level.alpha**2 + (level.sigma / 0.62) ** 2) ** 0.5


def level_at(ratio):
    """The level of a ratio of noise to signal on the path where noise is added."""
    return CLEAN if ratio == 0 else Level(1.0, ratio)


def scatter(axes, points, place, title):
    """Points coloured by their place along the roll."""
    bare(axes, title, 1.3)
    axes.scatter(*points.T, c=place, cmap=ROLL, s=3.2, lw=0, alpha=0.75, rasterized=True)


def words(ratio):
    """The noise level of a panel."""
    return "data" if ratio == 0 else f"σ/α = {ratio:g}"


def draw(claim, run):
    """Forward, reverse and score field of one run."""
    count = 300 if claim.quick else 4000
    points, place = fresh(count, 99, run.facts)
    x, eps = torch.from_numpy(points).float(), Noise([3], rows=count).normal((count, 2))
    picture, axes = figure(12.0, 2.5, 1, len(RATIOS))
    for ax, ratio in zip(axes, RATIOS, strict=True):
        level = level_at(ratio)
        scatter(ax, (level.mix(x, eps) / framed(level)).numpy(), place, words(ratio))
    claim.figure("forward", picture)
    picture, axes = figure(12.0, 2.5, 1, len(RATIOS))
    for ax, (ratio, state, place) in zip(axes, reverse(run, count), strict=True):
        title = words(ratio) if ratio else "samples"
        scatter(ax, state / framed(level_at(ratio)), place, title)
    claim.figure("reverse", picture)
    claim.figure("score", score_field(run))


def reverse(run, count):
    """(ratio, x_t, place along the roll where it ends) at the drawn levels, from noise to samples."""
    density = run.generator.density
    stops = [r for r in RATIOS[::-1] if r]
    grid = LogSnr(0.002, 80.0).levels(density.schedule, 60)[:-1]
    marks = levels_at(
        density.schedule.path, torch.tensor([-2 * np.log(r) for r in stops], dtype=torch.float64)
    )
    levels = [*sorted([*grid, *marks], key=lambda v: v.log_snr), CLEAN]
    seen = {}

    def keep(x_t, level, mean):
        for ratio in stops:
            if abs(level.sigma / level.alpha / ratio - 1) < 1e-9:
                seen[ratio] = x_t.clone().numpy()

    start = levels[0].sigma * Noise([5], rows=count).normal((count, 2))
    with torch.inference_mode():
        end = integrate(Clipped(density.denoiser, -1.2, 1.2), Heun(), levels, start, watch=keep).numpy()
    _, place = to_spiral(end, run.facts)
    return [*((r, seen[r], place) for r in stops), (0.0, end, place)]


def score_field(run):
    """The learned score as a flow of lines over the density it belongs to, at three levels."""
    picture, axes = figure(12.0, 4.1, 1, 3)
    side = np.linspace(-1.3, 1.3, 61)
    grid = torch.from_numpy(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)).float()
    points, _ = fresh(4000, 98, run.facts)
    for ax, ratio in zip(axes, (0.06, 0.18, 0.5), strict=True):
        level = level_at(ratio)
        with torch.inference_mode():
            field = run.generator.density.denoiser(grid, level).score(grid, level) * level.sigma
        u, v = field.numpy().reshape(61, 61, 2).transpose(2, 0, 1)
        strength = np.hypot(u, v)
        bare(ax, f"{words(ratio)}", 1.3)
        noisy = points + ratio * np.random.default_rng(0).standard_normal(points.shape)
        ax.plot(*noisy.T, ".", ms=1.5, mew=0, alpha=0.28, color="#c08a3e", rasterized=True, zorder=1)
        ax.streamplot(
            side,
            side,
            u,
            v,
            density=1.5,
            color=strength,
            cmap=FIELD,
            linewidth=0.75 + 0.5 * np.tanh(strength),
            arrowsize=0.7,
            zorder=2,
        )
    picture.suptitle("The learned score: where noisy points are drawn to", color=INK, fontsize=11.5)
    return picture


FIELD = LinearSegmentedColormap.from_list("field", ["#b9cbd8", "#3b7ea8", "#173f5f"])
