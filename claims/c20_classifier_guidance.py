"""A classifier of noisy images makes an unconditional model class-conditional, and its scale trades diversity
for accuracy. On digits, with the two forms of the guidance: DDIM's shift of the noise, and the shift of the
mean of ancestral steps.

One diffusion model without classes and one classifier of noisy images for each seed; the classes of the
samples are read by an independent classifier, trained on clean images with another seed and width. Accuracy
is the share of samples read as the class that was asked for; recall is the share of the manifold of
training images that the samples cover.

Source: Dhariwal & Nichol 2021, sec. 4, alg. 1 and 2, figure 4.

Passes: over three seeds, (1) at scale 0 the guided sampler draws the same images as the unguided one, to
the bit; (2) accuracy at scale 0 is within 0.05 of chance, rises from 0 to 1 and from 1 to 2, and is above
0.8 at scale 4, in both forms; (3) recall at scale 4 is below recall at scale 1, by more than their joint
spread, in both forms.
"""

import math

import numpy as np

from sfumato.app.console import Console
from sfumato.app.evaluate import evaluate

from . import digits
from .style import INK, SOFT, figure, tidy

SCALES = (0.0, 1.0, 2.0, 4.0)
FORMS = {
    "DDIM, 25 steps": {"solver": "ddim", "steps": 25},
    "ancestral, 60 steps": {"solver": "ancestral", "steps": 60},
}
COUNT, HELD_OUT = 600, 1 / 3
EXAMPLES = {"model": 40_000, "guide": 40_000, "judge": 25_000}
METRICS = {
    "accuracy": "label accuracy",
    "recall": "recall",
    "precision": "precision",
    "Frechet": "Frechet distance",
}
QUIET = Console(silent=True)


def measured(run, judge, count, **asked):
    """The metrics of one way of sampling, by the independent classifier and in its features."""
    found = evaluate(run, count=count, judge=judge, console=QUIET, **asked)
    return {
        key: next(m for m in found.metrics if m.name == name and m.protocol.features.startswith("classifier"))
        for key, name in METRICS.items()
    }


def shown(claim, name, digits=3):
    """Mean and spread over seeds of a recorded number."""
    return f"{claim.mean(name):.{digits}f} ± {claim.spread(name):.{digits}f}"


def run(claim):
    count = 60 if claim.quick else COUNT
    for seed in claim.seeds:
        model = claim.train("diffusion", "digits", examples=EXAMPLES["model"], held_out=HELD_OUT, seed=seed)
        guide = claim.train(
            "classifier",
            "digits",
            examples=EXAMPLES["guide"],
            held_out=HELD_OUT,
            seed=seed,
            name="noisy",
            settings={"noisy": True},
        ).path
        judge = digits.judge(claim, examples=EXAMPLES["judge"], held_out=HELD_OUT, seed=seed)
        for form, words in FORMS.items():
            words = words | ({"steps": 3} if claim.quick else {})
            plain, asked = model.sample(16, **words), {**words, "classifier": guide}
            same = np.array_equal(model.sample(16, guidance=0.0, **asked), plain)
            claim.check(f"seed {seed}, {form}: scale 0 draws what the unguided sampler draws", same)
            for scale in SCALES:
                found = measured(model, judge, count, guidance=scale, **asked)
                for key, metric in found.items():
                    claim.record(f"{key} at {scale:g}, {form}", metric.value, seed=seed)
    for form in FORMS:
        checks(claim, form)
        rows = [
            {"scale": scale} | {key: shown(claim, f"{key} at {scale:g}, {form}") for key in METRICS}
            for scale in SCALES
        ]
        claim.table(f"{form}; {count:,} samples, mean and spread over seeds", rows)
    claim.figure("scale", picture(claim))


def checks(claim, form):
    """The pass conditions of one form of guidance."""
    accuracy = [claim.mean(f"accuracy at {s:g}, {form}") for s in SCALES]
    told = ", ".join(f"{a:.3f} at {s:g}" for s, a in zip(SCALES, accuracy, strict=True))
    rising = accuracy[0] < accuracy[1] < accuracy[2]
    holds = abs(accuracy[0] - 0.1) < 0.05 and rising and accuracy[3] > 0.8
    claim.check(f"{form}: accuracy {told} (chance at 0, rising to 2, above 0.8 at 4)", holds)
    one, four = (f"recall at {s:g}, {form}" for s in (1.0, 4.0))
    falls = claim.mean(one) - claim.mean(four) > math.hypot(claim.spread(one), claim.spread(four))
    claim.check(f"{form}: recall falls from {shown(claim, one)} at 1 to {shown(claim, four)} at 4", falls)


def picture(claim):
    """Accuracy and recall over the scale."""
    whole, axes = figure(8.6, 3.3, 1, 2)
    for ax, key in zip(axes, ("accuracy", "recall"), strict=True):
        for k, form in enumerate(FORMS):
            names = [f"{key} at {s:g}, {form}" for s in SCALES]
            digits.line(ax, claim, SCALES, names, k, form)
        ax.set_xlabel("guidance scale")
        ax.set_title(key, color=INK, fontsize=10.5)
        ax.set_xticks(SCALES)
        ax.set_ylim(0, 1.02)
    axes[0].axhline(0.1, color=SOFT, lw=0.8, ls=":")
    axes[0].legend(frameon=False, fontsize=8.5)
    return tidy(whole)
