"""DDIM samples a DDPM deterministically, and well in few steps. At eta = 0 an image is a function of x_T, at
eta = 1 it is ancestral sampling; the same x_T leads to the same image in 20 and in 100 steps, and at few
steps the images are better than DDPM's. On digits.

One DDPM (T = 1000, linear betas) for each seed, 1,500 samples for each way, Frechet distance to held-out
digits in the features of one classifier: one of its own for each seed would add its scale to the spread.
The grid optimised for each checkpoint is measured beside.

Source: Song, Meng & Ermon 2021, sec. 4.1, 5.1 and 5.2, table 1.

Passes: over three seeds, (1) DDIM at eta = 0 draws the same twice whatever noise it is handed, and asks for
none; (2) at eta = 1 it draws what ancestral sampling draws, to 1e-4; (3) the distance between the images of
one x_T at 20 and 100 steps is below a third of the distance between images of different x_T for DDIM, and
not for ancestral sampling; (4) at 10 and 20 steps DDIM's Frechet distance is below DDPM's by more than
their joint spread.
"""

import math

import torch

from sfumato.app.console import Console
from sfumato.app.curve import Bench
from sfumato.app.judges import find_judge, judges
from sfumato.core.condition import NOTHING
from sfumato.core.noise import Noise
from sfumato.models.given import Streams, seeds_of
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Trailing
from sfumato.samplers.solver import integrate

from . import digits
from .style import INK, figure, tidy

COUNT, HELD_OUT = 1500, 1 / 3
EXAMPLES = {"model": 40_000, "judge": 25_000}
STEPS = (5, 10, 20, 50, 100)
WAYS = {
    "DDPM": ("ancestral", "trailing"),
    "DDIM": ("ddim", "trailing"),
    "DDIM, optimised grid": ("ddim", "optimised"),
}


class Silence(Noise):
    """Noise that nobody may ask for."""

    def normal(self, shape, dtype=torch.float32):
        raise AssertionError("a deterministic solver drew noise")


def ends(run, solver, steps, noise, count=64):
    """x_0 of the first starts of seed 0 by a solver on the trailing grid, (count, D)."""
    density = run.generator.density
    levels = Trailing().levels(density.schedule, steps)
    start = density.draw(count, run.generator.plan, noise=Streams(seeds_of(0, count))["x_T"])
    with torch.inference_mode():
        denoiser, _ = density.wrapped(run.generator.plan, NOTHING)
        return integrate(denoiser, solver, levels, start * levels[0].sigma, noise=noise).flatten(1)


def between(a, b):
    """Root mean squared distance of rows that belong together, over that of rows that do not."""
    other = b.roll(1, 0)
    return float((a - b).square().mean().sqrt() / (a - other).square().mean().sqrt())


def shown(claim, name, digits=2):
    """Mean and spread over seeds of a recorded number."""
    return f"{claim.mean(name):.{digits}f} ± {claim.spread(name):.{digits}f}"


def laws(claim, run, seed):
    """The three statements about single images."""
    first, second = ends(run, Ddim(), 20, Silence([1] * 64)), ends(run, Ddim(), 20, Silence([2] * 64))
    claim.check(f"seed {seed}: eta = 0 draws the same twice and no noise", torch.equal(first, second))
    ancestral, one = (ends(run, s, 50, Noise(list(range(64)))) for s in (Ancestral(), Ddim(1.0)))
    apart = float((ancestral - one).abs().max())
    claim.check(f"seed {seed}: eta = 1 is ancestral within {apart:.1e} (wanted 1e-4)", apart < 1e-4)
    claim.record("DDIM, 20 against 100 steps", between(first, ends(run, Ddim(), 100, None)), seed=seed)
    drawn = [ends(run, Ancestral(), n, Noise(list(range(64)))) for n in (20, 100)]
    claim.record("DDPM, 20 against 100 steps", between(*drawn), seed=seed)


def run(claim):
    count, console = 60 if claim.quick else COUNT, Console(silent=True)
    judge = claim.train("classifier", "digits", examples=EXAMPLES["judge"], held_out=HELD_OUT, seed=100)
    for seed in claim.seeds:
        model = claim.train("ddpm", "digits", examples=EXAMPLES["model"], held_out=HELD_OUT, seed=seed)
        laws(claim, model, seed)
        train, held_out = model.training, model.data.held_out
        critic = find_judge(model, judge.path, held_out, console)
        features = judges(model, critic, train)[0][0]
        bench = Bench(model, train, held_out, features, count, 0, critic)
        for name, (solver, grid) in WAYS.items():
            for steps in STEPS[:2] if claim.quick else STEPS:
                point = bench.measure(solver, grid, steps)
                claim.record(f"Frechet, {name}, {steps} steps", point.metric.value, seed=seed)
                claim.record(f"seconds an image, {name}, {steps} steps", point.seconds, seed=seed, unit="s")
    checks(claim)


def checks(claim):
    """The statements over all seeds, the table and the picture."""
    ddim, ddpm = (claim.values(f"{name}, 20 against 100 steps") for name in ("DDIM", "DDPM"))
    told = f"{max(ddim):.2f} at most with DDIM (wanted below 0.33), {min(ddpm):.2f} at least with DDPM"
    claim.check(f"20 against 100 steps, in distances between images: {told}", max(ddim) < 1 / 3 < min(ddpm))
    steps = STEPS[:2] if claim.quick else STEPS
    for n in steps[1:3]:
        mine, other = (f"Frechet, {name}, {n} steps" for name in ("DDIM", "DDPM"))
        better = claim.mean(other) - claim.mean(mine) > math.hypot(claim.spread(mine), claim.spread(other))
        told = f"{shown(claim, mine)} with DDIM, {shown(claim, other)} with DDPM"
        claim.check(f"{n} steps: Frechet distance {told}", better)
    rows = [{"steps": n} | {way: shown(claim, f"Frechet, {way}, {n} steps") for way in WAYS} for n in steps]
    claim.table("Frechet distance to held-out digits, mean and spread over seeds", rows)
    claim.figure("steps", picture(claim, steps))


def picture(claim, steps):
    """Frechet distance over steps."""
    whole, ax = figure(5.6, 3.8)
    for k, name in enumerate(WAYS):
        names = [f"Frechet, {name}, {n} steps" for n in steps]
        digits.line(ax, claim, steps, names, k, name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(steps, [str(n) for n in steps])
    ax.minorticks_off()
    ax.set_xlabel("steps")
    ax.set_ylabel("Frechet distance")
    ax.set_title("a DDPM of digits, sampled in few steps", color=INK, fontsize=10.5)
    ax.legend(frameon=False, fontsize=8.5)
    return tidy(whole)
