"""What a step does besides the network: kernels are counted, not timed, and watching changes nothing."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sfumato.core.noise import Noise
from sfumato.diffusion.paths import Linear, VariancePreserving
from sfumato.diffusion.scaling import EpsScaling, FlowScaling, Scaled
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import levels_at
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

LOG_SNR = torch.linspace(-6, 6, 7, dtype=torch.float64)
SOLVERS = [Ddim(), Ddim(0.5), Heun(), DpmPlusPlus2M(), UniPC(2), Ancestral()]


class Fixed(nn.Module):
    """Answers with one tensor of its own, and counts."""

    def __init__(self, output):
        super().__init__()
        self.output, self.calls = output, 0

    def forward(self, x, c_noise, cond):
        self.calls += 1
        return self.output


class Kernels(TorchDispatchMode):
    """Counts the operations that compute a tensor of a given shape."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        computes = not any(word in func.__name__ for word in ("empty", "slice", "view", "normal", "alias"))
        self.count += computes and isinstance(result, torch.Tensor) and result.shape == self.shape
        return result


def world():
    g = torch.Generator().manual_seed(0)
    x, output = (torch.randn(2, 3, 4, generator=g) for _ in range(2))
    return x, Fixed(output)


def run(solver, x, net, watch=None):
    levels = levels_at(VariancePreserving(), LOG_SNR)
    with torch.no_grad():
        noise = Noise([1, 2])
        return integrate(Scaled(net, EpsScaling()), solver, levels, x, noise=noise, watch=watch)


@pytest.mark.parametrize(
    ("solver", "kernels"),
    [
        (Ddim(), 6 * 2),
        (Ddim(0.5), 6 * 3),
        (Heun(), 6 * 5),
        (DpmPlusPlus2M(), 6 * 5 - 1),
        (Ancestral(), 6 * 3),
    ],
    ids=["ddim", "ddim-eta", "heun", "2m", "ancestral"],
)
def test_kernels_besides_the_network(solver, kernels):
    """One kernel per tensor that enters a step; only 2M, which keeps means, computes them too."""
    x, net = world()
    with Kernels(x.shape) as counted:
        run(solver, x, net)
    assert counted.count == kernels


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_what_was_given_stays_and_watching_changes_nothing(solver):
    """Neither start nor the network's own tensor is written to; a watched trajectory is bitwise the same."""
    x, net = world()
    start, output, seen = x.clone(), net.output.clone(), []
    alone = run(solver, x, net)
    assert torch.equal(x, start) and torch.equal(net.output, output)
    watched = run(solver, x, net, watch=lambda x_t, level, mean: seen.append((x_t, x_t.clone(), mean)))
    assert torch.equal(watched, alone) and len(seen) == 6
    assert all(torch.equal(kept, then) for kept, then, _ in seen)


@pytest.mark.parametrize("solver", [Ddim(), Heun()], ids=lambda s: type(s).__name__)
def test_a_constant_velocity_on_the_line_is_followed_exactly(solver):
    """Linear path, F = eps - x_0 constant: x_s = x_t + (sigma_s - sigma_t) F for any number of steps."""
    x, net = world()
    levels = levels_at(Linear(), LOG_SNR)
    end = integrate(Scaled(net, FlowScaling()), solver, levels, x)
    exact = x + (levels[-1].sigma - levels[0].sigma) * net.output
    assert float((end - exact).abs().max()) < 1e-5
