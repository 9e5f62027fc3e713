"""What claims about networks of denoisers measure in common: held-out loss, compute, distance of samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from sfumato.app.console import Console
from sfumato.app.evaluate import evaluate
from sfumato.app.run import Run
from sfumato.core.noise import Noise, seed_of

ROWS = 64  # images judged at once


def held_out_loss(trained: Run, count: int) -> float:
    """The objective's loss over the same test images with the same draws, for every network."""
    objective, total = trained.recipe.stages[0].objective, 0.0
    part = trained.data.held_out
    for start in range(0, count, ROWS):
        noise = Noise([seed_of("denoising", k) for k in range(start, start + ROWS)])
        with torch.inference_mode():
            batch = part.batch(range(start, start + ROWS))
            total += float(objective.judge(trained.model, batch, noise=noise)["loss"].double().sum())
    return total / count


def forward_flops(trained: Run) -> float:
    """FLOPs of the network for one image."""
    net, shape = trained.model.density.denoiser.net, trained.facts.shape
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *shape), torch.zeros(1))
    return counter.get_total_flops()


def frechet_distance(trained: Run, judge: Path, seed: int, count: int) -> float:
    """From samples to held-out images, in the features of a classifier of the same data."""
    found = evaluate(trained, count=count, judge=judge, seed=seed, console=Console(silent=True))
    distances = [m for m in found.metrics if m.name == "Frechet distance"]
    return next(m.value for m in distances if "classifier" in m.protocol.features)
