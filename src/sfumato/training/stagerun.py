"""A gradient stage under way: the tensors it owns, and one step.

    g = (1/B) sum over the rows b of this step of grad loss_b          accumulated over micro-batches
    g <- sum of g over processes;   g <- g min(1, clip/|g|)            (loss or |g| not finite: no update)
    theta <- AdamW(theta, g)

Every draw is a function of (seed, stage, phase, position), so cutting the step differently changes
nothing but the order of a sum; the one exception are dropout masks, which follow the micro-batch
(they are drawn by PyTorch, from a seed of the micro-batch's first row). A step that does not get to
its update leaves nothing behind: gradients start from zero and buffers that the forward pass changed
are put back. When memory runs out the micro-batch is halved and the step starts over; the batch
stays what it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.errors import OutOfMemoryError
from ..core.noise import seed_of
from ..data.loader import Dataset
from ..objectives.objective import Loss, Phase
from .adamw import AdamW
from .draws import Rows, block_of, seed_networks
from .ema import Ema
from .execution import Execution
from .flat import Flat
from .rundir import Checkpoint
from .signals import StopRequested
from .stage import Stage
from .state import Progress, unpack
from .world import World


@dataclass
class Outcome:
    """What a step reports, as tensors that nobody has waited for.

    terms: means over the batch by name, with the total under "loss"; norm of the gradient before
    clipping; bad: 1.0 if the step was left out; notes: see Loss; waited: seconds spent on data.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    notes: dict[str, Tensor] = field(default_factory=dict)
    norm: Tensor = field(default_factory=lambda: torch.zeros(()))
    bad: Tensor = field(default_factory=lambda: torch.zeros(()))
    waited: float = 0.0

    def add(self, loss: Loss, total: Tensor, batch: int) -> None:
        """Take in a micro-batch's part of the means."""
        for name, value in [("loss", total), *((k, v.detach().sum() / batch) for k, v in loss.terms.items())]:
            self.terms[name] = self.terms[name] + value if name in self.terms else value
        self.notes.update({name: note.detach() for name, note in loss.notes.items()})


class Turn:
    """A phase with the parameters it moves, their optimizer and their averages."""

    def __init__(self, phase: Phase, names: Mapping[int, str], stage: Stage) -> None:
        self.phase = phase
        moved = [p for module in phase.modules for p in module.parameters() if p.requires_grad]
        self.flat = Flat((names[id(p)], p) for p in moved)
        self.ema = Ema(self.flat, stage.lengths)
        self.optimizer = AdamW(self.flat.values, self.flat.grads, betas=stage.betas, decay=stage.decay)

    def update(self, rate: float, clip: float, loss: Tensor, world: World) -> tuple[Tensor, Tensor]:
        """Exchange, clip and apply the gradient unless it is not finite: (norm, bad)."""
        norm = torch.linalg.vector_norm(world.sum(self.flat.grads))
        bad = 1.0 - torch.isfinite(norm + loss).float()
        self.flat.grads.mul_((clip / (norm + 1e-12)).clamp_(max=1.0))
        self.optimizer.step(rate, bad)
        return norm, bad


