"""On images with known factors MIG and DCI rise with beta, and so does the error of reconstruction. A dearer
code is spent on fewer units, and these on what varies independently.

A beta-VAE with ten units is trained on the built-in `shapes` (shape, scale, angle, x, y, colour) with
several weights of the KL; nothing else differs. Codes are posterior means of 5,000 images.

Source: Higgins et al. 2017, sec. 4 and fig. 6; Chen et al. 2018, sec. 6; Locatello et al. 2019 for the doubt.

Passes: in the mean over three seeds, MIG and DCI disentanglement of the largest beta exceed those of
beta = 1 by more than the two standard errors together, and the reconstruction error rises with every step
of beta.
"""

import math
from itertools import pairwise

import numpy as np
import torch

from sfumato.app.pictures import rows_picture
from sfumato.app.run import batches
from sfumato.core.noise import Noise
from sfumato.evaluation.disentangle import scores
from sfumato.evaluation.similarity import squared_error

from .style import colour, figure, tidy

BETAS = (1.0, 4.0, 16.0)
EXAMPLES, IMAGES = 60_000, 5000
SHOWN = ("MIG", "DCI disentanglement", "DCI completeness", "FactorVAE score", "SAP", "modularity")


def measured(run, quick):
    """Every score of a run, the error on held-out images, and the KL in nats."""
    _, vae = run.latent()
    count = 400 if quick else IMAGES
    with torch.inference_mode():
        codes = torch.cat([vae.encode(b.x) for b in batches(run.whole, count, run.device)])
        x = run.data.held_out.batch(range(min(1000, len(run.data.held_out)))).x
        error = float(squared_error(x, vae.decode(vae.encode(x))).mean())
        latent = vae.trace(x, noise=Noise([0], rows=len(x))).latents[0]
        kl = float(latent.kl().mean())
    factors = np.asarray(run.whole.factor_values[:count], dtype=np.float64)
    return scores(codes.double().numpy(), factors) | {"error": error, "KL": kl}


def run(claim):
    """Train at every beta and seed, measure, compare the ends."""
    last = None
    for beta in BETAS:
        for seed in claim.seeds:
            trained = claim.train(
                "beta-vae",
                "shapes",
                examples=EXAMPLES,
                seed=seed,
                name=f"beta{beta:g}",
                settings={"beta": beta},
            )
            for name, value in measured(trained, claim.quick).items():
                claim.record(f"{name}, beta {beta:g}", value, seed=seed, unit="nats" if name == "KL" else "")
            last = trained if seed == claim.seeds[0] else last
    first, end = BETAS[0], BETAS[-1]
    for name in SHOWN[:2]:
        low, high = (claim.mean(f"{name}, beta {b:g}") for b in (first, end))
        error = sum(claim.spread(f"{name}, beta {b:g}") for b in (first, end)) / math.sqrt(len(claim.seeds))
        text = f"{name}: {low:.3f} at beta {first:g}, {high:.3f} at beta {end:g}"
        claim.check(f"{text} (standard errors together {error:.3f})", high - low > error)
    errors = [claim.mean(f"error, beta {b:g}") for b in BETAS]
    told = ", ".join(f"{e:.4f}" for e in errors)
    claim.check(f"the reconstruction error rises with beta: {told}", all(a < b for a, b in pairwise(errors)))
    rows = [
        {"beta": b}
        | {n: claim.mean(f"{n}, beta {b:g}") for n in (*SHOWN, "DCI informativeness", "error", "KL")}
        for b in BETAS
    ]
    claim.table("Scores by beta (means over seeds)", rows)
    claim.figure("curve", curve(claim))
    if last is not None:
        claim.figure("traversals", rows_picture(last.traverse(6, 9).rows, last.facts))
    claim.note(
        "The angle of a square or an ellipse cannot be told from the image alone, and hue is a circle no "
        "single unit can go round: no code reaches 1 on all six factors."
    )


def curve(claim):
    """Scores and error against beta."""
    found, (left, right) = figure(8.0, 3.2, 1, 2)
    for i, name in enumerate(SHOWN):
        means = [claim.mean(f"{name}, beta {b:g}") for b in BETAS]
        spreads = [claim.spread(f"{name}, beta {b:g}") for b in BETAS]
        left.errorbar(BETAS, means, spreads, marker="o", markersize=3, color=colour(i), label=name)
    left.set(xscale="log", xlabel="beta", ylabel="score", ylim=(0, 1))
    left.legend(frameon=False, fontsize=7)
    means = [claim.mean(f"error, beta {b:g}") for b in BETAS]
    right.errorbar(
        BETAS, means, [claim.spread(f"error, beta {b:g}") for b in BETAS], marker="o", color=colour(0)
    )
    right.set(xscale="log", xlabel="beta", ylabel="mean squared error of reconstruction")
    return tidy(found)
