"""The parent's side of decoding: batches of pictures to child processes and back, in order.

A child that dies or takes longer than its time is replaced, and its batch is repeated one picture at a
time, so that exactly the guilty file is named. Every thread owns one child; results come in the order of the
items, with a bounded number of batches under way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.errors import WorkerError
from .options import Plan

SECONDS = 30.0  # for one picture; a large one needs 2 on an idle machine
START_SECONDS = 60.0
BATCH = 64
BATCH_BYTES = 8 << 20
PROCESSES = 8


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a source: its name in messages, its file or bytes, and what is known about it."""

    name: str
    path: str | None = None
    data: bytes | None = None
    fault: str | None = None  # why there are no bytes
    label: str | None = None
    caption: str = ""
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item: `said` holds the worker's words, or {"error": why}."""

    item: Item
    said: dict[str, Any]
    body: bytes = b""

    @property
    def error(self) -> str | None:
        """Why the item cannot be used; None if it can."""
        return self.said.get("error")


class _Died(Exception):
    """The child ended or was ended in the middle of a request."""


class Child:
    """One decoding process, started when first needed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, items: Sequence[Item], plan: Plan | None) -> list[Result]:
        """The results of a batch; a batch that kills the child is repeated one by one."""
        try:
            return self._ask(items, plan, max(SECONDS, 1.0 * len(items)))
        except _Died as died:
            if len(items) == 1:
                return [Result(items[0], {"error": str(died)})]
        return [self.ask([item], plan)[0] for item in items]

    def close(self) -> None:
        """End the child."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    _close_quietly(pipe)
            self.process.wait()
            self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sfumato.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
        )
        self.process = process
        with _Deadline(process, START_SECONDS):
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                self.close()
                raise WorkerError(
                    "a decoding process did not start",
                    where=sys.executable,
                    remedy="Check that this Python can run: python -m sfumato.data.worker",
                )
        return process

    def _ask(self, items: Sequence[Item], plan: Plan | None, seconds: float) -> list[Result]:
        process = self.process or self._start()
        if process.stdin is None or process.stdout is None:
            raise ValueError("the child has no pipes")
        request = {"plan": plan and plan.to_json(), "items": [_announce(item) for item in items]}
        with _Deadline(process, seconds) as deadline:
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                for item in items:
                    process.stdin.write((item.data or b"") if item.fault is None else b"")
                process.stdin.flush()
                said = json.loads(process.stdout.readline() or b"null")
                if said is not None:
                    bodies = [process.stdout.read(s.get("bytes", 0)) for s in said["results"]]
                    if all(len(b) == s.get("bytes", 0) for b, s in zip(bodies, said["results"], strict=True)):
                        return [Result(*parts) for parts in zip(items, said["results"], bodies, strict=True)]
            except OSError:
                pass
        self.close()
        raise _Died(f"decoding took longer than {seconds:g} s" if deadline.passed else "its decoder crashed")


def _announce(item: Item) -> dict[str, Any]:
    if item.fault is not None:
        return {"fault": item.fault}
    return {"path": item.path} if item.data is None else {"bytes": len(item.data)}


def _close_quietly(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:
        return  # the child is gone and so is what was left in the pipe


class _Deadline:
    """Kill a process that is still busy when the time is up."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed, self._process = False, process
        self._timer = threading.Timer(seconds, self._kill)

    def _kill(self) -> None:
        self.passed = True
        self._process.kill()

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


class Decoders:
    """A few children and the threads that talk to them; end them with `with`."""

    def __init__(self, processes: int | None = None) -> None:
        self.count = processes or min(os.cpu_count() or 1, PROCESSES)
        self._threads = ThreadPoolExecutor(self.count)
        self._children: list[Child] = []
        self._mine = threading.local()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()

    def _work(self, batch: list[Item], plan: Plan | None) -> list[Result]:
        if not hasattr(self._mine, "child"):
            self._mine.child = Child()
            self._children.append(self._mine.child)
        return self._mine.child.ask(batch, plan)

    def results(self, items: Iterable[Item], plan: Plan | None) -> Iterator[Result]:
        """The results of all items in their order; without a plan only their headers."""
        size = BATCH if plan is None else max(1, min(BATCH, BATCH_BYTES // plan.bytes))
        source = iter(items)
        under_way: deque[Future[list[Result]]] = deque()
        while True:
            while len(under_way) < 2 * self.count and (batch := list(islice(source, size))):
                under_way.append(self._threads.submit(self._work, batch, plan))
            if not under_way:
                return
            yield from under_way.popleft().result()
