"""Ctrl-C and SIGTERM while a verb works outside the training loop: one message, one exit code, a remedy.

    the first signal     raises KeyboardInterrupt where the work stands, and all is closed on the way out
    the second           leaves at once

Whatever is written is written aside and renamed, so a stop at any moment leaves no half file. The training
loop takes both signals over while it runs (training/signals.py): it saves first. Exit codes: 128 + signal.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from ..core.errors import Interrupted, SfumatoError

DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
TRAINING = ("train", "distill", "demo")  # verbs that go on where they were stopped


class Stoppable:
    """A context in which SIGINT and SIGTERM raise KeyboardInterrupt; `number` is the one that came, or 0."""

    def __init__(self) -> None:
        self.number = 0
        self._mine: list[signal.Signals] = []

    def __enter__(self) -> Stoppable:
        # who set a handler of their own, or runs this in another thread, decides alone
        if threading.current_thread() is threading.main_thread():
            self._mine = [n for n, usual in DEFAULTS.items() if signal.getsignal(n) is usual]
        for number in self._mine:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._mine:
            signal.signal(number, DEFAULTS[number])

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            os.write(2, b"\nstopped at once; what was finished is kept\n")
            os._exit(128 + number)
        self.number = number
        raise KeyboardInterrupt

    def error(self, verb: str) -> Interrupted:
        """What to tell of a verb that was stopped, and how to go on."""
        remedy = "Run the same command again; all that was finished is kept, and no file is half-written."
        if verb in TRAINING:
            remedy = "Run the same command again: it goes on from the last checkpoint, if there is one."
        number = self.number or signal.SIGINT
        return Interrupted(f"stopped by {signal.Signals(number).name}", signal=number, remedy=remedy)

    def code(self, error: SfumatoError) -> int:
        """The exit code of an error: that of the signal which truly came, where it tells of one."""
        return 128 + self.number if isinstance(error, Interrupted) and self.number else error.code
