"""A contractive autoencoder's code moves less with the image, for little more error. The same one-layer
network of sigmoid units with tied weights is trained on MNIST under several weights of the penalty on its
Jacobian, 0 among them; tied weights keep the code from shrinking while the filters grow, which would lower
the norm and contract nothing. A deep network, where nothing forbids that, is beside it. After 60,000 images
a tied layer has learned too little to have anything to contract (the norm falls to 0.6 at 1.2 times the
error); after six times as many the penalty costs it hardly anything.

Source: Rifai et al. 2011, sections 2 and 5.

Passes: the closed form of |dh/dx|^2 equals autograd's Jacobian to 1e-4; at one of the weights tried, on
held-out images and in the mean over seeds, |dh/dx|^2 is at most half that of the autoencoder without penalty
and the mean squared error at most 1.2 times its error.
"""

import torch

from sfumato.core.noise import Noise
from sfumato.objectives.jacobian import ExactJacobian, OneLayerJacobian
from sfumato.report import grid

from .style import INK, colour, figure, tidy

EXAMPLES, DEEP_EXAMPLES, IMAGES = 384_000, 40_000, 1000
WEIGHTS = (0.0, 0.3, 1.0, 3.0)
DEEP_WEIGHTS = (0.0, 1.0)


def noise(x):
    """What the exact ways do not use."""
    return Noise([0], rows=len(x))


def by_autograd(codec, x):
    """|dh/dx|^2 from torch's own Jacobian, one image at a time."""
    jacobian = torch.autograd.functional.jacobian
    return torch.stack([jacobian(lambda v: codec.code(v[None])[0], one).square().sum() for one in x])


@torch.no_grad()
def measured(run, norm):
    """|dh/dx|^2, the same over the variance of the code (which no rescaling changes), and the error."""
    codec, held_out = run.model.codec, run.data.held_out
    x = held_out.batch(range(min(IMAGES, len(held_out)))).x
    size, h = float(norm(codec, x, noise=noise(x)).mean()), codec.encode(x)
    return size, size / float(h.var(0).sum()), float((codec.decode(h) - x).square().mean())


def trained(claim, seed, weight, deep):
    """A run of the recipe, and what is measured of it."""
    name, settings = f"w{weight:g}{'-deep' if deep else ''}", {"weight": weight, "shallow": not deep}
    data, examples = ("digits", DEEP_EXAMPLES) if deep else (claim.data("mnist-train"), EXAMPLES)
    run = claim.train(
        "contractive-ae", data, examples=examples, seed=seed, name=name.replace(".", "_"), settings=settings
    )
    for what, value in zip(
        ("squared norm", "norm over variance", "mse"),
        measured(run, ExactJacobian() if deep else OneLayerJacobian()),
        strict=True,
    ):
        claim.record(f"{name}: {what}", value, seed=seed)
    return run


def rows_of(claim, weights, deep):
    """A row of the table for each weight, relative to none."""
    rows = []
    for weight in weights:
        name, none = (f"w{w:g}{'-deep' if deep else ''}" for w in (weight, weights[0]))
        row = {"network": "deep, digits" if deep else "one layer, MNIST", "weight": weight}
        for what in ("squared norm", "norm over variance", "mse"):
            row[what] = round(claim.mean(f"{name}: {what}"), 4)
            row[f"{what}, relative"] = round(row[what] / claim.mean(f"{none}: {what}"), 3)
        rows.append(row)
    return rows


def run(claim):
    weights = WEIGHTS[::2] if claim.quick else WEIGHTS
    sheets, apart = [], 0.0
    for seed in claim.seeds:
        for weight in weights:
            run = trained(claim, seed, weight, False)
            codec, x = run.model.codec, run.data.held_out.batch(range(16)).x
            closed = OneLayerJacobian()(codec, x, noise=noise(x)).detach()
            apart = max(apart, float((closed / by_autograd(codec, x) - 1).abs().max()))
            if seed == claim.seeds[0]:
                filters = codec.decoder.filters()
                strong = filters.flatten(1).norm(dim=1).argsort(descending=True)[:16]
                scaled = filters[strong] / filters[strong].flatten(1).abs().amax(1)[:, None, None, None]
                shown = grid.grid(scaled, run.facts, columns=16, zoom=1)
                sheets.append(grid.titled(shown, f"filters, weight {weight:g}"))
        for weight in DEEP_WEIGHTS:
            trained(claim, seed, weight, True)
    rows = rows_of(claim, weights, False)
    claim.check(f"the closed form is autograd's to {apart:.1e} (wanted 1e-4)", apart < 1e-4)
    fitting = [r for r in rows[1:] if r["mse, relative"] <= 1.2]
    best = min(fitting or rows[1:], key=lambda r: r["squared norm, relative"])
    claim.check(
        f"at weight {best['weight']:g} |J|^2 is {best['squared norm, relative']} times that without penalty "
        f"(wanted 0.5) at {best['mse, relative']} times its error (wanted 1.2)",
        best["squared norm, relative"] <= 0.5 and best["mse, relative"] <= 1.2,
    )
    deep = rows_of(claim, DEEP_WEIGHTS, True)
    claim.table(f"Held-out images, {len(claim.seeds)} seeds", rows + deep)
    claim.note(
        f"Deep, |J|^2 falls to {deep[1]['squared norm, relative']} of what it was, but over the variance of "
        f"the code only to {deep[1]['norm over variance, relative']}: the rest is a smaller code."
    )
    claim.figure("filters", grid.stack(sheets, [6] * len(sheets)))
    claim.figure("trade", draw(rows))


def draw(rows):
    """The norm against the error, relative to no penalty, with the weights beside the points."""
    picture, axes = figure(5.2, 3.4)
    points = [(r["mse, relative"], r["squared norm, relative"]) for r in rows]
    axes.plot(*zip(*points, strict=True), "o-", color=colour(0))
    for row, point in zip(rows, points, strict=True):
        words = f"{row['weight']:g}"
        axes.annotate(words, point, (5, 5), textcoords="offset points", color=INK, fontsize=8.5)
    axes.set(xlabel="error relative to no penalty", ylabel="$|J|^2$ relative to no penalty", ylim=(0, 1.1))
    return tidy(picture)
