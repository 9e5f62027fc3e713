"""Group norm, modulation and SiLU as one operation, in plain PyTorch or by a small compiled kernel.

    y = silu(norm(x) (1 + scale) + shift)

In plain PyTorch these are three kernels forward and six backward, each reading and writing the whole
feature map; between fast bfloat16 convolutions they take half of a training step. The kernel
(fused.cpp beside this file, where its equations stand) reads a map twice while it is in cache. It is
compiled once per machine in about a second by the machine's own C++ compiler and kept in the user's
cache; without a compiler everything works, slower.

The kernel serves feature maps on the CPU in float32 and bfloat16, laid out channels last; everything
else takes the plain path, with the same result up to rounding. The compiled library also holds the
GELU of transformers (gelu.py).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUP = 16  # channels per group of the norm
EPS = 1e-5
_FLAGS = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-std=c++17"]
if platform.machine() == "x86_64":
    _FLAGS.append("-mprefer-vector-width=512")  # compilers prefer 256 bits: a third slower here


class Kernel:
    """The compiled kernel: its functions by element type. Shared, never copied or saved."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self.name = library, Path(library._name).name
        names = ((torch.float32, "float32"), (torch.bfloat16, "bfloat16"))
        self.functions = {
            dtype: (getattr(library, f"forward_{name}"), getattr(library, f"backward_{name}"))
            for dtype, name in names
        }
        self.gelu = {dtype: getattr(library, f"gelu_{name}") for dtype, name in names}
        for forward, backward in self.functions.values():
            sizes = [ctypes.c_int64] * 5
            forward.argtypes = [*sizes, ctypes.c_float, *[ctypes.c_void_p] * 8]
            backward.argtypes = [*sizes, *[ctypes.c_void_p] * 13]
            forward.restype = backward.restype = None
        for function in self.gelu.values():
            function.argtypes, function.restype = [ctypes.c_int64, *[ctypes.c_void_p] * 3], None

    def __deepcopy__(self, memo: dict[int, Any]) -> Kernel:
        return self

    def serves(self, x: Tensor) -> bool:
        """Whether the kernel can take this feature map: CPU, a known type, channels last."""
        return x.device.type == "cpu" and x.dtype in self.functions and _channels_last(x)


@cache
def kernel() -> Kernel | None:
    """The kernel of this machine, compiled now if it never was; None where that is not possible."""
    try:
        return Kernel(ctypes.CDLL(str(_library())))
    except (OSError, subprocess.SubprocessError, AttributeError):
        return None


