"""GELU in its tanh form, in plain PyTorch or by the compiled kernel of fused.py.

    gelu(u) = u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))) / 2 = u s,     s = sigmoid(g)
    g(u) = 2 sqrt(2/pi) (u + 0.044715 u^3)
    dgelu/du = s + u s (1 - s) g'(u)          from u alone: one map is kept for the backward pass

On the CPU PyTorch takes a fifth of a transformer's forward pass for it in bfloat16, for the tanh of
each of 4 width features a token. The kernel needs one exponential by a polynomial and one reciprocal.

It computes values and first derivatives. Whoever asks for more (a derivative of the derivative,
forward mode, torch.func, torch.compile) gets the plain path, as does what lies elsewhere than on the
CPU, has another type than float32 and bfloat16, or has gaps in memory.

Hendrycks and Gimpel 2016, section 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from .fused import Kernel


class Gelu(nn.Module):
    """u sigmoid(2 sqrt(2/pi) (u + 0.044715 u^3)) of each element; any shape -> the same shape and type."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Kernel | None = None

    def forward(self, u: Tensor) -> Tensor:
        """u of any shape."""
        if self.kernel is not None and _serves(self.kernel, u):
            return _Gelu.apply(u, self.kernel)
        return F.gelu(u, approximate="tanh")


class _Gelu(torch.autograd.Function):
    """u -> gelu(u)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, code: Kernel) -> Tensor:
        y = torch.empty_like(u)
        code.gelu[u.dtype](u.numel(), u.data_ptr(), None, y.data_ptr())
        ctx.save_for_backward(u)
        ctx.code = code
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        if torch.is_grad_enabled() or _transformed(dy):  # to be differentiated again: by PyTorch's own
            return torch.ops.aten.gelu_backward(dy, u, approximate="tanh"), None
        dy, dx = dy.contiguous(), torch.empty_like(u)
        ctx.code.gelu[u.dtype](u.numel(), u.data_ptr(), dy.data_ptr(), dx.data_ptr())
        return dx, None


def _serves(code: Kernel, u: Tensor) -> bool:
    """Whether the kernel can take it: CPU, a known type, no gaps, nobody who looks into the operations."""
    return u.device.type == "cpu" and u.dtype in code.gelu and u.is_contiguous() and not _transformed(u)


def _transformed(u: Tensor) -> bool:
    """Whether more than numbers goes through: traces of torch.compile, torch.func, batches, dual numbers."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return not torch._C._has_storage(u) or forward_ad.unpack_dual(u).tangent is not None
