"""The training loop.

    for each stage of the recipe:
        plan how many examples it gets                                   (budget.py, pilot.py)
        while seen < target:
            ids     = order of the data at `seen`                        (data/loader.py)
            weights = one step on them at rate(seen, target)             (stagerun.py)
            averages take in the weights                                 (ema.py)
            now and then: log, judge, save, look                         (watcher.py)
        the chosen average becomes the weights                           (choice.py)

Progress is the number of examples seen and all randomness is a function of it. Hence to resume is
to run the same again: the state is found, the loop goes on, and on a CPU the result is equal to the
bit to that of a run nobody disturbed.

Loss or gradient not finite: the step is left out. More than three in a row, or a state that is not
finite at a save: back to the last checkpoint with half the rate and in float32; after the third
time the training gives up and says what to try (DivergedError).
"""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from dataclasses import replace

import torch
from torch import nn

from ..core.errors import DivergedError, Interrupted, StorageError
from ..core.noise import Noise, seed_of
from ..data.loader import Dataset, Loader
from .budget import Budget
from .choice import choose
from .events import Note, Reporter, Silent, StageEnded, StageStarted
from .execution import Execution
from .heldout import HeldOutLoss
from .keeper import MODEL, Keeper, NotFinite
from .pilot import Trial, fastest, try_steps
from .probes import Probe
from .rundir import Checkpoint, RunDir
from .settings import Settings
from .signals import Stop, StopRequested
from .stage import Fit, Recipe, Stage
from .stagerun import StageRun
from .state import DONE, Progress, environment, unpack
from .storage import Full
from .watcher import Unstable, Watcher
from .world import World

ROLLBACKS = 3
# steps from which on it pays to try ways of computing
WORTH_TRYING = 200


