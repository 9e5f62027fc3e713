"""Classifier-free guidance trades diversity for accuracy over its scale. Limited to an interval of noise
levels, or with a worse version of the model in the place of the unconditional one, it loses less diversity.
On digits.

One class-conditional diffusion model for each seed, its condition dropped for a tenth of the examples;
samples are asked for each class as often as the training images have it and read by an independent
classifier. The interval is log-SNR -2.5 to 3; the worse version is the run's own average of the weights at
an eighth of training.

Source: Ho & Salimans 2022, sec. 4 and figure 4; Kynkaanniemi et al. 2024; Karras et al. 2024
(autoguidance).

Passes: over three seeds, (1) scale 1 draws what the conditional model draws, and scale 0 what the same
seeds draw without any condition, to the bit; (2) accuracy rises from scale 0 (within 0.05 of chance) to 1
and to 2, and is not lower at 4 than at 1; (3) recall at scale 4 is below recall at 1 by more than their
joint spread; (4) at scale 4 recall within the interval, and with autoguidance, is above recall with
guidance at all levels.
"""

import math
from dataclasses import replace

import torch

from sfumato.app.console import Console
from sfumato.app.evaluate import evaluate
from sfumato.models.given import Streams, seeds_of

from . import digits
from .style import INK, SOFT, colour, figure, tidy

SCALES = (0.0, 1.0, 2.0, 4.0)
COUNT, HELD_OUT = 600, 1 / 3
EXAMPLES = {"model": 40_000, "judge": 25_000}
METRICS = {
    "accuracy": "label accuracy",
    "recall": "recall",
    "precision": "precision",
    "Frechet": "Frechet distance",
}
KINDS = ("all levels", "interval", "autoguidance")
INTERVAL = "-2.5,3"
QUIET = Console(silent=True)


def asked(kind, run, scale, quick):
    """The words of the command line for a kind of guidance."""
    words = {"guidance": scale} | ({"steps": 3} if quick else {})
    if kind == "interval" and scale != 1:
        words["interval"] = INTERVAL
    if kind == "autoguidance" and scale != 1:
        words["guide"] = run.path
    return words


def scales_of(kind):
    """The scales at which a kind of guidance is something of its own."""
    return SCALES if kind == "all levels" else SCALES[2:]


def identities(run):
    """Whether scale 1 is the conditional, and scale 0 the unconditional denoiser's sample, to the bit."""
    generator, streams = run.generator, Streams(seeds_of(0, 16))
    density, plan = generator.density, generator.plan
    with torch.inference_mode():
        given = generator.drawn(run.given(16, "3"), plan, streams)
        cond = generator.conditioner.imagine(given)
        nothing = cond.drop(torch.zeros(16, dtype=torch.bool))
        for scale, same in ((1.0, cond), (0.0, nothing)):
            guided = density.sample(given.x_T, replace(plan, scale=scale), cond=cond)
            if not torch.equal(guided, density.sample(given.x_T, plan, cond=same)):
                return False
    return True


def shown(claim, name, digits=3):
    """Mean and spread over seeds of a recorded number."""
    return f"{claim.mean(name):.{digits}f} ± {claim.spread(name):.{digits}f}"


def run(claim):
    count = 60 if claim.quick else COUNT
    for seed in claim.seeds:
        model = claim.train(
            "diffusion",
            "digits",
            examples=EXAMPLES["model"],
            held_out=HELD_OUT,
            seed=seed,
            settings={"conditional": True},
        )
        judge = digits.judge(claim, examples=EXAMPLES["judge"], held_out=HELD_OUT, seed=seed)
        claim.check(
            f"seed {seed}: scales 0 and 1 are the unconditional and the conditional model", identities(model)
        )
        for kind in KINDS:
            for scale in scales_of(kind):
                found = evaluate(
                    model, count=count, judge=judge, console=QUIET, **asked(kind, model, scale, claim.quick)
                ).metrics
                for key, name in METRICS.items():
                    mine = [
                        m for m in found if m.name == name and m.protocol.features.startswith("classifier")
                    ]
                    claim.record(f"{key} at {scale:g}, {kind}", mine[0].value, seed=seed)
    rows = [
        {"guidance": kind, "scale": scale}
        | {key: shown(claim, f"{key} at {scale:g}, {kind}") for key in METRICS}
        for kind in KINDS
        for scale in scales_of(kind)
    ]
    claim.table(f"{count:,} samples of 18 steps, mean and spread over seeds", rows)
    checks(claim)
    claim.figure("scale", picture(claim))


def checks(claim):
    """The pass conditions over all seeds."""
    accuracy = [claim.mean(f"accuracy at {s:g}, all levels") for s in SCALES]
    told = ", ".join(f"{a:.3f} at {s:g}" for s, a in zip(SCALES, accuracy, strict=True))
    rising = accuracy[0] < accuracy[1] < accuracy[2] and accuracy[3] >= accuracy[1]
    holds = abs(accuracy[0] - 0.1) < 0.05 and rising
    claim.check(f"accuracy {told} (chance at 0, rising to 2, not lower at 4 than at 1)", holds)
    one, four = (f"recall at {s:g}, all levels" for s in (1.0, 4.0))
    falls = claim.mean(one) - claim.mean(four) > math.hypot(claim.spread(one), claim.spread(four))
    claim.check(f"recall falls from {shown(claim, one)} at 1 to {shown(claim, four)} at 4", falls)
    for kind in KINDS[1:]:
        mine = f"recall at 4, {kind}"
        told = f"recall at scale 4: {shown(claim, mine)} with {kind}, {shown(claim, four)} at all levels"
        claim.check(told, claim.mean(mine) > claim.mean(four))


def picture(claim):
    """Accuracy over recall, one line for each kind of guidance."""
    whole, ax = figure(5.6, 4.0)
    for k, kind in enumerate(KINDS):
        scales = SCALES if kind == "all levels" else (1.0, *SCALES[2:])
        names = [f"{s:g}, {kind if s > 1 else KINDS[0]}" for s in scales]
        x, y = ([claim.mean(f"{key} at {name}") for name in names] for key in ("recall", "accuracy"))
        ax.plot(x, y, "o-", color=colour(k), lw=1.5, ms=4.5, label=kind)
        for s, a, b in zip(scales, x, y, strict=True):
            if kind == "all levels" or s > 1:
                ax.annotate(
                    f"{s:g}", (a, b), textcoords="offset points", xytext=(5, 5), color=SOFT, fontsize=8
                )
    ax.set_xlabel("recall: share of the real variety covered")
    ax.set_ylabel("accuracy: share read as the class asked for")
    ax.set_title("guidance on digits; the numbers are scales", color=INK, fontsize=10.5)
    ax.legend(frameon=False, fontsize=8.5)
    return tidy(whole)