def _library() -> Path:
    """The compiled library: named after everything it was made from, so that a change makes a new one."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or sys.platform != "linux":
        raise OSError("no C++ compiler")
    source = Path(__file__).with_name("fused.cpp")
    made_from = [source.read_bytes(), compiler.encode(), *(f.encode() for f in _FLAGS), _machine().encode()]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato"
    target = folder / f"fused-{hashlib.sha256(b'/'.join(made_from)).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            unit, library = Path(work) / "fused.o", Path(work) / "fused.so"
            # linked in a second step: a link with -ffast-math would change how the whole process
            # treats denormal numbers
            for command in (
                [compiler, *_FLAGS, "-c", str(source), "-o", str(unit)],
                [compiler, "-shared", "-fopenmp", str(unit), "-o", str(library)],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=120)
            library.replace(target)  # atomic: two processes may compile at once
    return target


def _machine() -> str:
    """The processor's features: a cache on a shared disk must not serve another machine's code."""
    text = Path("/proc/cpuinfo").read_text(errors="replace")
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")


def _channels_last(x: Tensor) -> bool:
    """Whether x (B, C, *space) lies in memory as (B, *space, C) without gaps."""
    return x.ndim > 2 and x.permute(0, *range(2, x.ndim), 1).is_contiguous()


class _NormSilu(torch.autograd.Function):
    """(x, gamma, beta, modulation) -> (silu(norm x), x): x passes through, to gather its gradient here."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        modulation: Tensor | None,
        code: Kernel,
        groups: int,
    ) -> tuple[Tensor, Tensor]:
        y = torch.empty_like(x)
        mean, rstd = x.new_empty(2, x.shape[0], groups, dtype=torch.float32)
        sizes = (x.shape[0], x[0, 0].numel(), x.shape[1], groups, _row(modulation))
        code.functions[x.dtype][0](
            *sizes, EPS, x.data_ptr(), weight.data_ptr(), bias.data_ptr(), *_halves(modulation),
            y.data_ptr(), mean.data_ptr(), rstd.data_ptr(),
        )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, modulation, mean, rstd)
        ctx.code, ctx.sizes = code, sizes
        ctx.set_materialize_grads(False)
        return y, x.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, past: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, modulation, mean, rstd = ctx.saved_tensors
        if dy is None:
            return past, *[None] * 5
        dy = _like(dy, x)
        past = None if past is None else _like(past, x)
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
        rows = None if modulation is None else x.new_empty((x.shape[0], 2 * x.shape[1]), dtype=torch.float32)
        ctx.code.functions[x.dtype][1](
            *ctx.sizes, dy.data_ptr(), _pointer(past), x.data_ptr(), weight.data_ptr(), bias.data_ptr(),
            *_halves(modulation), mean.data_ptr(), rstd.data_ptr(), dx.data_ptr(), dweight.data_ptr(),
            dbias.data_ptr(), _pointer(rows),
        )  # fmt: skip
        if modulation is not None and rows is not None:
            rows = rows.sum_to_size(modulation.shape)
        return dx, dweight, dbias, rows, None, None


def _like(gradient: Tensor, x: Tensor) -> Tensor:
    """A gradient in x's type and layout."""
    if gradient.dtype == x.dtype and gradient.stride() == x.stride():
        return gradient
    return torch.empty_like(x).copy_(gradient)


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _row(modulation: Tensor | None) -> int:
    """Numbers from one sample's modulation to the next; 0 where all samples share one."""
    return 0 if modulation is None or modulation.shape[0] == 1 else modulation.stride(0)


def _halves(modulation: Tensor | None) -> tuple[int | None, int | None]:
    """Where scale and shift begin."""
    if modulation is None:
        return None, None
    start = modulation.data_ptr()
    return start, start + modulation.shape[1] // 2 * modulation.element_size()


class NormSilu(nn.Module):
    """silu(norm(x) (1 + scale) + shift) over groups of 16 channels; (B, C, *space) -> the same shape.

    Fewer than 16 channels, or a number without that divisor: the largest group that divides them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        group = next(g for g in range(min(GROUP, channels), 0, -1) if channels % g == 0)
        self.groups = channels // group
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.kernel: Kernel | None = None

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """modulation (B or 1, 2 C): scale and shift."""
        return self.fork(x, modulation)[0]

    def fork(self, x: Tensor, modulation: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(silu(norm x), x): take the residual path from the second, so both gradients meet in one pass."""
        if self.kernel is not None and self.weight.dtype == torch.float32 and self.kernel.serves(x):
            if modulation is not None:
                modulation = modulation.float()
                modulation = modulation if modulation.stride(1) == 1 else modulation.contiguous()
            return _NormSilu.apply(x, self.weight, self.bias, modulation, self.kernel, self.groups)
        h = F.group_norm(x, self.groups, self.weight, self.bias, EPS)
        return F.silu(h if modulation is None else modulated(h, modulation)), x


def modulated(h: Tensor, modulation: Tensor) -> Tensor:
    """h (1 + scale) + shift for h (B, C, *space) and (scale, shift) = modulation (B or 1, 2 C)."""
    scale, shift = modulation.reshape(modulation.shape + (1,) * (h.ndim - 2)).chunk(2, dim=1)
    return torch.addcmul(shift, h, scale + 1)