class Trainer:
    """Trains a recipe's model on data, into a run folder that `RunDir.begin` has described.

    held_out  examples to judge by; without them there is no best checkpoint and the first length
              of average is chosen
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        run: RunDir,
        *,
        budget: Budget,
        seed: int = 0,
        held_out: Dataset | None = None,
        probes: tuple[Probe, ...] = (),
        reporter: Reporter | None = None,
        world: World | None = None,
        settings: Settings = Settings(),  # noqa: B008 - frozen
    ) -> None:
        self.recipe, self.data, self.run, self.budget = recipe, data, run, budget
        self.world, self.settings = world or World.find(), settings
        self.reporter = reporter if reporter is not None and self.world.main else Silent()
        if self.world.device.type == "cuda" and fits_beside(data.stored.nbytes, self.world.device):
            data.keep_on(self.world.device)
        self.model = recipe.model.to(self.world.device).eval()
        self.progress = Progress(seed=seed, environment=environment(self.world.device))
        self.keeper = Keeper(run, self.reporter)
        self.probes = probes if self.world.main else ()
        self.judge = (
            HeldOutLoss(held_out, settings.judged, self.world.device)
            if held_out is not None and len(held_out) and settings.judged
            else None
        )
        self.stop = Stop()
        self.current: StageRun | None = None
        self.watcher: Watcher | None = None

    # ------------------------------------------------------------------------- the whole

    def fit(self) -> nn.Module:
        """Train to the end of the budget, from wherever the run stands; the trained model.

        Raises Interrupted after a signal (the state is saved), DivergedError, StorageError,
        OutOfMemoryError, BusyError, RefusedError.
        """
        held = self.run.lock() if self.world.main else nullcontext()
        gpu = [self.world.device] if self.world.device.type == "cuda" else []
        with held, self.stop, torch.random.fork_rng(devices=gpu):
            found = self._resume()
            try:
                while self.progress.stage < len(self.recipe.stages):
                    stage = self.recipe.stages[self.progress.stage]
                    self.progress.stage_name = stage.name
                    if isinstance(stage, Fit):
                        self._fit(stage)
                    else:
                        self._descend(stage, found)
                    found = None
                    self._next()
            except StopRequested:
                self._leave()
        return self.model.eval()

    def _resume(self) -> Checkpoint | None:
        """Put back the newest valid state, if there is one."""
        if not self.world.main:
            self.world.wait()
        found = self.keeper.newest(tidy=self.world.main)
        if self.world.main:
            self.world.wait()
        if found is None:
            return None
        was = self.progress
        self.progress, checkpoint = found
        was.environment["kernel"] = environment(self.world.device, self.progress.compiled)["kernel"]
        now = {"seed": self.progress.seed} | self.progress.environment
        self._adopt(checkpoint)
        changed = {
            k: (v, now.get(k)) for k, v in ({"seed": was.seed} | was.environment).items() if now.get(k) != v
        }
        self.progress.environment = was.environment
        for key, (new, old) in changed.items():
            if key == "seed":
                text = f"The run's own seed {old} is used, not {new}."
            else:
                text = f"This run was made with {key} {old}, now {new}: it goes on, but not equal to the bit."
            self.reporter.report(Note(text))
        return checkpoint

    def _adopt(self, checkpoint: Checkpoint) -> None:
        """Load the model's weights and cut the metrics back to the checkpoint."""
        expected = self.model.state_dict()
        found = unpack(checkpoint.file(MODEL), expected, MODEL, self.run.path)
        with torch.no_grad():
            for name, tensor in expected.items():
                tensor.copy_(found[name])
        if self.world.main:
            self._tidy([stage.name for stage in self.recipe.stages[: self.progress.stage]])
            self.run.rewind(self.progress.metrics)

    def _next(self) -> None:
        """Close the books on a stage; after the last one the finished model is saved."""
        done = [stage.name for stage in self.recipe.stages[: self.progress.stage + 1]]
        after = self.recipe.stages[len(done) :]
        self.progress.begin(len(done), after[0].name if after else DONE)
        if self.world.main:
            self._save_model()
            self._tidy(done)
            self.run.tell(stages_done=done)

    def _tidy(self, done: list[str]) -> None:
        """What the choice of an average needed can go once its result is saved."""
        with suppress(Full):
            for name in done:
                self.run.thin_averages(name)

    def _save_model(self) -> None:
        self.keeper.save(self.progress, {MODEL: self.model.state_dict()}, must=True)

    def _leave(self) -> None:
        """Save after a signal, and tell how to go on."""
        last = f"{self.keeper.last} is kept" if self.keeper.last else "nothing was there to save yet"
        number, told = self.stop.requested, last
        if self.watcher is not None:
            self.watcher.account()
        if self.current is not None and self.world.main:
            try:
                self.keeper.save(self.progress, self.current.tensors(), must=True)
                told = f"saved at {self.progress.seen:,} examples of stage '{self.progress.stage_name}'"
            except (StorageError, NotFinite) as error:
                told = f"saving failed ({error}); {last}"
        raise Interrupted(
            f"stopped: {told}",
            signal=number,
            where=self.run.path,
            remedy="Run the same command again to go on.",
        )

    # ------------------------------------------------------------------------- a closed-form stage

    def _fit(self, stage: Fit) -> None:
        """Fit one part to encoded data."""
        self._announce(stage.name)
        count = min(stage.examples, len(self.data))
        ids = Loader(self.data, seed_of(self.progress.seed, stage.name)).at(0, count)
        codec, part = self.model.get_submodule(stage.through), self.model.get_submodule(stage.on)
        codes, labels = [], []
        with torch.no_grad():
            for start in range(0, count, 64):
                self.stop.poll()
                rows = ids[start : start + 64]
                seeds = [seed_of(self.progress.seed, stage.name, start + k) for k in range(len(rows))]
                noise = Noise(seeds, device=self.world.device)
                batch = self.data.batch(rows, self.world.device)
                codes.append(codec.encode(batch.x, noise=noise))  # type: ignore[operator]
                labels += [batch.label] if batch.label is not None else []
            label = torch.cat(labels) if labels else None
            part.fit(torch.cat(codes), label, seed=seed_of(self.progress.seed, stage.name))  # type: ignore[operator]
            for tensor in part.state_dict().values():
                self.world.share(tensor)
        self.reporter.report(StageEnded(stage.name, 0, 0.0))

    def _announce(self, name: str, run: StageRun | None = None) -> None:
        progress, count = self.progress, len(self.recipe.stages)
        batch, parameters = (run.stage.batch, run.parameters) if run else (0, 0)
        event = StageStarted(name, progress.stage, count, progress.seen, progress.target, batch, parameters)
        self.reporter.report(event)

    # ------------------------------------------------------------------------- a gradient stage

    def _descend(self, stage: Stage, found: Checkpoint | None) -> None:
        """Train a stage to its target, and put the chosen average in place."""
        run = self.current = self._open(stage, found)
        progress = self.progress
        loader = Loader(self.data, seed_of(progress.seed, stage.name))
        judge = self.judge.within(progress.target) if self.judge else None
        parts = (self.settings, judge, self.probes, self.poll)
        watcher = self.watcher = Watcher(run, self.keeper, self.reporter, *parts)
        watcher.start(progress)
        while progress.seen < progress.target:
            self._poll_together()
            rate = progress.rate_scale * stage.rate.at(progress.seen + stage.batch / 2, progress.target)
            ids = loader.at(progress.seen, stage.batch)
            outcome = run.step(progress, ids, rate, self.poll, self.warn)
            progress.see(ids)
            run.average(progress.seen)
            for tensor in stage.objective.sums(run.module):
                self.world.sum(tensor)
            stage.objective.after_step(run.module, progress.seen)
            try:
                watcher.after(outcome, rate)
            except Unstable as reason:
                self._roll_back(run, str(reason))
                progress = self.progress
        watcher.account()
        length = choose(run, progress, judge, self.run, self.poll)
        progress.chosen[stage.name] = length
        run.close()
        self.reporter.report(StageEnded(stage.name, progress.seen, watcher.clock.elapsed(), length))
        self.current = self.watcher = None

    def _open(self, stage: Stage, found: Checkpoint | None) -> StageRun:
        """The stage ready to step: as the checkpoint left it, or planned and saved at its start."""
        progress = self.progress
        resumed = found is not None and progress.target > 0
        execution = Execution(progress.bf16, progress.channels_last, progress.compiled)
        if not resumed:
            execution = self._plan(stage)
        run = StageRun(stage, self.model, self.data, self.world, execution, progress.seed, progress.target)
        progress.compiled = run.execution.compiled
        progress.environment = environment(self.world.device, progress.compiled)
        fixed = self.settings.execution
        if resumed and fixed is not None and fixed.bf16 != execution.bf16:
            self.reporter.report(Note(f"The stage goes on as it began, in {execution}, not in {fixed}."))
        fits = self.settings.fits.get(stage.name, 0)
        if resumed and 0 < fits < (progress.micro or stage.batch):
            progress.micro = fits
            self.warn(f"Less memory is free: micro-batches of {fits} in this stage.")
        if resumed and found is not None:
            run.load(found)
            if self.world.main:
                self.run.drop_averages(stage.name, above=progress.seen)
        elif self.world.main:
            self.keeper.save(progress, run.tensors(), must=True)
        self._announce(stage.name, run)
        return run

    def _plan(self, stage: Stage) -> Execution:
        """Decide how to compute and how many examples to see; written down in the progress."""
        progress, fixed = self.progress, self.settings.execution
        progress.micro = self.settings.micro_of(stage.name)
        progress.elapsed = self.world.agree(progress.elapsed)
        shares = self.recipe.shares(progress.stage)
        rough = 0 if self.budget.timed else self.budget.examples(shares, progress.elapsed, 0.0)
        speed, execution = 0.0, fixed or Execution()
        if self.budget.timed or (fixed is None and rough >= WORTH_TRYING * stage.batch):
            trial = self._try(stage, rough)
            execution, speed, progress.micro = trial.execution, trial.speed, trial.micro
        progress.bf16, progress.channels_last = execution.bf16, execution.channels_last
        progress.compiled = execution.compiled
        count = stage.most(self.budget.examples(shares, progress.elapsed, speed), len(self.data))
        progress.target = -(-count // stage.batch) * stage.batch
        return execution

    def _try(self, stage: Stage, examples: int) -> Trial:
        """The fastest way to compute (or the one that is set), by trial steps that leave no trace."""
        start, fixed, shares = (
            time.monotonic(),
            self.settings.execution,
            self.recipe.shares(self.progress.stage),
        )
        ids = Loader(self.data, seed_of(self.progress.seed, stage.name)).at(0, stage.batch)
        # what a trial may cost: seconds, or less where the whole stage is short
        one_second = (
            self.budget.examples(shares, self.progress.elapsed, 1.0) / 100 if self.budget.timed else 1.0
        )

        def attempt(way: Execution) -> Trial:
            before = time.perf_counter()
            run = StageRun(stage, self.model, self.data, self.world, way, self.progress.seed, examples)
            ready = time.perf_counter() - before
            try:
                return try_steps(run, self.progress, ids, self.poll, min(1.0, one_second), ready)
            finally:
                run.close()

        # with a budget of hours, judge by the examples that the plain way would see
        if fixed is not None:
            trials = [attempt(fixed)]
        else:
            expected = examples or 100 * one_second * attempt(Execution()).speed
            trials = fastest(attempt, self.world.device, expected)
        told = "; ".join(f"{trial.execution} {trial.speed:,.0f}" for trial in trials)
        self.reporter.report(Note(f"Computing in {trials[0].execution} (examples per second: {told})."))
        self.progress.elapsed += self.world.agree(time.monotonic() - start)
        return trials[0]

    def _roll_back(self, run: StageRun, reason: str) -> None:
        """Back to the last checkpoint with half the rate and in float32; DivergedError the fourth time."""
        scale, count = self.progress.rate_scale / 2, self.progress.rollbacks + 1
        position = self.progress.seen
        peak = run.stage.rate.at(position, 1e12) * scale
        found = self.keeper.newest(tidy=self.world.main)
        if count > ROLLBACKS or found is None:
            raise DivergedError(
                f"training diverged at {position:,} examples: {reason}",
                where=f"stage '{run.stage.name}'; {self.keeper.last} is kept and finite",
                remedy="Try a lower rate in a new folder: "
                f"--set stages.{run.stage.name}.rate.peak={peak:.1g} --out NEW_FOLDER",
            )
        self.progress, checkpoint = found
        self._adopt(checkpoint)
        run.load(checkpoint)
        self.progress.rate_scale, self.progress.rollbacks, self.progress.bf16 = scale, count, False
        run.execution = replace(run.execution, bf16=False)
        if self.watcher is not None:
            self.watcher.start(self.progress)
        self.warn(
            f"Not finite at {position:,} examples ({reason}): back to {checkpoint.name}, "
            f"rate x {scale:g}, float32 ({count} of {ROLLBACKS})."
        )

    # ------------------------------------------------------------------------- small services

    def poll(self) -> None:
        """Raise StopRequested if the user asked to stop; with several processes they stop together."""
        if self.world.size == 1:
            self.stop.poll()

    def _poll_together(self) -> None:
        if self.world.size > 1:
            self.stop.requested = int(self.world.agree(self.stop.requested))
        self.stop.poll()

    def warn(self, text: str) -> None:
        """Tell the user something to act on."""
        self.reporter.report(Note(text, warning=True))


def fits_beside(size: int, device: torch.device) -> bool:
    """Whether so many bytes of data take less than an eighth of a GPU's free memory."""
    free, _ = torch.cuda.mem_get_info(device)
    return 8 * size < free
