"""Which way of computing a network pays on this machine, found out by trying.

Four things can be chosen without changing what is computed: bfloat16 for matrix products and
convolutions, the memory layout, the fused kernel of norms (fused.py), and compiled blocks. Which
pays depends on the processor and on the network (bfloat16 is worth between nothing and 5 times), so
each candidate is given two real steps, forward and backward, and the fastest is taken. A candidate
must win by a twentieth, so that noise does not decide, and what it costs to prepare (compiling) is
charged against the time it saves within the budget.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from .blocks import ResidualBlock
from .fused import NormSilu, kernel

MARGIN = 1.05  # how much faster than the plain way a candidate must be
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Compute:
    """dtype: of products and convolutions; compiled: norms fused (CPU) or blocks compiled (elsewhere)."""

    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    compiled: bool = False
    why: str = ""

    def context(self, device: torch.device) -> torch.autocast:
        """The precision of a forward pass, as a context manager."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def prepare(self, module: nn.Module) -> None:
        """Lay out the weights and switch the kernel on or off; parameters keep their identity."""
        device = next(module.parameters()).device
        last = self.memory_format == torch.channels_last
        for p in module.parameters():
            if p.ndim in _CHANNELS_LAST:
                wanted = _CHANNELS_LAST[p.ndim] if last else torch.contiguous_format
                p.data = p.data.contiguous(memory_format=wanted)
        fuse(module, self.compiled and device.type == "cpu")
        if device.type == "cpu":
            keep_freed_memory()
        if self.compiled and device.type != "cpu":
            compile_blocks(module)

    def __str__(self) -> str:
        parts = ["bfloat16" if self.dtype == torch.bfloat16 else "float32"]
        parts += ["channels last"] if self.memory_format == torch.channels_last else []
        return ", ".join([*parts, *(["fused"] if self.compiled else [])])


def fuse(module: nn.Module, on: bool = True) -> bool:
    """Switch the fused kernel of every norm of a module on or off; whether it is on afterwards.

    The first call on a machine compiles it (about a second). False: there is no compiler, and the
    plain path computes the same.
    """
    code = kernel() if on else None
    for part in module.modules():
        if isinstance(part, NormSilu):
            part.kernel = code
    return code is not None


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system, for the rest of the process.

    A step frees and takes the same feature maps again and again; each time the system hands fresh
    pages, it clears them first (tens of thousands of page faults a step, 5 to 10 % of its time).
    The peak does not change. Other C libraries: nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def compile_blocks(module: nn.Module) -> None:
    """torch.compile every residual block by itself, in place; blocks of equal shape share their code.

    For accelerators. On a CPU the fused kernel gives more in a hundredth of the preparation.
    """
    for part in module.modules():
        if isinstance(part, ResidualBlock):
            part.compile(dynamic=False)


def candidates(device: torch.device) -> list[Compute]:
    """The ways worth trying on a device, the plain one first."""
    layouts = [(torch.contiguous_format, False), (torch.channels_last, False), (torch.channels_last, True)]
    types = [torch.float32]
    if device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported()):
        types.append(torch.bfloat16)
    return [Compute(dtype, layout, compiled) for dtype in types for layout, compiled in layouts]


def decide(
    module: nn.Module,
    inputs: Sequence[object],
    budget: float,
    *,
    ways: Sequence[Compute] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> Compute:
    """The way of computing that gets most steps of module(*inputs) done within `budget` seconds.

    Leaves the module prepared for it, and its gradients cleared. `why` says what was measured.
    """
    device = next(module.parameters()).device
    trials: list[tuple[float, float, Compute]] = []  # steps within the budget, seconds a step, way
    for way in ways or candidates(device):
        start = clock()
        way.prepare(module)
        _step(module, inputs, way, device)  # warms up: compiles, allocates
        ready = clock() - start
        seconds = min(_timed(module, inputs, way, device, clock) for _ in range(2))
        trials.append((max(0.0, budget - ready) / seconds, seconds, way))
    best = max(trials, key=lambda t: t[0])
    if best[0] < MARGIN * trials[0][0]:
        best = trials[0]
    told = "; ".join(f"{way} {seconds * 1e3:.0f} ms" for _, seconds, way in trials)
    chosen = Compute(
        best[2].dtype, best[2].memory_format, best[2].compiled, f"{best[2]} (a step took: {told})"
    )
    chosen.prepare(module)
    return chosen


def _step(module: nn.Module, inputs: Sequence[object], way: Compute, device: torch.device) -> None:
    with way.context(device):
        out: Tensor = module(*inputs)
    out.float().square().mean().backward()
    module.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(
    module: nn.Module,
    inputs: Sequence[object],
    way: Compute,
    device: torch.device,
    clock: Callable[[], float],
) -> float:
    start = clock()
    _step(module, inputs, way, device)
    return clock() - start
