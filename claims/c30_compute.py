"""The denoising loss falls with compute over three sizes, for the U-Net and for the transformer.

Source: Peebles & Xie 2023, sec. 5 and fig. 8 (DiT: more Gflops, lower FID); Ho et al. 2020 (U-Net).

Passes if for either network the mean held-out loss after the same number of training examples is lower for
each larger size (in FLOPs of a forward pass) than for the size below it, and lower in every seed from the
smallest to the largest.

CIFAR-10, 20,000 training images; the loss is that of the recipe (EDM's weight, log-normal noise levels) on
1,024 test images with the same noise for all networks, which differ in nothing but kind and width. Compute
is 3 x forward FLOPs x examples.

The held-out images that judge a model were also there in training, to choose among its averages.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from .denoising import ROWS, forward_flops, held_out_loss
from .harness import Claim
from .style import colour, figure, tidy

SIZES = {"diffusion": (12, 24, 48), "dit": (48, 96, 144)}  # widths
NAMES = {"diffusion": "U-Net", "dit": "DiT"}
EXAMPLES = 20_000
JUDGED = 1_024


def run(claim: Claim) -> None:
    """Three widths of two networks for each seed."""
    train, test = claim.data("cifar10-train"), claim.data("cifar10-test")
    rows = []
    for recipe, widths in SIZES.items():
        for width in widths:
            for seed in claim.seeds:
                trained = claim.train(
                    recipe,
                    train,
                    name=f"width{width}",
                    seed=seed,
                    examples=EXAMPLES,
                    test=test,
                    settings={"width": width},
                )
                value = held_out_loss(trained, ROWS if claim.quick else JUDGED)
                claim.record(label(recipe, width), value, seed=seed)
            rows.append(
                {
                    "network": NAMES[recipe],
                    "width": width,
                    "parameters, M": round(sum(p.numel() for p in trained.model.parameters()) / 1e6, 2),
                    "forward, MFLOP": round(forward_flops(trained) / 1e6, 1),
                    "training, PFLOP": round(3 * forward_flops(trained) * EXAMPLES / 1e15, 4),
                    "held-out loss": round(claim.mean(label(recipe, width)), 5),
                    "spread": round(claim.spread(label(recipe, width)), 5),
                }
            )
    claim.table(f"After {EXAMPLES:,} examples", rows)
    for recipe in SIZES:
        judge(claim, recipe)
    claim.figure("loss", picture(rows))


def judge(claim: Claim, recipe: str) -> None:
    """The two conditions for one kind of network."""
    names = [label(recipe, width) for width in SIZES[recipe]]
    means = [claim.mean(name) for name in names]
    said = " > ".join(f"{m:.4f}" for m in means)
    claim.check(
        f"{NAMES[recipe]}: the mean loss falls with every size ({said})", means[0] > means[1] > means[2]
    )
    first, last = claim.values(names[0]), claim.values(names[-1])
    gains = [a - b for a, b in zip(first, last, strict=True)]
    claim.check(
        f"{NAMES[recipe]}: the largest beats the smallest in every seed, by {min(gains):.4f} at least",
        min(gains) > 0,
    )


def label(recipe: str, width: int) -> str:
    """What the loss of a size is recorded as."""
    return f"{NAMES[recipe]}, width {width}: held-out loss"


def picture(rows: list[dict[str, Any]]) -> Figure:
    """Loss against training compute."""
    drawn, axes = figure(6.0, 3.4)
    for i, name in enumerate(NAMES.values()):
        mine = [r for r in rows if r["network"] == name]
        x, y = [r["training, PFLOP"] for r in mine], [r["held-out loss"] for r in mine]
        axes.errorbar(x, y, [r["spread"] for r in mine], fmt="o-", color=colour(i), label=name, capsize=3)
    axes.set(xscale="log", xlabel="training compute, PFLOP", ylabel="held-out loss")
    axes.legend(frameon=False)
    return tidy(drawn)
