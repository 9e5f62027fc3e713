"""The continuous bound does not depend on a schedule's interior, and learning the schedule pays. Between the
same two ends of log-SNR the loss has the same mean however time runs through them; its variance differs. A
schedule learned with the network, its ends for the bound and its interior for the variance, gives a loss of
less variance than fixed ones and fewer bits per dimension.

Source: Kingma et al. 2021, sections 5.1 and 5.2, figure 4 and table 2.

Passes: (1) for a trained network, the means of the loss under a line in log-SNR, a cosine and a learned
interior agree within four standard errors of their differences, at the same ends; (2) in the mean over seeds
the per-image variance of the loss is smaller under the learned schedule than under the line and under the
cosine, all between the learned ends; (3) in the mean over seeds the held-out bound in bits per dimension is
lower for the model trained with a learned schedule than for the same model trained on a fixed line.
"""

import torch

from sfumato.core.noise import Noise, seed_of
from sfumato.diffusion.clocks import CosineTime, LogSnrLine
from sfumato.diffusion.learned import LearnedSnr
from sfumato.evaluation.variational import variational_bounds
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.objectives.vdm import Vdm

from .style import colour, figure, tidy

EXAMPLES, DRAWS, IMAGES = 40_000, 30, 400
LOW, HIGH = -5.0, 7.742  # the ends the digits recipe begins with, kept by the fixed line
SETTINGS = {"width": 32, "batch": 64}
FIXED = {
    "model.density.schedule": "LogSnrLine",
    "model.density.schedule.low": LOW,
    "model.density.schedule.high": HIGH,
}


def ends_of(schedule):
    """The log-SNR at the noisy and at the clean end."""
    return float(schedule.log_snr(1.0)), float(schedule.log_snr(schedule.earliest))


def between(run):
    """The run's own learned schedule, and others between its ends."""
    own = run.model.density.schedule
    low, high = ends_of(own)
    return {"learned": own, "line": LogSnrLine(low, high), "cosine": CosineTime(low, high)}


def losses(claim, run, schedule):
    """Single-draw losses of held-out images in bits/dim, (draws, images)."""
    held_out = run.data.held_out
    batch = held_out.batch(range(min(IMAGES, len(held_out))))
    own = run.model
    density = Diffusion(own.density.denoiser, schedule, run.facts.shape)
    model = Generator(own.codec, density, own.conditioner, own.plan).eval()
    found = []
    with torch.no_grad():
        for k in range(3 if claim.quick else DRAWS):
            noise = Noise([seed_of("c17", k, i) for i in range(len(batch))])
            found.append(Vdm(run.facts.levels)(model, batch, noise=noise, seen=0).total)
    return torch.stack(found)


def bound(claim, run):
    """The held-out bound in bits/dim."""
    held_out = run.data.held_out
    batch = held_out.batch(range(min(64 if claim.quick else IMAGES, len(held_out))))
    found, _ = variational_bounds(run.generator, [batch], run.facts.levels, terms=8 if claim.quick else 64)
    return found[0].bits


def run(claim):
    curves = None
    for seed in claim.seeds:
        learned, line = (
            claim.train("vdm", "digits", examples=EXAMPLES, seed=seed, name=name, settings=SETTINGS | fixed)
            for name, fixed in (("learned", {}), ("line", FIXED))
        )
        for name, trained in (("learned", learned), ("line", line)):
            claim.record(f"bound, {name} schedule", bound(claim, trained).value, seed=seed, unit="bits/dim")
        found = {name: losses(claim, learned, schedule) for name, schedule in between(learned).items()}
        for name, loss in found.items():
            claim.record(f"mean loss, {name}", float(loss.mean()), seed=seed, unit="bits/dim")
            claim.record(f"variance of the loss, {name}", float(loss.var(0).mean()), seed=seed)
        for name in ("line", "cosine"):
            apart = found[name].mean(0) - found["learned"].mean(0)  # image by image
            apart, error = float(apart.mean()), float(apart.std()) / len(apart) ** 0.5
            told = f"seed {seed}: the mean under {name} is {apart:+.4f} bits/dim off the learned one's"
            claim.check(f"{told} (standard error {error:.4f})", abs(apart) < 4 * error)
        if curves is None:
            curves = between(learned)
    variances = {k: claim.mean(f"variance of the loss, {k}") for k in ("learned", "line", "cosine")}
    for name in ("line", "cosine"):
        told = f"variance {variances['learned']:.4f} under the learned schedule"
        claim.check(f"{told}, {variances[name]:.4f} under {name}", variances["learned"] < variances[name])
    better, worse = (claim.mean(f"bound, {name} schedule") for name in ("learned", "line"))
    told = f"{better:.3f} bits/dim with a learned schedule, {worse:.3f} with a fixed line"
    claim.check(told, better < worse)
    claim.table(
        "Digits held out, mean over seeds",
        [
            {
                "schedule": name,
                "mean loss": round(claim.mean(f"mean loss, {name}"), 4),
                "variance": round(variances[name], 4),
            }
            for name in variances
        ],
    )
    picture, axes = figure(6.4, 3.0)
    t = torch.linspace(0, 1, 201, dtype=torch.float64)
    for i, (name, schedule) in enumerate(curves.items()):
        axes.plot(t, schedule.clock(t).detach(), color=colour(i), label=name)
    axes.set(xlabel="time", ylabel="log-SNR")
    axes.legend()
    claim.figure("schedules", tidy(picture))
    assert isinstance(curves["learned"], LearnedSnr)
