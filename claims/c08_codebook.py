"""A VQ-VAE uses at least nine tenths of its codes over an epoch. The gradient passes its codes unchanged, and
its codebook follows the averages of what chose each code.

    d loss / d z = d loss / d e_c
    N_k <- g N_k + (1 - g) n_k,   m_k <- g m_k + (1 - g) sum z,   e_k = m_k / N_k

MNIST, 512 codes on a grid of 7 x 7, started by k-means, dead codes restarted. For comparison, one seed each:
no restarts; a codebook trained by its gradient, without restarts.

Source: van den Oord et al. 2017, sec. 3 and eq. 6 - 8; users report 40 of 512 codes in use
(bshall/VectorQuantizedVAE, issue 3).

Passes: on every one of three seeds training completed an epoch, and at least 90 % of the 512 codes are chosen
at least once, both in the last complete epoch and by the finished model over all training images; at the
trained model the gradient at z equals the gradient at the embeddings to the bit; ten steps of the codebook
equal the formula, computed in double precision code by code, to a relative 1e-4.
"""

import math

import torch

from sfumato.app.run import batches
from sfumato.core.noise import Noise
from sfumato.report import grid

EXAMPLES = 66_000  # of which 0.95 for the autoencoder: a little more than an epoch
SETTINGS = {"codes": 512, "stages.codes.share": 0.95, "stages.prior.share": 0.05}
VARIANTS = {"no restarts": {"patience": 0}, "by gradient, no restarts": {"patience": 0, "gamma": 0.0}}
NEVER = 10**12


def trained(claim, seed, name="", **dials):
    """A finished run on MNIST."""
    return claim.train(
        "vq-vae",
        claim.data("mnist-train"),
        examples=EXAMPLES,
        seed=seed,
        name=name,
        settings=SETTINGS | dials,
        test=claim.data("mnist-test"),
    )


@torch.no_grad()
def usage(run, most):
    """Share of the codes chosen over the training images, perplexity, and reconstruction error (held out)."""
    codec = run.generator.codec
    counts = torch.zeros(codec.quantizers[0].size, dtype=torch.int64)
    for batch in batches(run.training, min(most, len(run.training)), run.device):
        counts += codec.encode(batch.x).flatten().bincount(minlength=len(counts))
    share = counts.double() / counts.sum()
    perplexity = torch.special.entr(share).sum().exp()
    x = run.data.held_out.batch(range(1000)).x
    error = (codec.decode(codec.encode(x)) - x).square().mean()
    return float((counts > 0).double().mean()), float(perplexity), float(error)


def last_epoch(run):
    """Share of codes used in the last complete epoch of training, as the log has it; NaN if there is none."""
    lines = [line for line in run.folder.history() if line["kind"] == "step" and "codes_used" in line]
    return lines[-1]["codes_used"] if lines else math.nan


def gradient_gap(run):
    """Largest difference of the gradient at z and at the embeddings, for the decoder's own loss."""
    codec = run.generator.codec
    level = codec.levels[0]
    x = run.data.held_out.batch(range(16)).x
    z = level.project(level.encoder(x), None).detach().requires_grad_()
    values = level.quantizer(z).values
    values.retain_grad()
    (codec.decoder(level.hand_down(values, None)) - x).square().mean().backward()
    return float((z.grad - values.grad).abs().max())


@torch.no_grad()
def formula_gap(run):
    """Largest relative difference of ten steps of the codebook and the formula in double precision."""
    codec = run.generator.codec
    level, gamma = codec.levels[0], 0.99
    quantizer = level.quantizer
    quantizer.patience = 0
    quantizer.train()
    n, m = quantizer.sizes.double(), quantizer.totals.double()
    for step in range(10):
        x = run.training.batch(range(64 * step, 64 * step + 64)).x
        z = level.project(level.encoder(x), None)
        codes = quantizer(z, Noise([step], rows=64)).codes.flatten()
        rows = z.movedim(1, -1).reshape(len(codes), -1).double()
        for k in range(quantizer.size):
            mine = rows[codes == k]
            n[k], m[k] = gamma * n[k] + (1 - gamma) * len(mine), gamma * m[k] + (1 - gamma) * mine.sum(0)
        quantizer.settle(NEVER)
    quantizer.eval()
    known = n > 1e-4
    mean, found = (m / n[:, None])[known], quantizer.codebook.double()[known]
    return float((found - mean).norm(dim=1).div(mean.norm(dim=1)).max())


def run(claim):
    rows, most = [], 2000 if claim.quick else 10**9
    for seed in claim.seeds:
        model = trained(claim, seed)
        used, perplexity, error = usage(model, most)
        claim.record("codes used in the last epoch", last_epoch(model), seed=seed)
        claim.record("codes used by the finished model", used, seed=seed)
        claim.record("perplexity", perplexity, seed=seed)
        claim.record("reconstruction error", error, seed=seed)
        claim.record("gradient difference", gradient_gap(model), seed=seed)
        claim.record("difference from the formula", formula_gap(model), seed=seed)
        rows.append(
            {
                "codebook": "as by default",
                "seed": seed,
                "codes used": used,
                "perplexity": perplexity,
                "error": error,
            }
        )
    for name, dials in () if claim.quick else VARIANTS.items():
        model = trained(claim, 0, name.replace(", ", "-").replace(" ", "-"), **dials)
        used, perplexity, error = usage(model, most)
        rows.append(
            {"codebook": name, "seed": 0, "codes used": used, "perplexity": perplexity, "error": error}
        )
    claim.table("use of 512 codes over the training images", rows)
    reconstructed = trained(claim, 0)
    x = reconstructed.data.held_out.batch(range(16)).x
    codec = reconstructed.generator.codec
    with torch.no_grad():
        again = codec.decode(codec.encode(x))
    claim.figure("reconstructions", grid.over(x, again, reconstructed.facts))
    least = [min(claim.values(f"codes used {w}")) for w in ("in the last epoch", "by the finished model")]
    ended = sum(math.isfinite(v) for v in claim.values("codes used in the last epoch"))
    claim.check(f"{ended} of {len(claim.seeds)} trainings completed an epoch", ended == len(claim.seeds))
    claim.check(
        f"least share of codes used in the last epoch of training {least[0]:.3f} >= 0.9", least[0] >= 0.9
    )
    claim.check(f"least share used by the finished model {least[1]:.3f} >= 0.9", least[1] >= 0.9)
    gap = max(claim.values("gradient difference"))
    claim.check(f"the gradient is copied: largest difference {gap:g} = 0", gap == 0.0)
    gap = max(claim.values("difference from the formula"))
    claim.check(
        f"the codebook follows the formula: largest relative difference {gap:.1e} <= 1e-4", gap <= 1e-4
    )
