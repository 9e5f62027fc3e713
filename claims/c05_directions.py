"""One Gaussian fitted to two modes: the reverse KL sits on one of them, the forward KL covers both.

    forward   KL(p || q) = E_p[log p - log q]      least where q has the mean and covariance of p
    reverse   KL(q || p) = E_q[log q - log p]      infinite where q puts mass that p does not have

Source: Bishop 2006, section 10.1.2; Minka 2005.

Passes: from every start, descent on the reverse KL ends with its mean within 0.1 mode widths of a mode, with
that mode's covariance to 5 %, and less than 1 % of its mass nearer to the other mode; descent on the
forward KL ends with the mixture's mean and covariance to 1 %, whatever the start.
"""

import math

import numpy as np
import torch

from .style import INK, PAPER, bare, colour, figure

MODES = torch.tensor([[-1.4, -0.9], [1.4, 0.9]], dtype=torch.float64)
FACTORS = torch.tensor([[[0.45, 0.0], [0.2, 0.35]], [[0.4, 0.0], [-0.2, 0.4]]], dtype=torch.float64)
COVARIANCES = FACTORS @ FACTORS.mT
SIDE, REACH = 161, 5.0


def plane():
    """The points of a square grid (SIDE^2, 2) and the area of a cell."""
    line = torch.linspace(-REACH, REACH, SIDE, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2), float(
        line[1] - line[0]
    ) ** 2


def log_gaussian(points, mean, factor):
    """log N(points; mean, factor factor^T), (n,)."""
    u = torch.linalg.solve_triangular(factor, (points - mean).T, upper=False)
    return -0.5 * u.square().sum(0) - factor.diagonal().abs().log().sum() - math.log(2 * math.pi)


def log_mixture(points):
    """log p of the two equal modes."""
    parts = torch.stack([log_gaussian(points, m, f) for m, f in zip(MODES, FACTORS, strict=True)])
    return torch.logsumexp(parts, 0) - math.log(2)


def fit(reverse, seed, steps):
    """Mean and covariance of the Gaussian that descent finds, by quadrature on the plane."""
    points, cell = plane()
    target = log_mixture(points)
    start = torch.Generator().manual_seed(seed)
    mean = torch.randn(2, generator=start, dtype=torch.float64).requires_grad_(True)
    raw = torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([mean, raw], 0.03)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-4)
    for _ in range(steps):
        zero = torch.zeros((), dtype=torch.float64)
        factor = torch.stack([torch.stack([raw[0].exp(), zero]), torch.stack([raw[2], raw[1].exp()])])
        ours = log_gaussian(points, mean, factor)
        first, second = (ours, target) if reverse else (target, ours)
        loss = (first.exp() * (first - second)).sum() * cell
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    return mean.detach(), (factor @ factor.T).detach(), float(loss.detach())


def nearer_to_other(mean, covariance):
    """The mass of N(mean, covariance) on the other side of the line between the modes."""
    towards = MODES[1] - MODES[0]
    along = float(mean @ towards) / math.sqrt(float(towards @ covariance @ towards))
    return 0.5 * math.erfc(abs(along) / math.sqrt(2))


def run(claim):
    steps = 60 if claim.quick else 900
    mean = MODES.mean(0)
    spread = (MODES - mean).T @ (MODES - mean) / 2 + COVARIANCES.mean(0)
    found, ends = {}, set()
    for seed in range(2 if claim.quick else 6):
        m, c, loss = fit(True, seed, steps)
        k = int((MODES - m).norm(dim=1).argmin())
        ends.add(k)
        width = float(COVARIANCES[k].diagonal().mean().sqrt())
        claim.record(
            "reverse: distance to the nearest mode, in its widths",
            float((m - MODES[k]).norm()) / width,
            seed=seed,
        )
        claim.record("reverse: covariance apart from the mode's", relative(c, COVARIANCES[k]), seed=seed)
        claim.record("reverse: mass nearer to the other mode", nearer_to_other(m, c), seed=seed)
        claim.record("reverse KL", loss, seed=seed, unit="nats")
        found[f"reverse {k}"] = (m, c)
        m, c, loss = fit(False, seed, steps)
        claim.record("forward: mean apart from the mixture's", float((m - mean).norm()), seed=seed)
        claim.record("forward: covariance apart from the mixture's", relative(c, spread), seed=seed)
        claim.record("forward KL", loss, seed=seed, unit="nats")
        found["forward"] = (m, c)
    for name, most in (
        ("reverse: distance to the nearest mode, in its widths", 0.1),
        ("reverse: covariance apart from the mode's", 0.05),
        ("reverse: mass nearer to the other mode", 0.01),
        ("forward: mean apart from the mixture's", 0.01),
        ("forward: covariance apart from the mixture's", 0.01),
    ):
        worst = max(claim.values(name))
        claim.check(f"{name}: at most {worst:.4f} (wanted {most})", worst <= most)
    claim.note(
        f"The reverse KL ended on {len(ends)} of the 2 modes, by the start; each fit misses the other one."
    )
    claim.figure("fits", draw(found))


def relative(a, b):
    """|a - b| / |b| of two matrices."""
    return float((a - b).norm() / b.norm())


def draw(found):
    """The mixture in shades, and ellipses of one and two standard deviations of each fit."""
    points, _ = plane()
    shade = log_mixture(points).exp().reshape(SIDE, SIDE).numpy()
    picture, axes = figure(7.2, 3.7, 1, 2)
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()])
    for place, title, index in zip(
        axes, ("forward KL(p || q): covers both", "reverse KL(q || p): sits on one"), (1, 0), strict=True
    ):
        bare(place, title, 3.4)
        place.contourf(
            *np.meshgrid(*[np.linspace(-REACH, REACH, SIDE)] * 2),
            shade,
            levels=12,
            cmap="Greys",
            alpha=0.75,
            zorder=0,
        )
        for k, (name, (m, c)) in enumerate(sorted(found.items())):
            if not name.startswith(title.split()[0]):
                continue
            factor = torch.linalg.cholesky(c)
            for radius in (1.0, 2.0):
                x, y = (m[:, None] + radius * factor @ circle).numpy()
                place.plot(x, y, color=colour(index + 2 * k * (1 - index)), lw=1.8)
            place.plot(*m.tolist(), "+", color=INK, ms=8)
        place.set_facecolor(PAPER)
    return picture
