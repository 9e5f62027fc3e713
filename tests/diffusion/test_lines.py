"""A posterior given as a line answers as its mean would, changes no tensor, and keeps gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sfumato.diffusion.denoiser import Line, Posterior
from sfumato.diffusion.level import Level, combine
from sfumato.diffusion.paths import VariancePreserving
from sfumato.diffusion.scaling import EpsScaling, Scaled

F64 = torch.float64
SCALARS = st.floats(-3, 3) | st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(
    lambda v: torch.tensor(v, dtype=F64)
)


def tensors(count, seed=0, dtype=F64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2, 4, dtype=F64, generator=g).to(dtype) for _ in range(count)]


def wide(scalar):
    return scalar[:, None, None] if isinstance(scalar, torch.Tensor) else scalar


@pytest.mark.parametrize("grad", [True, False])
@given(a=SCALARS, b=SCALARS, c=SCALARS)
def test_a_combination_is_the_sum_and_changes_none_of_its_terms(grad, a, b, c):
    x, y, z = tensors(3)
    with torch.set_grad_enabled(grad):
        total = combine((a, x), (b, y), (c, z))
    assert torch.allclose(total, wide(a) * x + wide(b) * y + wide(c) * z, atol=1e-13)
    assert all(torch.equal(now, then) for now, then in zip((x, y, z), tensors(3), strict=True))


@given(a=SCALARS, b=SCALARS, c=SCALARS, skip=SCALARS, out=SCALARS)
def test_along_the_line_and_through_the_mean_are_one(a, b, c, skip, out):
    x, output, z = tensors(3)
    along, through = Posterior(Line(skip, x, out, output)), Posterior(combine((skip, x), (out, output)))
    with torch.no_grad():
        expected = through.combine(a, x, b, (c, z))
        assert torch.allclose(along.combine(a, x, b, (c, z)), expected, atol=1e-12)
        elsewhere = along.combine(a, x.clone(), b, (c, z))  # not the tensor it was given: by the mean
    assert torch.allclose(elsewhere, expected, atol=1e-12)
    assert torch.equal(along.mean, through.mean) and along.mean is along.mean


def test_gradients_reach_input_and_network_through_a_line():
    level = VariancePreserving().level(0.3)
    x, y = (v.requires_grad_() for v in tensors(2))
    line = EpsScaling()(level)
    grads = []
    for mean in (Line(line.skip, x, line.out, y), combine((line.skip, x), (line.out, y))):
        grads.append(torch.autograd.grad(Posterior(mean).eps(x, level).sin().sum(), (x, y)))
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(*grads, strict=True))
    eps = Posterior(Line(line.skip, x, line.out, y)).eps(x, level)
    assert torch.allclose(eps, y, atol=1e-15)  # what the network said, not what survived the way to x_0


def test_scalars_per_sample_are_as_precise_as_floats_for_a_network_of_less_precision():
    """An answer in bfloat16 (autocast) meets coefficients in the precision of x_t."""
    level = VariancePreserving().level(-1.0)
    batch = Level(*(torch.full((3,), v, dtype=F64) for v in (level.alpha, level.sigma)))
    (x,), (output,) = tensors(1, dtype=torch.float32), tensors(1, 1, torch.bfloat16)
    both = [EpsScaling().mean(output, x, at) for at in (level, batch)]
    assert both[1].dtype == torch.float32 and torch.allclose(*both, rtol=0, atol=1e-6)


class Doubling(nn.Module):
    def forward(self, x, c_noise, cond):
        return 2 * x


def test_hooks_of_denoiser_and_network_are_called():
    called, denoiser = [], Scaled(Doubling(), EpsScaling())
    x, level = tensors(1)[0], VariancePreserving().level(0.3)
    before = denoiser(x, level).mean
    denoiser.register_forward_hook(lambda module, args, posterior: called.append("denoiser"))
    denoiser.net.register_forward_hook(lambda module, args, output: output.mul(3))
    c = EpsScaling()(level)
    assert torch.allclose(denoiser(x, level).mean - before, c.out * 4 * x, atol=1e-12)
    assert called == ["denoiser"]
    denoiser.net = nn.Sequential()  # a network may be exchanged
    with pytest.raises(TypeError):
        denoiser(x, level)
