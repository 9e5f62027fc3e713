"""A score network trained by denoising over a ladder of noise levels draws digits by annealed Langevin
dynamics. The same network with plain Langevin dynamics at its lowest level does not, and a predictor with a
corrector draws better ones at the same number of network calls.

The recipe `ncsn` on the built-in digits; Frechet distances to the held-out digits in the features of an
independent classifier, beside those of as many training digits and of an ODE solver on the same network.

Source: Song & Ermon 2019, sec. 3 and 4; Song & Ermon 2020; Song et al. 2021, table 1.

Passes: over three seeds, (1) the Frechet distance of annealed dynamics is below a quarter of that of plain
dynamics for every seed; (2) that of the predictor-corrector is below that of annealed dynamics in the mean,
by more than their joint spread.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from sfumato.core.noise import Noise
from sfumato.diffusion.level import Level
from sfumato.evaluation.features import ClassifierFeatures, extract
from sfumato.evaluation.frechet import frechet
from sfumato.models.given import seeds_of
from sfumato.report import grid
from sfumato.samplers.grids import LogSnr
from sfumato.samplers.heun import Heun
from sfumato.samplers.langevin import AnnealedLangevin, PredictorCorrector
from sfumato.samplers.solver import integrate

EXAMPLES = {"score": 80_000, "judge": 25_000}
LOWEST = 0.01


def plans(own):
    """The ways of sampling, with about as many network calls each; the ODE with a third of them."""
    calls = own.steps * own.solver.moves + 1
    bottom = LogSnr(LOWEST, 1.01 * LOWEST)
    return {
        "annealed Langevin": own,
        "predictor-corrector": replace(own, solver=PredictorCorrector(), steps=calls // 2),
        "plain Langevin": replace(own, solver=AnnealedLangevin(calls - 1, 0.5), steps=1, grid=bottom),
        "ODE (Heun)": replace(own, solver=Heun(), steps=max(2, calls // 6)),
    }, calls


def draw(run, plan, count, seed):
    """Samples (count, 1, 8, 8) in one batch, on the grey levels of the data; plain ones start uniformly."""
    density, noise = run.generator.density, Noise(seeds_of(seed, count))
    start = density.draw(count, plan, noise=noise)
    with torch.inference_mode():
        if plan.steps == 1:
            uniform = 2.0 * noise.uniform(start.shape) - 1.0
            start = uniform / plan.grid.levels(density.schedule, 1)[0].sigma
        return run.rounded(density.sample(start, plan, noise=noise).clamp(-1, 1))


def run(claim):
    count, shown, rows = 60 if claim.quick else 1000, {}, []
    for seed in claim.seeds:
        trained = claim.train("ncsn", "digits", examples=EXAMPLES["score"], seed=seed)
        judge = claim.train(
            "classifier", "digits", examples=EXAMPLES["judge"], seed=100 + seed, settings={"width": 24}
        )
        held_out = trained.data.held_out
        unseen = held_out.batch(range(len(held_out))).x
        features = ClassifierFeatures(judge.model, unseen)
        real = extract(features, [unseen])
        floor = extract(features, [trained.training.batch(range(min(count, 1000))).x])
        claim.record("Frechet distance, training digits", frechet(floor, real).value, seed=seed)
        ways, calls = plans(trained.generator.plan)
        for name, plan in ways.items():
            x = draw(trained, plan, count, seed)
            claim.record(f"Frechet distance, {name}", frechet(extract(features, [x]), real).value, seed=seed)
            shown.setdefault(name, x[:40])
    names = list(ways)
    for name in [*names, "training digits"]:
        key = f"Frechet distance, {name}"
        made = {"plain Langevin": calls, "annealed Langevin": calls, "training digits": "–"}
        number = made.get(name, 2 * ways[name].steps - 1 if name in ways else "–")
        rows.append(
            {
                "sampler": name,
                "network calls": number,
                "Frechet": f"{claim.mean(key):.2f} ± {claim.spread(key):.2f}",
            }
        )
    claim.table(f"{count:,} samples against {len(unseen)} held-out digits; spread over seeds", rows)
    judged(claim)
    claim.figure("samples", pictures(shown, trained))
    claim.figure("descent", descent(trained))


def judged(claim):
    """The pass conditions."""
    slow, fast, plain = (
        f"Frechet distance, {n}" for n in ("annealed Langevin", "predictor-corrector", "plain Langevin")
    )
    worst = max(a / b for a, b in zip(claim.values(slow), claim.values(plain), strict=True))
    claim.check(f"annealed over plain at most {worst:.3f} (wanted below 0.25)", worst < 0.25)
    gap = claim.mean(slow) - claim.mean(fast)
    joint = math.hypot(claim.spread(slow), claim.spread(fast))
    claim.check(
        f"predictor-corrector {claim.mean(fast):.2f} below annealed {claim.mean(slow):.2f} "
        f"by more than their joint spread {joint:.2f}",
        gap > joint,
    )


def pictures(shown, trained):
    """Forty samples of each way, side by side."""
    order = ["annealed Langevin", "predictor-corrector", "plain Langevin"]
    sheets = [grid.grid(shown[name], trained.facts, columns=8, zoom=4) for name in order]
    return grid.side_by_side(sheets, order, gap=28)


def descent(trained, columns=12):
    """Six samples on their way down the ladder, each state over the spread it has there."""
    density, plan = trained.generator.density, trained.generator.plan
    levels = plan.grid.levels(density.schedule, plan.steps)
    spread = float(np.mean(trained.facts.std))
    noise, kept = Noise(range(6)), []

    def keep(x_t, level: Level, mean):
        scale = max(1.0, math.hypot(level.sigma, spread) / spread)
        kept.append((x_t / scale).clamp(-1, 1).clone())

    with torch.inference_mode():
        start = levels[0].sigma * noise.normal((6, *trained.facts.shape))
        kept.append(
            integrate(density.denoiser, plan.solver, levels, start, noise=noise, watch=keep).clamp(-1, 1)
        )
    picked = np.linspace(0, len(kept) - 1, columns).round().astype(int)
    frames = torch.stack([kept[i] for i in picked], 1).flatten(0, 1)
    return grid.grid(frames, trained.facts, columns=columns, zoom=6)
