"""Ctrl-C and SIGTERM: the first asks, the second insists.

The first signal only sets a flag. Every loop of the trainer polls it between pieces of work, saves
and leaves with exit code 128 + signal. A second signal leaves at once; the last checkpoint is whole
because every save is all or nothing. The handlers that were there before come back at the end.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType


class StopRequested(Exception):
    """Raised by `Stop.poll` between two pieces of work; the trainer saves and turns it into Interrupted."""


class Stop:
    """A context in which SIGINT and SIGTERM are requests; `requested` is the signal or 0."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        # only the main thread may set handlers; elsewhere the owner of the process decides
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os.write(2, b"\nstopped at once; the last checkpoint is kept\n")
            os._exit(128 + number)
        self.requested = number

    def poll(self) -> None:
        """Raise StopRequested if a signal has arrived."""
        if self.requested:
            raise StopRequested
