"""The future of clips: rolled out step by step and jumped to at once, beside what really came.

    z ~ p_B(. | b_s)                     the state believed after s frames
    step by step   z_{k} from z_{k-1} by p_T(. | ., 1)        k transitions to reach frame s + k
    jumped         z_{k} from z by p_T(. | ., k)              one transition, whatever k

Both take the means unless draws are asked for: then the state is drawn from one stream of numbers, the
transitions from another and the jumps from a third, so that none repeats what another drew. The entropy of
p_B(z | b_t) says how sure the model is after t frames; it should fall while there is something to be found
out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ..core.errors import UsageError
from ..core.noise import Noise
from ..data.dataset import Dataset
from ..data.facts import Facts
from ..models.given import seeds_of
from ..models.tdvae import TdVae
from ..report import grid
from .pictures import DISK, prepared
from .run import Run


@dataclass(frozen=True)
class Rollout:
    """What came, and what was predicted from `seen` frames: clips (n, C, K, *space) of frames 1 ... K later.

    mse       of every k, in model units, by way: "step by step", "jumped"
    still     the same of the last frame seen, shown again at every k: what knowing nothing of motion costs
    seconds      one prediction of the last frame took for all clips, by way
    transitions  the part of it that led to the last state
    entropy   of the state believed after 1, 2 ... frames, in nats, the mean over the clips
    """

    seen: int
    last: Tensor
    truth: Tensor
    ways: dict[str, Tensor]
    mse: dict[str, list[float]]
    still: list[float]
    seconds: dict[str, float]
    transitions: dict[str, float]
    entropy: list[float]

    def picture(self, facts: Facts) -> Image:
        """For each clip the truth over both predictions; the first column is the last frame that was seen."""
        bands: list[Image] = []
        for i in range(len(self.truth)):
            for name, frames in {"truth": self.truth, **self.ways}.items():
                row = torch.cat([self.last, frames], 2)[i].transpose(0, 1)
                shown = grid.grid(row, facts.frame, columns=len(row))
                bands.append(grid.titled(shown, name) if i == 0 else shown)
        return grid.stack(bands, gaps=([2, 2, 14] * len(self.truth))[: len(bands)])

    def first(self, count: int) -> Rollout:
        """The same of the first clips only; the numbers stay those of all."""
        ways = {name: frames[:count] for name, frames in self.ways.items()}
        return replace(self, last=self.last[:count], truth=self.truth[:count], ways=ways)

    def to_json(self) -> dict[str, Any]:
        """The numbers, as plain JSON values."""
        times = {"seconds": self.seconds, "transitions": self.transitions}
        errors = {"mse": self.mse, "standing still": self.still}
        return {"seen": self.seen, **errors, "entropy": self.entropy} | times

    def lines(self) -> list[str]:
        """The numbers in words."""
        told = [
            f"{name}: {_course(errors)}; {1000 * self.transitions[name]:.1f} ms to the last state, "
            f"{1000 * self.seconds[name]:.1f} to its frame"
            for name, errors in self.mse.items()
        ]
        told.append(f"standing still: {_course(self.still)}")
        sure = (
            f"{self.entropy[0]:.1f} nats after 1 frame, {self.entropy[self.seen - 1]:.1f} after {self.seen}"
        )
        return [*told, f"Entropy of the state believed: {sure}"]


def tdvae_of(run: Run) -> TdVae:
    """The run's model of time; UsageError where it has none."""
    model = run.generator.codec
    if not isinstance(model, TdVae):
        raise UsageError(
            f"{run.path} holds a {run.about['recipe']}, which knows no time",
            where=run.path,
            remedy="Train td-vae on clips: sfumato train td-vae moving-digits",
        )
    return model


def rollout(
    run: Run,
    data: str | None = None,
    count: int = 4,
    *,
    seen: int | None = None,
    seed: int = 0,
    draw: bool = False,
) -> Rollout:
    """Predict the frames after the first `seen` of held-out clips (or those of `data`).

    seen: by default as many as leave one longest jump. draw: draws of the future instead of its mean.
    """
    model = tdvae_of(run)
    source: Dataset = (
        run.unseen(f"Give clips: sfumato rollout {run.path} DATA") if data is None else run.fitting(data)
    )
    length = source.facts.frames
    seen = length - model.jump if seen is None else seen
    if not 1 <= seen < length:
        raise UsageError(
            f"{seen} frames seen of clips of {length}", remedy=f"Choose from 1 to {length - 1} with --seen."
        )
    x = source.batch(range(min(count, len(source)))).x.to(run.device)
    return predicted(model, x, seen, seeds_of(seed, len(x)) if draw else ())


def predicted(model: TdVae, x: Tensor, seen: int, seeds: Sequence[int] = ()) -> Rollout:
    """Both predictions for clips x (B, C, T, *space) from their first `seen` frames; seeds: of draws."""
    ahead = min(model.jump, x.shape[2] - seen)

    def noise(purpose: str) -> Noise | None:
        """A stream of its own for each purpose: reused numbers would tie the draws to each other."""
        if not seeds:
            return None
        return Noise.keyed("rollout", purpose, at=seeds, device=x.device)

    with torch.inference_mode():
        beliefs = model.beliefs(x)
        z = model.state(x[:, :, :seen], noise=noise("state"))
        every = torch.arange(1, ahead + 1, device=x.device)
        states = {
            "step by step": model.rollout(z, ahead, noise=noise("steps")),
            "jumped": model.jumped(z, every, noise=noise("jump")),
        }
        ways = {name: model.images(s).cpu() for name, s in states.items()}
        to_last: dict[str, Callable[[], Tensor]] = {
            "step by step": lambda: model.rollout(z, ahead)[:, -1:],
            "jumped": lambda: model.jumped(z, every[-1:]),
        }
        transitions = {name: timed(way, x.device) for name, way in to_last.items()}
        seconds = {name: timed(partial(_drawn, model, way), x.device) for name, way in to_last.items()}
        entropy = torch.stack([model.believed(b).entropy().mean() for b in beliefs.unbind(1)])
    last, truth = x[:, :, seen - 1 : seen].cpu(), x[:, :, seen : seen + ahead].cpu()
    mse = {name: _errors(v, truth) for name, v in ways.items()}
    still = _errors(last, truth)
    return Rollout(seen, last, truth, ways, mse, still, seconds, transitions, entropy.tolist())


def _errors(frames: Tensor, truth: Tensor) -> list[float]:
    """Mean squared error of frames (n, C, K or 1, *space), for every k of the truth's."""
    return (frames - truth).square().transpose(0, 2).flatten(1).mean(1).tolist()


def _course(errors: Sequence[float]) -> str:
    """How an error grows with the distance, in words."""
    return f"mean squared error {errors[0]:.4f} one frame ahead, {errors[-1]:.4f} after {len(errors)}"


def _drawn(model: TdVae, way: Callable[[], Tensor]) -> Tensor:
    """The frames of the states that a way comes to."""
    return model.images(way())


def timed(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Seconds of one call, the least of several; a GPU is waited for before and after."""

    def now() -> float:
        if device.type == "cuda":  # calls return before the work is done
            torch.cuda.synchronize(device)
        return time.perf_counter()

    best = float("inf")
    for _ in range(times):
        start = now()
        work()
        best = min(best, now() - start)
    return best


def write_rollout(run: Run, found: Rollout, out: Path | None) -> Path:
    """The picture as rollout.png; its path."""
    path = prepared(out or run.path / "samples") / "rollout.png"
    DISK.replace(path, grid.png(found.picture(replace(run.facts, pad=()))))
    return path
