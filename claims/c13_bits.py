"""A diffusion model's bits per dimension fall with each step of its history: the linear table trained on
L_simple, the cosine table in its place, the hybrid loss with a learned reverse variance, and the continuous
bound itself with a learned schedule. All four have the same U-Net but for its outer layers (the hybrid has
twice the outputs, the continuous one Fourier features beside its input), the same training images and
learning rate, and see the same number of examples. A tenth of the training file chooses among the averages
of the weights; the bound is that of images of the test file, which chose nothing.

The two models of fixed reverse variance are bounded with either choice of it, beta and that of the true
posterior, and are given the better one on each data set and seed.

Source: Nichol & Dhariwal 2021, sections 3.1 to 3.3 and tables 1 and 2; Kingma et al. 2021, section 6. On
CIFAR-10, trained for hundreds of thousands of steps on GPUs, they report 3.73 (simple, linear), 3.57 (simple,
cosine), 3.37 (hybrid, cosine) and 2.65 (continuous) bits/dim.

Passes: on CIFAR-10, MNIST and Fashion-MNIST each, the mean over seeds of the test bound falls strictly in
the order linear-simple, cosine-simple, cosine-hybrid, vdm; on each data set every fall is larger than twice
the standard error of the difference over seeds.

The budget is that of two CPU cores in half an hour for everything: 24,000 examples a model, three seeds on
each data set, 24 channels in the first level. No model is near its end there, so the numbers say what a
little training gives, and their distance to the papers' is told.
"""

import math
from itertools import pairwise

from sfumato.diffusion.transition import LargeVariance, SmallVariance
from sfumato.evaluation.variational import variational_bounds

from .style import colour, figure, tidy

EXAMPLES, WIDTH, IMAGES, TERMS = 24_000, 24, 400, 24
DATA = ("cifar10", "mnist", "fashion-mnist")
PAPER = {"linear-simple": 3.73, "cosine-simple": 3.57, "cosine-hybrid": 3.37, "vdm": 2.65}
KINDS = {
    "linear-simple": ("ddpm", {}),
    "cosine-simple": ("ddpm", {"cosine": True}),
    "cosine-hybrid": ("improved-ddpm", {}),
    "vdm": ("vdm", {}),
}
COMMON = {"width": WIDTH, "batch": 16, "stages.diffusion.rate": "Cosine", "stages.diffusion.rate.peak": 2e-3}


FIXED = {"beta": LargeVariance(), "posterior": SmallVariance()}


def bound(claim, run, test, variance=None):
    """Bits per dimension of test images and its terms, with the standard error over images."""
    unseen = run.fitting(test)
    count = min(64 if claim.quick else IMAGES, len(unseen))
    batches = (unseen.batch(range(i, min(i + 100, count))) for i in range(0, count, 100))
    terms = 4 if claim.quick else TERMS
    found, _ = variational_bounds(run.generator, batches, run.facts.levels, terms=terms, variance=variance)
    return {b.name.removeprefix("VLB").strip() or "total": b.bits for b in found}


def best_bound(claim, run, test, data, kind, seed):
    """The bound of a run; of a fixed reverse variance the better one, with both recorded."""
    if not kind.endswith("simple"):
        return bound(claim, run, test)
    both = {word: bound(claim, run, test, variance) for word, variance in FIXED.items()}
    for word, found in both.items():
        claim.record(f"{data}, {kind}, variance {word}", found["total"].value, seed=seed, unit="bits/dim")
    return min(both.values(), key=lambda found: found["total"].value)


def measured(claim, data):
    """Every kind trained and judged on one data set, for every seed."""
    path, test = (claim.data(f"{data}-{part}") for part in ("train", "test"))
    for seed in claim.seeds:
        for kind, (recipe, dials) in KINDS.items():
            run = claim.train(
                recipe, path, examples=EXAMPLES, seed=seed, name=f"{data}-{kind}", settings=dials | COMMON
            )
            found = best_bound(claim, run, test, data, kind, seed)
            for term, value in found.items():
                claim.record(f"{data}, {kind}, {term}", value.value, seed=seed, unit="bits/dim")
            if seed == claim.seeds[0]:
                claim.record(f"{data}, {kind}, error over images", found["total"].spread, seed=seed)


def fall(claim, data, worse, better):
    """How much lower `better` is, the mean over seeds, and its standard error."""
    before, after = (claim.values(f"{data}, {kind}, total") for kind in (worse, better))
    gaps = [a - b for a, b in zip(before, after, strict=True)]
    mean = sum(gaps) / len(gaps)
    if len(gaps) < 2:
        return mean, 0.0
    return mean, math.sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))


def run(claim):
    rows = []
    for data in DATA:
        measured(claim, data)
        kinds = list(KINDS)
        for worse, better in pairwise(kinds):
            mean, error = fall(claim, data, worse, better)
            claim.check(f"{data}: {worse} - {better} = {mean:.3f} ± {error:.3f} bits/dim", mean > 2 * error)
        for kind in kinds:
            row = {"data": data, "model": kind}
            total = f"{data}, {kind}, total"
            row["bits/dim"] = f"{claim.mean(total):.3f} ± {claim.spread(total):.3f}"
            for term in ("prior", "steps", "decoder"):
                row[term] = round(claim.mean(f"{data}, {kind}, {term}"), 4)
            row["error over images"] = round(claim.mean(f"{data}, {kind}, error over images"), 3)
            row["paper (CIFAR-10)"] = PAPER[kind] if data == "cifar10" else ""
            rows.append(row)
    claim.table(f"Bound on test images after {EXAMPLES:,} examples, mean ± deviation over seeds", rows)
    picture, axes = figure(6.4, 3.0)
    for i, data in enumerate(DATA):
        means = [claim.mean(f"{data}, {kind}, total") for kind in KINDS]
        axes.errorbar(
            range(len(KINDS)),
            means,
            [claim.spread(f"{data}, {kind}, total") for kind in KINDS],
            color=colour(i),
            marker="o",
            label=data,
        )
    axes.set_xticks(range(len(KINDS)), list(KINDS))
    axes.set(ylabel="bits per dimension")
    axes.legend()
    claim.figure("bits", tidy(picture))
