"""The ways of computing a network: the same mathematics, at another speed.

Four things can be chosen without changing what is computed: bfloat16 for matrix products and
convolutions, the memory layout, the compiled kernel of norms and GELU (fused.py), and compiled blocks. Which
pays depends on the processor and on the network (bfloat16 is worth between nothing and 5 times);
the trainer finds it out by trial steps.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .blocks import ResidualBlock
from .dit import TransformerBlock
from .fused import NormSilu, kernel
from .gelu import Gelu

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_BLOCKS = (ResidualBlock, TransformerBlock)
_FUSED = (NormSilu, Gelu)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Compute:
    """dtype: of products and convolutions; compiled: the fused kernel (CPU), compiled blocks (elsewhere)."""

    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    compiled: bool = False

    def context(self, device: torch.device) -> torch.autocast:
        """The precision of a forward pass, as a context manager."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def prepare(self, module: nn.Module) -> Compute:
        """Lay out the weights and switch kernel or compilation on or off; the way that is now in use.

        It is this one, or the uncompiled one where there is no compiler. Parameters keep their identity.
        """
        device = next(module.parameters()).device
        last = self.memory_format == torch.channels_last
        for p in module.parameters():
            if p.ndim in _CHANNELS_LAST:
                wanted = _CHANNELS_LAST[p.ndim] if last else torch.contiguous_format
                p.data = p.data.contiguous(memory_format=wanted)
        on_cpu = device.type == "cpu"
        compiled = fuse(module, self.compiled and on_cpu) or (self.compiled and not on_cpu)
        if on_cpu:
            keep_freed_memory()
        compile_blocks(module, self.compiled and not on_cpu)
        return replace(self, compiled=compiled)

    def __str__(self) -> str:
        parts = ["bfloat16" if self.dtype == torch.bfloat16 else "float32"]
        parts += ["channels last"] if self.memory_format == torch.channels_last else []
        return ", ".join([*parts, *(["fused"] if self.compiled else [])])


def fuse(module: nn.Module, on: bool = True) -> bool:
    """Switch the fused kernel of every norm and GELU of a module on or off; whether it is on afterwards.

    The first call on a machine compiles it (about a second). False: there is no compiler, and the
    plain path computes the same.
    """
    code = kernel() if on else None
    for part in module.modules():
        if isinstance(part, _FUSED):
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


def compile_blocks(module: nn.Module, on: bool = True) -> None:
    """torch.compile every block by itself, in place, or undo it; blocks of equal shape share code.

    For accelerators. On a CPU the fused kernel gives more in a hundredth of the preparation.
    """
    for part in module.modules():
        if isinstance(part, _BLOCKS):
            part._compiled_call_impl = None
            if on:
                part.compile(dynamic=False)


@contextmanager
def twice_differentiable(module: nn.Module) -> Iterator[None]:
    """The module for now without what knows no second derivative: fused kernels, compiled blocks."""
    fused = [(part, part.kernel) for part in module.modules() if isinstance(part, _FUSED)]
    blocks = [part for part in module.modules() if isinstance(part, _BLOCKS)]
    compiled = [(part, part._compiled_call_impl) for part in blocks]
    try:
        for part, _ in fused:
            part.kernel = None
        for block in blocks:
            block._compiled_call_impl = None
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for part, code in fused:
            part.kernel = code
        for block, call in compiled:
            block._compiled_call_impl = call
