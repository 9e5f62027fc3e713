"""Predicting x_0, eps, the score, v, the flow or EDM's mix are one linear map apart.

Source: Ho et al. 2020, sec. 3.2 (x_0 and eps); Song et al. 2021 (the score); Salimans & Ho 2022, app. D (v);
Liu et al. 2023 (flow); Karras et al. 2022, table 1 (EDM).

Passes if on every path and for log-SNR from -12 to 12 the round trip of a network's output to the posterior
mean and back, and from one prediction to any other and back, is exact to 1e-9 in float64; and if of networks
trained on digits with the same loss, noise levels and seeds, which differ only in what they predict, the
Frechet distance of the worst is at most 1.5 times that of the best (means over three seeds).

The distance is to 599 held-out digits, in the features of a classifier, from 1,000 samples by 18 UniPC steps.
The common loss is EDM's weight S + 1/d^2 on the x_0 error, at log-normal noise levels, on the VP path.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
from matplotlib.figure import Figure

from sfumato.diffusion import paths, scaling
from sfumato.diffusion.level import Level

from .denoising import frechet_distance
from .harness import Claim
from .style import INK, colour, figure, tidy

ROWS = {
    "x0": scaling.X0Scaling,
    "eps": scaling.EpsScaling,
    "score": scaling.ScoreScaling,
    "v": scaling.VScaling,
    "flow": scaling.FlowScaling,
    "edm": scaling.EdmScaling,
}
PATHS = (paths.VariancePreserving, paths.VarianceExploding, paths.SubVariancePreserving, paths.Linear)
EXAMPLES = 24_000
HELD_OUT = 1 / 3
CLOSE = 1.5  # worst over best


def run(claim: Claim) -> None:
    """The algebra in float64, then six networks for each seed."""
    errors = [round_trips(path().level(log_snr)) for path in PATHS for log_snr in range(-12, 13, 2)]
    worst = max(errors)
    claim.record("largest error of a round trip", worst)
    claim.check(f"round trips between all predictions are exact: {worst:.1e} at most", worst <= 1e-9)
    names = ("x0", "v") if claim.quick else tuple(ROWS)
    judge = claim.train("classifier", "digits", examples=40_000, held_out=HELD_OUT)
    for seed in claim.seeds:
        for name in names:
            trained = claim.train(
                "diffusion",
                "digits",
                name=name,
                seed=seed,
                examples=EXAMPLES,
                held_out=HELD_OUT,
                settings={
                    "model.density.denoiser.scaling": ROWS[name].__name__,
                    "model.density.schedule": "CosineTime",
                },
            )
            distance = frechet_distance(trained, judge.path, seed, 64 if claim.quick else 1000)
            claim.record(f"Frechet distance, {name}", distance, seed=seed)
    means = {name: claim.mean(f"Frechet distance, {name}") for name in names}
    best, last = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    ratio = means[last] / means[best]
    claim.check(
        f"trained networks are close: {last} {means[last]:.3f} is {ratio:.2f} times {best} {means[best]:.3f}",
        ratio <= CLOSE,
    )
    claim.figure("frechet", picture(claim, names))


def round_trips(level: Level) -> float:
    """The largest relative error of output -> mean -> output, and of a detour over another prediction."""
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 64, generator=generator, dtype=torch.float64).unbind()
    x_t = level.mix(x, eps)
    rows = {name: make() for name, make in ROWS.items()}
    found = []
    for here, there in permutations(rows.values(), 2):
        output = here.target(x, x_t, level)
        mean = here.mean(output, x_t, level)
        detour = there.mean(there.target(mean, x_t, level), x_t, level)
        back = here.target(detour, x_t, level)
        found += [(mean - x).abs().max() / x.abs().max(), (back - output).abs().max() / output.abs().max()]
    return float(max(found))


def picture(claim: Claim, names: Sequence[str]) -> Figure:
    """One point a seed for each prediction, and their mean."""
    drawn, axes = figure(6.0, 3.0)
    for i, name in enumerate(names):
        values = claim.values(f"Frechet distance, {name}")
        axes.plot([i] * len(values), values, "o", color=colour(0), alpha=0.6)
        axes.plot(i, sum(values) / len(values), "_", color=INK, markersize=22)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="Fréchet distance to held-out digits", ylim=(0, None))
    return tidy(drawn)
