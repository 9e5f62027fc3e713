"""The compiled kernel is the plain computation up to rounding: values and all gradients, every layout."""

import copy

import pytest
import torch

from sfumato.nets.fused import NormSilu, kernel

code = kernel()
needs_kernel = pytest.mark.skipif(code is None, reason="this machine has no C++ compiler")
LAYOUTS = [(64, (5, 4)), (24, (7, 3)), (7, (3, 3)), (32, (1, 9)), (16, (2, 3, 4))]


def case(channels, space, dtype, rows, forked):
    generator = torch.Generator().manual_seed(channels)

    def normal(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=generator).to(dtype)

    norm = NormSilu(channels)
    norm.weight.data, norm.bias.data = 1 + 0.3 * normal(channels), normal(channels)
    order = (0, len(space) + 1, *range(1, len(space) + 1))
    x = (2 * normal(3, *space, channels) + 1).to(dtype).permute(order)
    m = normal(rows, 2 * channels) if rows else None
    g, past = normal(*x.shape, dtype=dtype), normal(*x.shape, dtype=dtype)

    def run(kernel, dtype):
        n = copy.deepcopy(norm).to(torch.float64 if dtype == torch.float64 else torch.float32)
        n.kernel = kernel
        inputs = [x.detach().to(dtype).requires_grad_()]
        inputs += [] if m is None else [m.detach().to(n.weight.dtype).requires_grad_()]
        y, through = n.fork(*inputs)
        outputs = [(y, g.to(dtype)), (through, past.to(dtype))][: 2 if forked else 1]
        torch.autograd.backward(*zip(*outputs, strict=True))
        return [y.detach(), *(i.grad for i in inputs), n.weight.grad, n.bias.grad]

    return run


@needs_kernel
@pytest.mark.parametrize(("channels", "space"), LAYOUTS)
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 8e-3)])
def test_kernel_equals_double_precision(channels, space, rows, forked, dtype, tolerance):
    run = case(channels, space, dtype, rows, forked)
    for fast, exact in zip(run(code, dtype), run(None, torch.float64), strict=True):
        assert (fast.double() - exact).norm() <= tolerance * exact.norm()


@needs_kernel
def test_kernel_is_refused_where_it_does_not_fit_and_never_copied():
    x = torch.zeros(2, 16, 3, 3)
    assert not code.serves(x) and code.serves(x.to(memory_format=torch.channels_last))
    assert not code.serves(x.to(memory_format=torch.channels_last, dtype=torch.float64))
    norm = NormSilu(16)
    norm.kernel = code
    assert copy.deepcopy(norm).kernel is code
    torch.testing.assert_close(norm(x + 1), torch.zeros_like(x), atol=1e-6, rtol=0)


@needs_kernel
def test_kernel_keeps_extremes_and_lets_nan_through():
    norm = NormSilu(16)
    norm.kernel = code
    x = torch.randn(1, 16, 4, 4).to(memory_format=torch.channels_last)
    shift = torch.cat([torch.zeros(16), torch.linspace(-300, 300, 16)])[None]
    norm_plain = copy.deepcopy(norm)
    norm_plain.kernel = None
    torch.testing.assert_close(norm(x, shift), norm_plain(x, shift), atol=1e-5, rtol=1e-5)
    x[0, 0, 0, 0] = torch.nan
    assert norm(x).isnan().any()


@needs_kernel
def test_kernel_repeats_itself_to_the_bit_and_keeps_samples_apart():
    """Resuming a training bitwise, and samples independent of their batch, both rest on this."""
    norm = NormSilu(32)
    norm.kernel = code
    x = torch.randn(5, 32, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    m, g = torch.randn(5, 64), torch.randn(5, 32, 6, 6).to(memory_format=torch.channels_last)

    def run(rows):
        part = x.detach()[rows].contiguous(memory_format=torch.channels_last).requires_grad_()
        y = norm(part, m[rows])
        y.backward(g[rows])
        return y.detach(), part.grad

    everything = run(slice(None))
    for again, before in zip(run(slice(None)), everything, strict=True):
        assert torch.equal(again, before)
    for alone, together in zip(run(slice(3, 4)), everything, strict=True):
        assert torch.equal(alone[0], together[3])


@needs_kernel
def test_gradients_meet_in_the_fork():
    """dx of (y, x) used twice equals the sum of both uses, as for the plain path."""
    norm = NormSilu(16)
    norm.kernel = code
    x = torch.randn(2, 16, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    y, through = norm.fork(x)
    (y * 2 + through * 3).sum().backward()
    found, x.grad = x.grad, None
    (2 * norm(x)).sum().backward()
    torch.testing.assert_close(found, x.grad + 3, atol=1e-5, rtol=1e-5)
    x.grad = None
    norm.fork(x)[1].sum().backward()  # only the path past the norm is used
    assert torch.equal(x.grad, torch.ones_like(x))
