"""Parameters as one long vector: what touches all of them touches memory once.

A network has hundreds of small tensors, and clipping, the optimizer and the averages would each
launch a kernel for each. Here every parameter (and its gradient) becomes a view into one float32
vector, with its own shape and strides (channels-last stays channels-last) at an offset that is a
multiple of 16 numbers (64 bytes, one cache line). The optimizer then sees a single tensor, the
norm is one reduction, an average one lerp, and processes exchange gradients in one message.

    vector  [ conv.weight | conv.bias . | ... ]      views(vector) = {name: view in its shape}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

ALIGN = 16


class Flat:
    """The float32 parameters {name: parameter} as views of `values` (N,), their gradients of `grads` (N,).

    Move the module to its device and memory format first. A parameter known by two names counts
    once, under the first.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        unique: dict[int, tuple[str, nn.Parameter]] = {}
        for name, parameter in named:
            unique.setdefault(id(parameter), (name, parameter))
        self.parameters: dict[str, nn.Parameter] = dict(unique.values())
        if not self.parameters:
            raise ValueError("there is no parameter to train")
        self._places: dict[str, tuple[int, torch.Size, tuple[int, ...]]] = {}
        size = 0
        for name, parameter in self.parameters.items():
            if parameter.dtype != torch.float32:
                raise ValueError(f"{name} is {parameter.dtype}; trained parameters are float32")
            self._places[name] = (size, parameter.shape, _dense_strides(parameter))
            size += -(-parameter.numel() // ALIGN) * ALIGN
        device = next(iter(self.parameters.values())).device
        self.values = torch.zeros(size, device=device)
        self.grads = torch.zeros(size, device=device)
        values, grads = self.views(self.values), self.views(self.grads)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                values[name].copy_(parameter)
                parameter.data = values[name]
                parameter.grad = grads[name]

    def __len__(self) -> int:
        return len(self.values)

    def like(self) -> Tensor:
        """A new vector of zeros, laid out as the parameters are."""
        return torch.zeros_like(self.values)

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector (N,) as tensors in the parameters' shapes."""
        return {
            name: vector.as_strided(shape, strides, vector.storage_offset() + start)
            for name, (start, shape, strides) in self._places.items()
        }

    def gather(self, tensors: Mapping[str, Tensor], into: Tensor) -> None:
        """Copy named tensors into a vector; names and shapes must match (callers check and tell)."""
        for name, view in self.views(into).items():
            view.copy_(tensors[name])

    def attached(self) -> bool:
        """Whether every parameter and gradient still is a view of the vectors (nobody re-assigned one)."""
        return all(
            parameter.data_ptr() == self.values.data_ptr() + 4 * start
            and parameter.grad is not None
            and parameter.grad.data_ptr() == self.grads.data_ptr() + 4 * start
            for parameter, (start, _, _) in zip(self.parameters.values(), self._places.values(), strict=True)
            if parameter.numel()
        )


def _dense_strides(tensor: Tensor) -> tuple[int, ...]:
    """Strides that keep the tensor's order of axes and leave no holes."""
    strides_now = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: (-strides_now[axis], axis))
    strides, step = [0] * tensor.ndim, 1
    for axis in reversed(order):
        strides[axis] = step
        step *= tensor.shape[axis]
    return tuple(strides)
