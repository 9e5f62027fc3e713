"""One process or several, on one device each: the only file that knows.

A global step of `batch` examples is cut into contiguous parts, one for each process (rank r of W
takes the rows [batch r / W, batch (r+1) / W)). Each process sums the gradients of its own rows,
divided by the global batch, and one sum over all processes of the flat gradient vector gives every
process the gradient one process would have computed (up to the order of the sum). The parameters
then follow the same path everywhere and need no exchange. Accelerate finds the device and, under
`accelerate launch` or `torchrun`, sets up the process group (nccl on GPUs, gloo on CPUs).

A process that is frozen or gone shows by its silence. How long that may last depends on what is waited for:

    every process does the same work (a gradient, a flag)         10 minutes, by a group of its own
    the main process alone draws, judges, fits, writes            2 hours, by the group of the launch
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..core.errors import WorkerError

CPU = torch.device("cpu")
PATIENCE = timedelta(minutes=10)  # for a process that does what this one does
FOR_MAIN = timedelta(hours=2)  # for the main process, which draws, judges and fits while the others wait


@dataclass(frozen=True)
class World:
    """This process' rank among `size`, its device, and how long another may do the same work (`alike`)."""

    device: torch.device = CPU
    rank: int = 0
    size: int = 1
    patience: timedelta = PATIENCE
    alike: Any = None  # the process group of exchanges that all reach at about the same time

    @classmethod
    def find(cls, *, cpu: bool = False, patience: timedelta = PATIENCE) -> World:
        """The world as launched, on CUDA if it is there; cpu: do not use it even so."""
        from accelerate import PartialState

        state = PartialState(cpu=cpu or not torch.cuda.is_available(), timeout=FOR_MAIN)
        _part_at_exit()
        alike = torch.distributed.new_group(timeout=patience) if state.num_processes > 1 else None
        return cls(state.device, state.process_index, state.num_processes, patience, alike)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with _together(self.patience):
                torch.distributed.all_reduce(tensor, group=self.alike)
        return tensor

    def share(self, tensor: Tensor) -> Tensor:
        """The main process' tensor, in place, however long it worked on it alone."""
        if self.size > 1:
            with _together(FOR_MAIN):
                torch.distributed.broadcast(tensor, 0)
        return tensor

    def agree(self, value: float) -> float:
        """The largest of all processes' values (a flag raised anywhere is raised everywhere)."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        with _together(self.patience):
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX, group=self.alike)
        return float(shared)

    def wait(self) -> None:
        """Until every process is here, the main one included, which may have worked alone."""
        if self.size > 1:
            with _together(FOR_MAIN):
                torch.distributed.barrier()


@contextmanager
def _together(patience: timedelta) -> Iterator[None]:
    """An exchange with the other processes; WorkerError if one of them is gone or does not answer in time."""
    try:
        yield
    except RuntimeError as error:
        what = f"another process of this run is gone or silent ({str(error).splitlines()[0]:.120})"
        if "timed out" in str(error).lower():
            minutes = patience.total_seconds() / 60
            what = f"another process of this run has not answered for {minutes:.3g} minutes: it is frozen"
            what += ", stopped, or far slower than this one"
        raise WorkerError(
            what,
            remedy="The last checkpoint is kept: end what is left of the processes and start the same "
            "command again, with all of them.",
        ) from error


@cache
def _part_at_exit() -> None:
    """Leave the process group while the interpreter still runs: its threads must not outlive it."""

    def part() -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(part)
