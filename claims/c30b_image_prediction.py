"""On large raw patches a transformer that answers with the image beats one that answers with velocity.

Source: Li & He 2025 ("Back to basics: let denoising generative models denoise"), table 2 and sec. 4: where a
patch has as many numbers as the network has features, predicting noise or velocity breaks down.

Passes if on 8 x 8 x 3 patches of CIFAR-10 (192 numbers, 96 features) the held-out loss of x-prediction is
lower than that of v-prediction in every seed, and its Frechet distance is lower in the mean over three seeds.

The recipe jit; the networks compared differ in what the output means and in nothing else: same loss
(the error of the velocity), same noise levels, same seeds. The loss is over 1,024 test images with the same
draws for all; the distance is to the test images, in the features of a classifier, from 1,000 samples.
Beside them, patches of 4 x 4 x 3 (48 numbers, half of the features), where the paper expects no breakdown.

The held-out images that judge a model were also there in training, to choose among its averages.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from .denoising import ROWS, frechet_distance, held_out_loss
from .harness import Claim
from .style import colour, figure, tidy

PREDICTIONS = {"x": "X0Scaling", "v": "FlowScaling"}
PATCHES = (8, 4)
WIDTH, EXAMPLES = 96, 40_000


def run(claim: Claim) -> None:
    """Two predictions on two sizes of patches for each seed."""
    data, test = claim.data("cifar10-train"), claim.data("cifar10-test")
    judge = claim.train("classifier", data, examples=60_000, test=test, settings={"width": 16})
    rows = []
    for patch in PATCHES:
        for short, row in PREDICTIONS.items():
            for seed in claim.seeds:
                trained = claim.train(
                    "jit",
                    data,
                    name=f"{short}-patch{patch}",
                    seed=seed,
                    examples=EXAMPLES,
                    test=test,
                    settings={"width": WIDTH, "patch": patch, "model.density.denoiser.scaling": row},
                )
                loss = held_out_loss(trained, ROWS if claim.quick else 1_024)
                claim.record(f"loss, {short}, patch {patch}", loss, seed=seed)
                distance = frechet_distance(trained, judge.path, seed, 64 if claim.quick else 1_000)
                claim.record(f"Frechet distance, {short}, patch {patch}", distance, seed=seed)
            names = (f"{what}, {short}, patch {patch}" for what in ("loss", "Frechet distance"))
            loss, distance = (f"{claim.mean(n):.4g} ± {claim.spread(n):.2g}" for n in names)
            numbers = 3 * patch * patch
            rows.append(
                {
                    "patch": f"{patch} x {patch} x 3 = {numbers}",
                    "predicts": short,
                    "loss": loss,
                    "Fréchet": distance,
                }
            )
    claim.table(f"jit of width {WIDTH} after {EXAMPLES:,} examples", rows)
    x, v = (claim.values(f"loss, {short}, patch 8") for short in PREDICTIONS)
    gains = [1 - a / b for a, b in zip(x, v, strict=True)]
    claim.check(
        f"the loss of x-prediction is lower in every seed (by {100 * min(gains):.1f} % at least)",
        min(gains) > 0,
    )
    x_mean, v_mean = (claim.mean(f"Frechet distance, {short}, patch 8") for short in PREDICTIONS)
    claim.check(f"its Frechet distance is lower: {x_mean:.3g} against {v_mean:.3g}", x_mean < v_mean)
    claim.figure("patches", picture(claim))


def picture(claim: Claim) -> Figure:
    """Loss and distance of either prediction over the side of a patch."""
    drawn, axes = figure(7.0, 3.0, 1, 2)
    for axis, what in zip(axes, ("loss", "Frechet distance"), strict=True):
        for i, short in enumerate(PREDICTIONS):
            names = [f"{what}, {short}, patch {patch}" for patch in sorted(PATCHES)]
            means, spreads = [claim.mean(n) for n in names], [claim.spread(n) for n in names]
            words = f"predicts {short}"
            axis.errorbar(sorted(PATCHES), means, spreads, fmt="o-", color=colour(i), label=words, capsize=3)
        axis.set(xlabel="side of a patch, pixels", ylabel=what.replace("Frechet", "Fréchet"))
        axis.set_xticks(sorted(PATCHES))
    axes[0].legend(frameon=False)
    return tidy(drawn)