class StageRun:
    """The model and objective of a stage, made ready; `step` is one step of all its phases.

    Everything but the trained part is frozen and in evaluation mode; a parameter the model itself was
    constructed with as not trainable stays so.
    """

    def __init__(
        self,
        stage: Stage,
        model: nn.Module,
        data: Dataset,
        world: World,
        execution: Execution,
        seed: int,
        target: int = 0,
    ) -> None:
        self.stage, self.model, self.data, self.world = stage, model, data, world
        self.module, self.trained = stage.module(model), stage.trained(model)
        stage.objective.open(self.module, target)  # what it copies of the model is plainly laid out
        stage.objective.to(world.device)
        self.execution, self.seed = execution.prepare(model), seed
        execution.prepare(stage.objective)
        self.block = block_of(stage.batch)
        self._trainable = [(p, p.requires_grad) for p in model.parameters()]
        inside = {id(p) for p in self.trained.parameters()}
        for parameter, trainable in self._trainable:
            parameter.requires_grad_(trainable and id(parameter) in inside)
        self.modes()
        phases = stage.objective.phases(self.module, self.trained)
        names = {id(p): f"objective.{n}" for n, p in stage.objective.named_parameters()}
        names |= {id(p): n for n, p in model.named_parameters()}
        self.turns = [Turn(phase, names, stage) for phase in phases]
        self.parameters = sum(p.numel() for turn in self.turns for p in turn.flat.parameters.values())
        rows = world.rank * stage.batch // world.size, (world.rank + 1) * stage.batch // world.size
        self.first, self.last = rows

    def modes(self) -> None:
        """Training mode for what is trained, evaluation mode for the rest."""
        self.model.eval()
        self.trained.train()
        self.stage.objective.train()

    def close(self) -> None:
        """Leave the model as a stage finds it: plainly laid out, trainable as constructed, no gradients.

        The layout decides the order of sums in a convolution. What comes next must find the one that a
        model read from a checkpoint has, or a resumed run would differ in the last bit.
        """
        Execution().prepare(self.model)
        Execution().prepare(self.stage.objective)
        for parameter, trainable in self._trainable:
            parameter.requires_grad_(trainable)
            parameter.grad = None
        self.model.eval()

    # ------------------------------------------------------------------------- one step

    def step(
        self,
        progress: Progress,
        ids: Tensor,
        rate: float,
        poll: Callable[[], None],
        tell: Callable[[str], None],
    ) -> Outcome:
        """One step of every phase on the examples `ids` (of the whole global batch)."""
        outcome = Outcome()
        for turn in self.turns:
            if len(self.turns) > 1:
                for other in self.turns:
                    for p in other.flat.parameters.values():
                        p.requires_grad_(other is turn)
            # once a phase has been applied the step must be finished: only the first may be stopped
            may_stop = poll if turn is self.turns[0] else _go_on
            terms = self._gradient(turn, progress, ids, may_stop, tell, outcome)
            outcome.norm, bad = turn.update(rate, self.stage.clip, terms["loss"], self.world)
            outcome.bad = torch.maximum(outcome.bad.to(bad.device), bad)
        return outcome

    def _gradient(
        self,
        turn: Turn,
        progress: Progress,
        ids: Tensor,
        poll: Callable[[], None],
        tell: Callable[[str], None],
        outcome: Outcome,
    ) -> dict[str, Tensor]:
        """Fill the phase's gradient with the mean over the batch; halve the micro-batch on need."""
        buffers = [(b, b.clone()) for m in (self.trained, self.stage.objective) for b in m.buffers()]
        rows = self.last - self.first
        while True:
            turn.flat.grads.zero_()
            part, failed = Outcome(), ""
            micro = min(progress.micro or rows, rows)
            try:
                for start in range(self.first, self.last, micro):
                    poll()
                    self._micro(turn, progress.seen, ids, start, min(start + micro, self.last), part)
                break
            except StopRequested:
                _restore(buffers)
                raise
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                failed = str(error).splitlines()[0] if str(error) else "out of memory"
            _restore(buffers)
            progress.micro = halved(micro, failed, tell)
        if self.world.size > 1:
            joined = self.world.sum(torch.stack(list(part.terms.values())))
            part.terms = dict(zip(part.terms, joined.unbind(), strict=True))
        for name, value in part.terms.items():
            outcome.terms[name if turn is self.turns[0] else f"{turn.phase.name}.{name}"] = value
        outcome.notes.update(part.notes)
        outcome.waited += part.waited
        return part.terms

    def _micro(self, turn: Turn, seen: int, ids: Tensor, start: int, stop: int, part: Outcome) -> None:
        """Add the gradient of the rows [start, stop) of this step."""
        before = time.perf_counter()
        batch = self.data.batch(ids[start:stop], self.world.device)
        part.waited += time.perf_counter() - before
        key = (self.seed, self.stage.name, turn.phase.name)
        noise = Rows(key, seen + start, seen + stop, block=self.block, device=self.world.device)
        # what does not take its randomness from `noise` (dropout) is tied to the position too
        seed_networks(seed_of(*key, "network", seen + start), self.world.device)
        with self.execution.context(self.world.device):
            loss = turn.phase.loss(self.module, batch, noise=noise, seen=seen)
        total = loss.total.float().sum() / self.stage.batch
        total.backward()
        part.add(loss, total.detach(), self.stage.batch)

    def average(self, seen: int) -> None:
        """Take the weights after a step into the averages."""
        for turn in self.turns:
            turn.ema.update(seen, self.stage.batch)

    @contextmanager
    def averaged(self, vectors: Sequence[Tensor] | None = None) -> Iterator[None]:
        """Compute with averages (by default the first length) instead of the weights."""
        with ExitStack() as stack:
            for k, turn in enumerate(self.turns):
                stack.enter_context(turn.ema.applied(None if vectors is None else vectors[k]))
            yield

    # ------------------------------------------------------------------------- state

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Every tensor of the stage, by file and name: model, objective, averages, optimizer."""
        averages: dict[str, Tensor] = {}
        optimizer: dict[str, Tensor] = {}
        for turn in self.turns:
            for k, vector in enumerate(turn.ema.vectors):
                averages |= {f"{k}/{n}": v for n, v in turn.flat.views(vector).items()}
            for moment, vector in turn.optimizer.moments.items():
                views = turn.flat.views(vector)
                optimizer |= {f"{turn.phase.name}/{moment}/{n}": v for n, v in views.items()}
            optimizer[f"{turn.phase.name}/step"] = turn.optimizer.count
        return {
            "model.safetensors": dict(self.model.state_dict()),
            "objective.safetensors": dict(self.stage.objective.state_dict()),
            "averages.safetensors": averages,
            "optimizer.safetensors": optimizer,
        }

    @torch.no_grad()
    def load(self, checkpoint: Checkpoint) -> None:
        """Put back every tensor, strictly: nothing is changed unless all of them fit."""
        targets = self.tensors()
        found = {
            file: unpack(checkpoint.file(file), expected, file, checkpoint.name)
            for file, expected in targets.items()
        }
        for file, expected in targets.items():
            for name, target in expected.items():
                target.copy_(found[file][name])


def _go_on() -> None:
    """A poll that never stops."""


def _restore(buffers: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in ("out of memory", "can't allocate memory"))


def halved(micro: int, why: str, tell: Callable[[str], None]) -> int:
    """Half the micro-batch, told; OutOfMemoryError at one example."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if micro <= 1:
        raise OutOfMemoryError(
            "memory runs out even for a single example",
            where=why,
            remedy="Use smaller images (--size), a smaller network, or close other programs.",
        )
    tell(f"Memory ran out: micro-batch {micro} -> {micro // 2}; the batch stays the same.")
    return micro // 2
