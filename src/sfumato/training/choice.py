"""Which average of the weights becomes the model, decided when a stage ends.

A short average is noisy, a long one remembers how the network was; the best length depends on the
model, the rate and the budget, and is known only afterwards (Karras et al. 2024, sec. 3.3). From the
averages kept along the way other lengths are reconstructed (ema.py) and each candidate is judged on
the held-out examples. A reconstruction whose profile misses the wanted one by more than a twentieth
is no candidate. The average as it was at the best checkpoint is one too, where the held-out loss
decides (Judge.decides): a model that has begun to memorise goes back to before it did. Without
held-out examples the stage's first length is taken.

What was chosen can be filled in again later, when other stages have built on it: the averages and the raw
weights at the stage's end are kept, and the chosen ones beside them where they are neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from ..core.errors import OutOfMemoryError, RefusedError
from ..objectives.objective import Judge
from .ema import combination, gamma_of, profile_product
from .heldout import WORTH, HeldOutLoss
from .rundir import RunDir
from .stagerun import StageRun
from .state import Progress, pack, unpack
from .storage import Full
from .watcher import AVERAGES

LENGTHS = (0.02, 0.03, 0.07, 0.14, 0.2)
TOLERANCE = 0.05

EARLY = "early.safetensors"  # a worse version of the model, to be led away from (guidance/auto.py)
RAW = "raw.safetensors"  # the weights as the last step left them
CHOSEN = "chosen.safetensors"  # what was chosen, where that is neither raw nor an average at the end
BEST = -1.0  # stands for the average at the best checkpoint

Weights = list[Tensor]  # one flat vector for each phase of the stage


def choose(
    run: StageRun, progress: Progress, judge: HeldOutLoss | None, folder: RunDir, poll: Callable[[], None]
) -> float:
    """Put the best average in place of the weights; its length, 0 for the raw weights, BEST for earlier ones.

    The raw weights and the averages at the end are kept in the run's ema/ folder. With several
    processes the main one chooses (it knows the checkpoints, and devices may round differently) and
    gives its choice to all.
    """
    length = torch.zeros(1, dtype=torch.float64, device=run.world.device)
    chosen = [turn.flat.values for turn in run.turns]
    if run.world.main:
        found, best = _candidates(run, progress, judge, folder)
        if judge is not None:
            best = _least(run, progress, judge, found, poll)
        _keep(run, progress, folder, found[best] if best else None)
        length.fill_(best)
        with torch.no_grad():
            for values, vector in zip(chosen, found[best], strict=True):
                values.copy_(vector)
    with torch.no_grad():
        for values in chosen:
            run.world.share(values)
    return float(run.world.share(length))


def _candidates(
    run: StageRun, progress: Progress, judge: HeldOutLoss | None, folder: RunDir
) -> tuple[dict[float, Weights], float]:
    """{length: weights} to choose from, and the length that is taken without a judge."""
    found: dict[float, Weights] = {
        length: [turn.ema.vectors[k] for turn in run.turns] for k, length in enumerate(run.stage.lengths)
    }
    if judge is not None:
        if progress.target >= WORTH * judge.wanted:  # further candidates, where they cost little
            found |= _reconstructed(run, progress, folder)
        found[0.0] = [turn.flat.values.clone() for turn in run.turns]
        objective = run.stage.objective
        if progress.best and not (isinstance(objective, Judge) and not objective.decides):
            with suppress(RefusedError):  # damaged meanwhile: the other candidates suffice
                found[BEST] = _best(run, folder.load(progress.best).file(AVERAGES))
    return found, run.stage.lengths[0]


def _least(
    run: StageRun,
    progress: Progress,
    judge: HeldOutLoss,
    found: Mapping[float, Weights],
    poll: Callable[[], None],
) -> float:
    """The length of least held-out loss, the first where none can be judged; not-a-number loses."""
    losses = {}
    run.model.eval()
    run.stage.objective.eval()
    for length, vectors in found.items():
        with run.averaged(vectors):
            what = (run.stage.objective, run.module, run.execution, progress.seen)
            try:
                loss = judge(*what, poll, progress.micro)["loss"]
            except OutOfMemoryError:  # not even one image at a time
                loss = math.inf
        losses[length] = loss if math.isfinite(loss) else math.inf
    return min(losses, key=lambda length: losses[length])


def _best(run: StageRun, averages: bytes) -> Weights:
    """The first length's average in the best checkpoint."""
    tensors = unpack(averages, run.tensors()[AVERAGES], AVERAGES)
    first = {n.split("/", 1)[1]: t for n, t in tensors.items() if n.startswith("0/")}
    return [_combined(turn.flat.like(), turn.flat.views, [first], [1.0]) for turn in run.turns]


