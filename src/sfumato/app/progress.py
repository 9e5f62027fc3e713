"""Training as the user watches it: a bar where there is a terminal, a line now and then elsewhere; and long
drawings of images, by lines.

Both say the same: stage, examples, loss, examples per second, time that remains, time spent waiting for data.
"""

from __future__ import annotations

import math
import time

from ..training.events import (
    Event,
    HeldOut,
    Note,
    Reporter,
    Saved,
    StageEnded,
    StageStarted,
    Stepped,
)
from .console import Console

QUIET = 20.0  # seconds between lines where no bar can be drawn
LONG = 10.0  # seconds of drawing that are worth a line


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 10 s, 12 s."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def line(event: Stepped) -> str:
    """A step in one line."""
    done = event.seen / max(event.target, 1)
    wait = f", data wait {event.data_wait:.0%}" if event.data_wait >= 0.01 else ""
    return (
        f"{event.stage} {done:4.0%}  loss {event.loss:.4g}  {event.speed:,.0f} examples/s{wait}, "
        f"{duration(event.remaining)} left"
    )


class Lines(Reporter):
    """A line every so often, and every note, on whatever is not a terminal."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, time.monotonic()
        self.warnings: list[str] = []

    def report(self, event: Event) -> None:
        """Say what is worth saying."""
        match event:
            case StageStarted(seen=seen, target=target) if target:
                again = f", going on at {seen:,}" if seen else ""
                self.console.say(
                    f"Stage {event.index + 1} of {event.count}: {event.stage} - "
                    f"{event.parameters / 1e6:.2f} M parameters, {target:,} examples{again}"
                )
                self.last = 0.0
            case StageStarted():
                self.console.say(f"Stage {event.index + 1} of {event.count}: {event.stage} - in closed form")
            case Note(text=text, warning=warning):
                self.warnings += [text] if warning else []
                self.console.say(("Warning: " if warning else "") + text)
            case StageEnded(seconds=seconds) if seconds > 0:
                self.console.say(f"{event.stage} done in {duration(seconds)}")
            case Stepped():
                self.stepped(event)
            case HeldOut() | Saved() | _:
                pass

    def stepped(self, event: Stepped) -> None:
        """A line if the last one is long ago."""
        if time.monotonic() - self.last >= QUIET and math.isfinite(event.loss) and event.speed > 0:
            self.last = time.monotonic()
            self.console.say(line(event))

    def close(self) -> None:
        """Nothing to clear."""


class Bar(Lines):
    """A progress bar that keeps to one line of the terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        from rich.progress import BarColumn, Progress, TextColumn

        self.bar = Progress(TextColumn("{task.fields[line]}"), BarColumn(bar_width=24), transient=True)
        self.task = self.bar.add_task("", line="", total=1)
        self.bar.start()

    def stepped(self, event: Stepped) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=event.seen, total=event.target, line=line(event))

    def close(self) -> None:
        """Take the bar away."""
        self.bar.stop()


class Pace:
    """How long the drawing of `total` images still takes: told once the first ones show that it takes long,
    and now and then from there on. what: the words for what is counted."""

    def __init__(self, console: Console, total: int, what: str = "images drawn") -> None:
        self.console, self.total, self.what, self.done = console, total, what, 0
        self.start = time.monotonic()
        self.last = -math.inf

    def drew(self, count: int) -> None:
        """Count images that are drawn; say how far it is where there is time to read it."""
        self.done += count
        now = time.monotonic()
        remaining = (now - self.start) / self.done * (self.total - self.done)
        if remaining >= LONG and now - self.last >= QUIET:
            self.last = now
            told = f"{self.done:,} of {self.total:,} {self.what}"
            self.console.say(f"{told}, about {duration(remaining)} left")


def listener(console: Console) -> Lines:
    """The bar where it can be drawn, lines elsewhere."""
    return Bar(console) if console.interactive else Lines(console)
