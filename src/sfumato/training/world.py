"""One process or several, on one device each: the only file that knows.

A global step of `batch` examples is cut into contiguous parts, one for each process (rank r of W
takes the rows [batch r / W, batch (r+1) / W)). Each process sums the gradients of its own rows,
divided by the global batch, and one sum over all processes of the flat gradient vector gives every
process the gradient one process would have computed (up to the order of the sum). The parameters
then follow the same path everywhere and need no exchange. Accelerate finds the device and, under
`accelerate launch` or `torchrun`, sets up the process group (nccl on GPUs, gloo on CPUs).
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch
from torch import Tensor

from ..core.errors import WorkerError

CPU = torch.device("cpu")
PATIENCE = timedelta(minutes=30)  # for the slowest process: the main one draws and judges while others wait


@dataclass(frozen=True)
class World:
    """This process' rank among `size`, and its device."""

    device: torch.device = CPU
    rank: int = 0
    size: int = 1

    @classmethod
    def find(cls, *, cpu: bool = False) -> World:
        """The world as launched, on CUDA if it is there; cpu: do not use it even so."""
        from accelerate import PartialState

        state = PartialState(cpu=cpu or not torch.cuda.is_available(), timeout=PATIENCE)
        _part_at_exit()
        return cls(state.device, state.process_index, state.num_processes)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with _together():
                torch.distributed.all_reduce(tensor)
        return tensor

    def share(self, tensor: Tensor) -> Tensor:
        """The main process' tensor, in place."""
        if self.size > 1:
            with _together():
                torch.distributed.broadcast(tensor, 0)
        return tensor

    def agree(self, value: float) -> float:
        """The largest of all processes' values (a flag raised anywhere is raised everywhere)."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        with _together():
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        return float(shared)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            with _together():
                torch.distributed.barrier()


@contextmanager
def _together() -> Iterator[None]:
    """An exchange with the other processes; WorkerError if one of them is gone or does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerError(
            f"another process of this run is gone or silent ({str(error).splitlines()[0]:.120})",
            remedy="The last checkpoint is kept: start the same command again, with all its processes.",
        ) from error


@cache
def _part_at_exit() -> None:
    """Leave the process group while the interpreter still runs: its threads must not outlive it."""

    def part() -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(part)