def _reconstructed(run: StageRun, progress: Progress, folder: RunDir) -> dict[float, Weights]:
    """Averages of further lengths from those kept along the way and those at the end."""
    expected = run.tensors()[AVERAGES]
    kept: list[tuple[float, float]] = []
    tensors: list[dict[str, Tensor]] = []
    at = {
        seen: unpack(files[AVERAGES], expected, AVERAGES)
        for seen, files in folder.load_averages(run.stage.name).items()
        if AVERAGES in files and seen < progress.seen
    }
    for seen, averages in [*at.items(), (progress.seen, expected)]:
        for k, gamma in enumerate(run.turns[0].ema.gammas):
            kept.append((gamma, seen))
            tensors.append({n.split("/", 1)[1]: t for n, t in averages.items() if n.startswith(f"{k}/")})
    found = {}
    for length in LENGTHS:
        coefficients = combination(kept, gamma_of(length), progress.seen)
        if miss(kept, coefficients, gamma_of(length), progress.seen) < TOLERANCE:
            found[length] = [
                _combined(turn.flat.like(), turn.flat.views, tensors, coefficients) for turn in run.turns
            ]
    return found


def _combined(
    vector: Tensor,
    views: Callable[[Tensor], dict[str, Tensor]],
    tensors: Sequence[Mapping[str, Tensor]],
    coefficients: Sequence[float],
) -> Tensor:
    for coefficient, stored in zip(coefficients, tensors, strict=True):
        for name, view in views(vector).items():
            view.add_(stored[name].to(view.device), alpha=coefficient)
    return vector


def miss(
    stored: Sequence[tuple[float, float]], coefficients: Sequence[float], gamma: float, t: float
) -> float:
    """|sum_i x_i p_i - p| / |p| of profiles, in the L2 norm."""
    square = profile_product(gamma, t, gamma, t)
    total = square
    for x, a in zip(coefficients, stored, strict=True):
        total -= 2 * x * profile_product(*a, gamma, t)
        total += sum(x * y * profile_product(*a, *b) for y, b in zip(coefficients, stored, strict=True))
    return math.sqrt(max(0.0, total) / square)


def _keep(run: StageRun, progress: Progress, folder: RunDir, chosen: Weights | None) -> None:
    """Store raw weights and averages at the end, and one early average, which can guide the model later.

    chosen: None for the raw weights; kept too where it is no average at the end (see the module).

    Those along the way stay until the stage's end is saved: a run killed in between must choose again
    among the same candidates.
    """
    raw = [turn.flat.values for turn in run.turns]
    files = {AVERAGES: pack(run.tensors()[AVERAGES]), RAW: pack(_named(run, raw))}
    files |= _early(run, progress, folder)
    at_the_end = {id(vector) for turn in run.turns for vector in turn.ema.vectors}
    if chosen is not None and not {id(vector) for vector in chosen} <= at_the_end:
        with suppress(Full):  # a disk that is full for this one only takes the others
            more = {CHOSEN: pack(_named(run, chosen))}
            folder.save_averages(run.stage.name, progress.seen, files | more)
            return
    with suppress(Full):  # the checkpoint that follows is what must succeed
        folder.save_averages(run.stage.name, progress.seen, files)


def _named(run: StageRun, vectors: Weights) -> dict[str, Tensor]:
    """The tensors of flat vectors, one vector for each phase, by name."""
    pairs = zip(run.turns, vectors, strict=True)
    return {name: view for turn, vector in pairs for name, view in turn.flat.views(vector).items()}


def _early(run: StageRun, progress: Progress, folder: RunDir) -> dict[str, bytes]:
    """The first length's average as it was at the first position kept (an eighth of the stage)."""
    for seen, files in folder.load_averages(run.stage.name, most=1).items():
        if seen < progress.seen and AVERAGES in files:
            tensors = unpack(files[AVERAGES], run.tensors()[AVERAGES], AVERAGES)
            return {EARLY: pack({n.removeprefix("0/"): t for n, t in tensors.items() if n.startswith("0/")})}
    return {}
