"""Sparse codes are as sparse as they are asked to be. Sigmoid units under a KL of their mean activation keep
it; of a k-sparse code exactly k units speak; and the smaller k is, the larger the parts a unit stands for.

Source: Ng 2011, section 3; Makhzani & Frey 2014, sections 2 and 4.1.

Passes: on MNIST images held out, the units' mean activation is 0.05 within 0.02 for every seed, and the
reported penalty equals the closed form of its KL; at every k the code of every image, as the stored run makes
it, is the k largest of the encoder's numbers as NumPy sorts them, none of which is zero; the size of a filter
(the share of pixels that hold 90 % of its energy), the mean over all units that ever speak on those images,
falls from the smallest k to the largest.
"""

import numpy as np
import torch

from sfumato.app.run import open_run
from sfumato.report import grid

from .style import INK, colour, figure, tidy

EXAMPLES, RHO, UNITS = 120_000, 0.05, 256
KS = (5, 15, 40, 100)


@torch.no_grad()
def codes(run, most=2000):
    """Codes of held-out images."""
    held_out = run.data.held_out
    return run.model.codec.encode(held_out.batch(range(min(most, len(held_out)))).x)


@torch.no_grad()
def unlike_the_largest(run, k, most=2000):
    """Images whose code, of the run as it is stored, is not the k largest of the encoder's numbers.

    The numbers are sorted by NumPy, so neither the units nor what was kept in memory judge themselves.
    """
    codec, held_out = open_run(run.path, device="cpu").model.codec, run.data.held_out
    x = held_out.batch(range(min(most, len(held_out)))).x
    a, h = codec.encoder(x).numpy(), codec.encode(x).numpy()
    bounds = np.sort(a, axis=1)[:, -k, None]
    return int(((h != np.where(a >= bounds, a, 0)) | ((h != 0) != (a >= bounds))).any(1).sum())


def closed_form(r):
    """sum_j KL(rho || r_j) in nats."""
    return float((RHO * torch.log(RHO / r) + (1 - RHO) * torch.log((1 - RHO) / (1 - r))).sum())


def size(filters):
    """The share of pixels that hold 90 % of a filter's energy, the mean over filters."""
    energy = filters.flatten(1).square().sort(1, descending=True).values.cumsum(1)
    return float((energy < 0.9 * energy[:, -1:]).float().mean())


def filters_of(run, count=32):
    """The filters of the units that vary most, each scaled to its own largest value."""
    used = codes(run).std(0).argsort(descending=True)
    filters = run.model.codec.decoder.filters()
    return filters, (filters / filters.flatten(1).abs().amax(1)[:, None, None, None])[used[:count]]


def sparse(claim, data):
    """Mean activations of sparse-ae; those of all units of the first seed."""
    kept = None
    for seed in claim.seeds:
        run = claim.train("sparse-ae", data, examples=EXAMPLES, seed=seed, settings={"latent": UNITS})
        h = codes(run)
        mean = float(h.mean())
        claim.record("mean activation", mean, seed=seed)
        claim.record(
            "units with a mean within 0.02", float(((h.mean(0) - RHO).abs() < 0.02).float().mean()), seed=seed
        )
        claim.record("share of units above 0.5", float((h > 0.5).float().mean()), seed=seed)
        objective = run.recipe.stages[0].objective.eval()
        (penalty,) = objective.penalties
        ours = float(penalty(run.model.codec, None, h, noise=None).mean())
        apart = abs(ours - closed_form(h.mean(0)))
        claim.record("penalty apart from its closed form", apart, seed=seed, unit="nats")
        kept = h.mean(0) if kept is None else kept
    worst = max(abs(v - RHO) for v in claim.values("mean activation"))
    claim.check(
        f"mean activation {claim.mean('mean activation'):.4f}, at most {worst:.4f} from 0.05", worst <= 0.02
    )
    apart = max(claim.values("penalty apart from its closed form"))
    claim.check(f"the penalty equals its closed form to {apart:.1e} nats", apart < 1e-3)
    return kept


def run(claim):
    data = claim.data("mnist-train")
    activations = sparse(claim, data)
    rows, sheets, sizes = [], [], []
    for k in KS:
        run = claim.train(
            "k-sparse-ae",
            data,
            examples=EXAMPLES,
            name=f"k{k}",
            settings={"k": k, "latent": UNITS, "shallow": True},
        )
        h = codes(run)
        counts = (h != 0).sum(1)
        every, shown = filters_of(run)
        sizes.append(size(every[(h != 0).any(0)]))
        with torch.no_grad():
            rebuilt = run.model.codec.decode(h)
        error = float((rebuilt - run.data.held_out.batch(range(len(h))).x).square().mean())
        rows.append(
            {
                "k": k,
                "units not zero": f"{int(counts.min())} ... {int(counts.max())}",
                "used at all": int((h != 0).any(0).sum()),
                "share of pixels in a filter": round(sizes[-1], 3),
                "mse": round(error, 4),
            }
        )
        wrong = unlike_the_largest(run, k)
        claim.check(
            f"k = {k}: {int(counts.min())} to {int(counts.max())} units speak; {wrong} of {len(h):,} codes "
            f"are not the {k} largest numbers of the encoder",
            wrong == 0 and bool((counts == k).all()),
        )
        sheets.append(grid.titled(grid.grid(shown, run.facts, columns=16, zoom=1), f"k = {k}"))
    claim.table(f"One layer of {UNITS} k-sparse units on MNIST, {EXAMPLES:,} examples", rows)
    claim.check(
        f"filters shrink from {sizes[0]:.3f} of the pixels at k = {KS[0]} to {sizes[-1]:.3f} at k = {KS[-1]}",
        sizes[-1] < sizes[0],
    )
    claim.figure("filters", grid.stack(sheets, [10] * len(sheets)))
    picture, axes = figure(6.4, 2.8)
    axes.hist(activations.numpy(), bins=40, color=colour(0))
    axes.axvline(RHO, color=INK, lw=1)
    axes.set(xlabel="mean activation of a unit over held-out images", ylabel="units")
    claim.figure("activations", tidy(picture))
