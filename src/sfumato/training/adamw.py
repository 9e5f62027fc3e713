"""AdamW on one flat vector (Kingma & Ba 2015, alg. 1; decoupled decay: Loshchilov & Hutter 2019, alg. 2).

    m <- b1 m + (1 - b1) g              v <- b2 v + (1 - b2) g^2
    theta <- (1 - rate * decay) theta - rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

PyTorch's fused kernel does all of it in one pass over memory, on CPUs and on NVIDIA GPUs, and leaves
everything as it is where `bad` is 1, so that nobody has to wait for the answer; on other devices it
is written out. The kernel is called directly: torch.optim would load the compiler's front end (two
seconds) to wrap it, and its state is named here for the checkpoint anyway.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-8


class AdamW:
    """The optimizer of a vector `values` (N,) with its gradient in `grads` (N,).

    moments: {"exp_avg": m, "exp_avg_sq": v}; count: the number t of updates made, a float tensor.
    """

    def __init__(
        self, values: Tensor, grads: Tensor, *, betas: tuple[float, float], decay: float = 0.0
    ) -> None:
        self.values, self.grads, self.betas, self.decay = values, grads, betas, decay
        self.moments = {"exp_avg": torch.zeros_like(values), "exp_avg_sq": torch.zeros_like(values)}
        self.fused = values.device.type in ("cpu", "cuda")
        self.count = torch.zeros((), device=values.device)

    @torch.no_grad()
    def step(self, rate: float, bad: Tensor) -> None:
        """One update at a learning rate; none where bad (a 0-dimensional float, 0 or 1) is 1."""
        if not self.fused:
            if not bad:
                self._written_out(rate)
            return
        self.count += 1.0 - bad
        torch._fused_adamw_(
            [self.values],
            [self.grads],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [],
            [self.count],
            lr=rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            grad_scale=None,
            found_inf=bad,
        )

    def _written_out(self, rate: float) -> None:
        self.count += 1.0
        t, (b1, b2) = float(self.count), self.betas
        m, v = self.moments["exp_avg"], self.moments["exp_avg_sq"]
        m.lerp_(self.grads, 1 - b1)
        v.mul_(b2).addcmul_(self.grads, self.grads, value=1 - b2)
        self.values.mul_(1 - rate * self.decay)
        root = (v.sqrt() / math.sqrt(1 - b2**t)).add_(EPSILON)
        self.values.addcdiv_(m, root, value=-rate / (1 - b1**t))
