"""What happens between the steps of a stage: reading, judging, saving, looking, telling.

Nothing here changes the weights. Positions (log lines, held-out losses, kept averages) are functions
of the examples seen, so a resumed run writes the same records; saves also come by the clock, since
what they bound is lost time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..core.errors import OutOfMemoryError, StorageError
from ..models.vqvae import VqVae
from ..objectives.objective import Judge
from . import watch
from .advice import Advice
from .ema import early_share
from .events import HeldOut, Note, Reporter, Stepped
from .heldout import HeldOutLoss
from .keeper import Keeper, NotFinite
from .meter import Clock, Meter
from .probes import Moment, Probe
from .settings import Settings
from .stagerun import Outcome, StageRun, out_of_memory
from .state import Progress, finite, pack

STREAK = 3
KEPT_AVERAGES = 8
TELL_SECONDS = 0.1
AVERAGES = "averages.safetensors"


class Unstable(Exception):
    """The training left the finite numbers and does not come back by itself."""


class Watcher:
    """Watches one stage; `after` is called after each step, in every process."""

    def __init__(
        self,
        run: StageRun,
        keeper: Keeper,
        reporter: Reporter,
        settings: Settings,
        judge: HeldOutLoss | None,
        probes: tuple[Probe, ...],
        poll: Callable[[], None],
    ) -> None:
        self.run, self.keeper, self.reporter, self.settings = run, keeper, reporter, settings
        self.judge, self.probes, self.poll, self.main = judge, probes, poll, run.world.main
        self.clock, self._accounted, self._told = Clock(), 0.0, set[str]()
        self._next_save = time.monotonic() + 60 * settings.first_minutes
        self._next_tell, self._first = 0.0, True
        self._latest: dict[str, float] = {}

    def start(self, progress: Progress) -> None:
        """Begin, or go on after a resume or a roll-back, from a position."""
        self.progress = progress
        self.meter = Meter(lagging=self.run.world.device.type == "cuda")
        self._latest = {}
        self.clock.pause()
        if self._at_look():  # the very start, or a look that a signal cut short
            self._judge()
            self._look()
            self.run.world.wait()

    def account(self) -> None:
        """Add the time used since the last call to the run's."""
        now = self.clock.elapsed()
        self.progress.elapsed += now - self._accounted
        self._accounted = now

    def after(self, outcome: Outcome, rate: float) -> None:
        """Everything due after the step that ended at progress.seen; may raise Unstable."""
        progress = self.progress
        self.meter.add(outcome)
        self.clock.tick(self.run.stage.batch, outcome.waited)
        end = progress.seen >= progress.target
        reading = end or self._crossed(self.settings.lines)
        if reading or not self.meter.lagging:
            self._check_streak()
        if reading:
            self._log(rate)
        if self._crossed(KEPT_AVERAGES) and self.main and not end:
            self._keep_averages()
        looking = self._at_look()
        if end or (looking and self.run.world.size > 1):
            self._check_finite()
        best = looking and self._judge()
        first = self._due()
        if self.main and not end and (best or first is not None):
            self._save(best)
        # by each process' own clock, so only one that is alone may look at it: others would not wait
        if looking or (first and self.run.world.size == 1):
            self._look()
        if looking:
            self.run.world.wait()  # the main process draws pictures, for longer than a step takes
        self._tell(rate)

    # ------------------------------------------------------------------------- when

    def _crossed(self, parts: int) -> bool:
        """Whether the last step crossed one of `parts` evenly spaced marks of the stage."""
        seen, target = self.progress.seen, self.progress.target
        return seen * parts // target > (seen - self.run.stage.batch) * parts // target

    def _at_look(self) -> bool:
        return self.progress.seen == 0 or self._crossed(self.settings.looks)

    def _due(self) -> bool | None:
        """None if no save is due, else whether it is the first by the clock."""
        every, seen = self.settings.save_examples, self.progress.seen
        if time.monotonic() >= self._next_save:
            first, self._first = self._first, False
            self._next_save = time.monotonic() + 60 * self.settings.save_minutes
            return first
        if every and seen // every > (seen - self.run.stage.batch) // every:
            return False
        return None

    # ------------------------------------------------------------------------- what

    def _check_streak(self) -> None:
        streak, progress = self.meter.streak(), self.progress
        if streak > progress.streak:
            progress.skipped += streak - progress.streak
            self._note(f"Loss or gradient not finite at {progress.seen:,} examples: step left out.")
        progress.streak = streak
        if streak > STREAK:
            raise Unstable(f"{streak} steps in a row without a finite loss and gradient")

    def _check_finite(self) -> None:
        for file, tensors in self.run.tensors().items():
            if name := finite(tensors):
                raise Unstable(f"{name} in {file}")

    def _log(self, rate: float) -> None:
        read = self.meter.close(self.progress.seen)
        if read is None:
            return
        seen, values = read
        self._latest = values
        if "loss" in values:
            self.progress.losses.append([seen, values["loss"]])
        lag = float(self.run.turns[0].ema.lag())
        self._latest["lag"] = lag if math.isfinite(lag) else 0.0
        timing = {
            "speed": round(self.clock.speed(), 1),
            "data_wait": round(self.clock.data_wait(), 4),
            "elapsed": round(self.progress.elapsed + self.clock.elapsed() - self._accounted, 1),
        }
        self._record("step", seen, self._latest | {"rate": rate}, timing)

    def _record(self, kind: str, seen: int, values: dict[str, float], timing: dict[str, float]) -> None:
        if self.main:
            kept = {k: v for k, v in values.items() if math.isfinite(v)}
            place = {"kind": kind, "stage": self.progress.stage_name, "seen": seen}
            self.keeper.run.log(place | kept | ({"time": timing} if timing else {}))

    def _judge(self) -> bool:
        """Judge the averaged weights on held-out data; whether they are the best so far (after a start)."""
        progress, run = self.progress, self.run
        if self.judge is None or progress.judged == progress.seen:
            return False
        run.model.eval()
        run.stage.objective.eval()
        try:
            with run.averaged():
                what = (run.stage.objective, run.module, run.execution, progress.seen)
                values = self.judge(*what, self.poll, progress.micro)
        except OutOfMemoryError:
            self._note("Judging held-out images did not fit into memory, not even one, and was left out.")
            return False
        finally:
            run.modes()
            self.clock.pause()
        progress.judged, loss = progress.seen, values["loss"]
        best = math.isfinite(loss) and (not progress.held_out or loss < progress.best_loss)
        if best:
            progress.best_loss = loss
        if math.isfinite(loss):
            progress.held_out.append([progress.seen, loss])
        self._record("held_out", progress.seen, values, {})
        self.reporter.report(HeldOut(progress.stage_name, progress.seen, values, best))
        judge = run.stage.objective
        decides, settled = (judge.decides, judge.settled) if isinstance(judge, Judge) else (True, True)
        for text in watch.held_out(progress.held_out, progress.target, decides) if settled else ():
            self._note(text)
        return best and progress.seen > 0

    def _save(self, best: bool) -> None:
        self.account()
        try:
            self.keeper.save(self.progress, self.run.tensors(), must=False, best=best)
        except NotFinite as error:
            if self.run.world.size == 1:  # several processes find out together, at the next look
                raise Unstable(str(error)) from None
        self.clock.pause()

    def _keep_averages(self) -> None:
        name = self.progress.stage_name
        try:
            data = pack(self.run.tensors()[AVERAGES])
            self.keeper.run.save_averages(name, self.progress.seen, {AVERAGES: data})
        except StorageError as error:
            self._note(f"Averages at {self.progress.seen:,} examples were not kept: {error.what}.")

    def _look(self) -> None:
        """Call the probes and read the signs."""
        progress, run = self.progress, self.run
        notes = {name: note.flatten().tolist() for name, note in self.meter.notes().items()}
        done = progress.seen / max(progress.target, 1)
        scalar = isinstance(run.module, VqVae) and run.module.scalar
        for text in watch.latents(notes, done, Advice.of(run.stage), scalar=scalar):
            self._note(text)
        if progress.looked == progress.seen:
            return
        if progress.seen:
            share = early_share(run.turns[0].ema.gammas[0], 0.2)
            for text in watch.ema_memory(share, self._latest.get("lag", 0.0)):
                self._note(text)
        run.model.eval()
        moment = Moment(
            run.model,
            run.averaged,
            self.keeper.run,
            progress.stage_name,
            run.stage.on,
            progress.seen,
            progress.target,
            progress.total,
            self.poll,
        )
        try:
            for probe in self.probes:
                self._ask(probe, moment)
            progress.looked = progress.seen
        finally:
            run.modes()
            self.clock.pause()

    def _ask(self, probe: Probe, moment: Moment) -> None:
        try:
            finding = probe.look(moment)
        except (OSError, StorageError) as error:
            self._note(f"A look at the model could not be written: {error}")
            return
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self._note("A look at the model did not fit into memory and was left out.")
            return
        if finding.numbers:
            self._record("probe", moment.seen, dict(finding.numbers), {})
        for text in finding.notes:
            self._note(text)

    def _note(self, text: str) -> None:
        """Tell the user something, once: the same finding with other numbers is not news."""
        if (finding := watch.finding(text)) not in self._told:
            self._told.add(finding)
            self.reporter.report(Note(text, warning=True))

    def _tell(self, rate: float) -> None:
        now, progress = time.monotonic(), self.progress
        if now < self._next_tell and progress.seen < progress.target:
            return
        self._next_tell = now + TELL_SECONDS
        speed, latest = self.clock.speed(), dict(self._latest)
        remaining = (progress.target - progress.seen) / speed if speed else math.nan
        loss, lag = latest.pop("loss", math.nan), latest.pop("lag", 0.0)
        wait = self.clock.data_wait()
        place = (progress.stage_name, progress.seen, progress.target)
        self.reporter.report(Stepped(*place, loss, rate, speed, remaining, wait, lag, latest))
