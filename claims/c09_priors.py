"""A prior over a VQ-VAE's codes costs fewer bits than uniform codes. Its samples are far nearer to the data.

    bits per code = -mean log2 p(c_i given c_<i, the levels above)        uniform: log2 K

Digits with one level of codes (`vq-vae`) and two (`vq-vae-2`), three seeds each; MNIST with two levels, one
seed. Beside uniform codes stands a stronger guess: every code by itself as often as in the training images.

Source: van den Oord et al. 2017, sec. 3.3; Razavi et al. 2019.

Passes: for every run and every level the prior's bits per code on held-out images are below log2 K by more
than five standard errors; and the Frechet distance of the prior's samples to held-out images, in the
features of a classifier trained on the same training images, is at most a quarter of that of uniform codes.

The held-out images that judge were also there in training, to choose among a model's averages.
"""

import math

import torch

from sfumato.app.run import batches
from sfumato.evaluation.codes import judge_codes
from sfumato.evaluation.features import ClassifierFeatures, extract
from sfumato.evaluation.frechet import frechet
from sfumato.models.given import Given, seeds_of
from sfumato.report import grid

DIGITS, MNIST, JUDGE = 128_000, 60_000, 40_000
SAMPLES = 1000


def uniform(codec, count, seed):
    """(count, N) codes, each equally likely."""
    g = torch.Generator().manual_seed(seed)
    parts = zip(codec.quantizers, codec.lengths, strict=True)
    return torch.cat([torch.randint(q.size, (count, n), generator=g) for q, n in parts], 1)


@torch.no_grad()
def marginal(run, count, seed):
    """(count, N) codes, each by itself as often on its level as in the training images."""
    g, codec = torch.Generator().manual_seed(seed), run.generator.codec
    known = torch.cat(
        [codec.encode(b.x) for b in batches(run.training, min(5000, len(run.training)), run.device)]
    )
    parts = known.split(codec.lengths, 1)
    return torch.cat(
        [p.flatten()[torch.randint(p.numel(), (count, p.shape[1]), generator=g)] for p in parts], 1
    )


def measured(claim, label, run, judge, seed):
    """Records bits and distances of one run; its row of the table."""
    count = 64 if claim.quick else SAMPLES
    held = run.data.held_out
    unseen = ((b.x, b.label) for b in batches(held, min(len(held), 2000), run.device))
    levels, _ = judge_codes(run.generator, unseen)
    row = {"model": label, "seed": seed}
    for k, level in enumerate(levels, 1):
        top = math.log2(level.size)
        claim.record(f"{label}: bits per code, level {k}", level.bits.value, seed=seed, unit="bits")
        claim.record(
            f"{label}: errors below uniform, level {k}",
            (top - level.bits.value) / level.bits.spread,
            seed=seed,
        )
    row["bits per code"] = ", ".join(
        f"{level.bits.value:.2f} of {math.log2(level.size):.0f}" for level in levels
    )
    row["by frequency"] = ", ".join(f"{math.log2(level.perplexity):.2f}" for level in levels)
    features, seeds = ClassifierFeatures(judge.model, held.batch([0]).x), seeds_of(seed, count)
    real = extract(features, (b.x for b in batches(held, len(held), run.device)))
    wanted = {
        "prior": Given(),
        "uniform codes": Given(codes=uniform(run.generator.codec, count, seed)),
        "codes by frequency": Given(codes=marginal(run, count, seed)),
    }
    for name, given in wanted.items():
        x = run.rounded(run.generator.sample(count, given=given, seeds=seeds))
        row[name] = frechet(extract(features, x.split(250)), real).value
        claim.record(f"{label}: Frechet distance, {name}", row[name], seed=seed)
    train = extract(features, (b.x for b in batches(run.training, count, run.device)))
    row["training images"] = frechet(train, real).value
    return row


def run(claim):
    rows, labels = [], []
    judge = claim.train("classifier", "digits", examples=JUDGE)
    for recipe in ("vq-vae", "vq-vae-2"):
        labels.append(f"{recipe}, digits")
        for seed in claim.seeds:
            model = claim.train(recipe, "digits", examples=DIGITS, seed=seed, settings={"codes": 64})
            rows.append(measured(claim, labels[-1], model, judge, seed))
    if not claim.quick:
        data, test = claim.data("mnist-train"), claim.data("mnist-test")
        judge = claim.train("classifier", data, examples=JUDGE, name="mnist", test=test)
        labels.append("vq-vae-2, MNIST")
        model = claim.train(
            "vq-vae-2", data, examples=MNIST, name="mnist", test=test, settings={"codes": 256}
        )
        rows.append(measured(claim, labels[-1], model, judge, 0))
    claim.table("bits per code on held-out images, and Frechet distance of samples to them", rows)
    seeds = seeds_of(0, 16)
    drawn = model.generator.sample(16, seeds=seeds)
    by_chance = model.generator.sample(
        16, given=Given(codes=uniform(model.generator.codec, 16, 0)), seeds=seeds
    )
    claim.figure("samples", grid.over(drawn, by_chance, model.facts))
    names = sorted({r["name"] for r in claim.records})
    least = min(min(claim.values(n)) for n in names if "errors below" in n)
    claim.check(f"every prior is below uniform: by at least {least:.0f} standard errors (> 5)", least > 5)
    for label in labels:
        pairs = zip(
            claim.values(f"{label}: Frechet distance, prior"),
            claim.values(f"{label}: Frechet distance, uniform codes"),
            strict=True,
        )
        worst = max(a / b for a, b in pairs)
        claim.check(f"{label}: prior over uniform codes, worst seed {worst:.3f} <= 0.25", worst <= 0.25)
