"""A denoising autoencoder rebuilds masked images better than a plain one. Both have the same network, the
same training examples and the same small code; one was trained on images of which 30 % of the values are
hidden, the other on whole ones. Both are then shown the same masked images they have never seen.

Source: Vincent et al. 2010, section 3.

Passes: from inputs with 30 % of the values masked, the denoising autoencoder's mean squared error to the
whole image is at most 0.75 times the plain one's, in the mean over seeds.
"""

import torch

from sfumato.core.noise import Noise
from sfumato.objectives.corruption import Clean, GaussianCorruption, Masking, SaltAndPepper
from sfumato.report import grid

EXAMPLES, RATIO = 100_000, 0.75
INPUTS = {
    "whole": Clean(),
    "30 % masked": Masking(0.3),
    "50 % masked": Masking(0.5),
    "20 % salt and pepper": SaltAndPepper(0.2),
    "Gaussian, std 0.3": GaussianCorruption(0.3),
}


def seen(x, corruption):
    """The inputs both are shown: the same corruption of the same images."""
    return corruption(x, noise=Noise(range(len(x))))


@torch.no_grad()
def rebuilt(run, x):
    """Images through the code and back."""
    return run.model.codec.decode(run.model.codec.encode(x))


def run(claim):
    pictures = []
    for seed in claim.seeds:
        runs = {r: claim.train(r, "digits", examples=EXAMPLES, seed=seed) for r in ("ae", "denoising-ae")}
        held_out = runs["ae"].data.held_out
        x = held_out.batch(range(len(held_out))).x
        for name, corruption in INPUTS.items():
            inputs = seen(x, corruption)
            for recipe, trained in runs.items():
                error = float((rebuilt(trained, inputs) - x).square().mean())
                claim.record(f"{recipe}, {name}", error, seed=seed, unit="mse")
        if seed == claim.seeds[0]:
            inputs = seen(x[:16], INPUTS["30 % masked"])
            shown = {"image": x[:16], "30 % masked": inputs}
            shown |= {recipe: rebuilt(trained, inputs) for recipe, trained in runs.items()}
            facts = runs["ae"].facts
            pictures = [grid.titled(grid.grid(v, facts, columns=16), name) for name, v in shown.items()]
    rows = []
    for name in INPUTS:
        plain, denoising = (claim.mean(f"{recipe}, {name}") for recipe in ("ae", "denoising-ae"))
        spread = claim.spread(f"denoising-ae, {name}")
        rows.append(
            {
                "input": name,
                "ae": round(plain, 4),
                "denoising-ae": f"{denoising:.4f} ± {spread:.4f}",
                "ratio": round(denoising / plain, 3),
            }
        )
    claim.table(f"Mean squared error to the whole image, digits held out, {EXAMPLES:,} examples", rows)
    ratio = rows[1]["ratio"]
    claim.check(f"from 30 % masked inputs {ratio:.3f} times the error (wanted {RATIO})", ratio <= RATIO)
    claim.figure("masked", grid.stack(pictures, [8] * len(pictures)))
    if rows[0]["ratio"] > 1:
        claim.note(
            f"On whole images the denoising autoencoder has {rows[0]['ratio']} times the plain one's error."
        )
