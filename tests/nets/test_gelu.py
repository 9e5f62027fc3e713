"""GELU by the kernel is GELU: to a few ulp, at any place and size, and plain where more is asked."""

import copy

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional as F

from sfumato.nets.compute import Compute, fuse, twice_differentiable
from sfumato.nets.dit import DiT
from sfumato.nets.fused import kernel
from sfumato.nets.gelu import Gelu

pytestmark = pytest.mark.skipif(kernel() is None, reason="this machine has no C++ compiler")
EPS = torch.finfo(torch.float32).eps
TYPES = [torch.float32, torch.bfloat16]


def fast() -> Gelu:
    gelu = Gelu()
    assert fuse(gelu) and gelu.kernel is not None
    return gelu


def plain(u):
    return F.gelu(u, approximate="tanh")


def exact(u):
    """In float64, and without the tanh form's loss of all digits where 1 + tanh is small."""
    u = u.double()
    return u * torch.sigmoid((8 / torch.pi) ** 0.5 * (u + 0.044715 * u**3))


def derivative(function, u, dy):
    u = u.detach().requires_grad_()
    return torch.autograd.grad(function(u), u, dy)[0]


def grid():
    return torch.linspace(-30, 30, 50_001)


def every_bfloat16():
    u = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    return u[u.abs() <= 30]


def test_values_are_exact_to_a_few_ulp():
    u = grid()
    error = (fast()(u) - exact(u)).abs()
    assert (error <= 4 * EPS * u.abs()).all()
    assert ((fast()(u) - plain(u)).abs() <= 4 * EPS * u.abs()).all()
    inner = u > -5  # below, where PyTorch's own has no digit left, the exponent's rounding is what is lost
    assert (error <= 40 * EPS * exact(u).abs())[inner].all()


def test_derivatives_are_exact_to_a_few_ulp():
    u, dy = grid(), torch.randn(50_001)
    expected = derivative(exact, u.double(), dy.double())
    assert ((derivative(fast(), u, dy) - expected).abs() <= 8 * EPS * dy.abs()).all()
    assert (derivative(fast(), u, dy) - derivative(plain, u, dy)).abs().max() <= 40 * EPS * dy.abs().max()


def test_bfloat16_is_float32_rounded_and_within_an_ulp_of_the_truth():
    u = every_bfloat16()
    y = fast()(u)
    assert torch.equal(y, fast()(u.float()).bfloat16())
    ulps = (y.view(torch.int16).int() - exact(u).bfloat16().view(torch.int16).int()).abs()
    assert ulps[u > -9].max() <= 1
    assert y[u <= -9].abs().max() < 1e-27
    dy = torch.randn(u.shape).bfloat16()
    assert torch.equal(derivative(fast(), u, dy), derivative(fast(), u.float(), dy.float()).bfloat16())


@pytest.mark.parametrize("dtype", TYPES)
def test_extremes_stay_finite_and_nan_is_let_through(dtype):
    u = torch.tensor([1e2, 1e10, 1e20, 1e30, 3e38]).to(dtype)
    ones, none = torch.ones_like(u), torch.zeros_like(u)
    assert torch.equal(fast()(u), u) and torch.equal(derivative(fast(), u, ones), ones)
    torch.testing.assert_close(fast()(-u)[:4], none[:4], atol=2e-8, rtol=0)
    assert fast()(-u).isfinite().all()
    torch.testing.assert_close(derivative(fast(), -u, ones), none, atol=1e-18, rtol=0)
    zero = torch.zeros(1, dtype=dtype)
    assert fast()(zero) == 0 and derivative(fast(), zero, zero + 1) == 0.5
    assert fast()(torch.tensor([1.0, torch.nan], dtype=dtype)).isnan().tolist() == [False, True]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [0, 1, 7, 33, 511, 512, 513, 20_001])
def test_an_element_depends_on_nothing_but_itself(size, dtype):
    """Any size, any place: samples are independent of their batch to the bit."""
    u, dy = torch.randn(2, size + 3).to(dtype)
    y, dx = fast()(u), derivative(fast(), u, dy)
    part = slice(3, None)  # begins off every boundary
    assert torch.equal(fast()(u[part]), y[part])
    assert torch.equal(derivative(fast(), u[part], dy[part]), dx[part])
    assert torch.equal(fast()(u.flip(0)), y.flip(0))


def test_the_number_of_threads_changes_nothing():
    u, dy, before = torch.randn(50_001), torch.randn(50_001), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((fast()(u), derivative(fast(), u, dy)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_gradients_of_any_layout_are_taken():
    u = torch.randn(4, 6)
    for dy in (torch.randn(6, 4).T, torch.ones(()).expand(4, 6), torch.randn(4, 12)[:, ::2]):
        torch.testing.assert_close(derivative(fast(), u, dy), derivative(plain, u, dy))


def test_what_the_kernel_does_not_serve_is_plain():
    u = torch.randn(6, 8)
    for other in (u.T, u[:, ::2], u.double(), u.half()):
        assert torch.equal(fast()(other), plain(other))
    assert torch.equal(Gelu()(u), plain(u))


def test_second_derivatives_are_pytorchs():
    u, v = torch.randn(50), torch.randn(50)

    def twice(function, u):
        u = u.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(u).sum(), u, create_graph=True)
        return torch.autograd.grad(slope, u, v.to(u))[0]

    torch.testing.assert_close(twice(fast(), u), twice(exact, u.double()).float(), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch's own use of it
def test_transforms_of_functions_see_the_plain_path():
    gelu, u, v = fast(), torch.randn(5, 3), torch.randn(5, 3)
    for change in (
        lambda f: torch.func.jvp(f, (u,), (v,))[1],
        lambda f: torch.func.vmap(f)(u),
        lambda f: torch.func.vmap(torch.func.grad(lambda w: f(w).sum()))(u),
        lambda f: torch.func.jvp(torch.func.grad(lambda w: f(w).sum()), (u,), (v,))[1],
    ):
        assert torch.equal(change(gelu), change(plain))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(u, v)
        found, wanted = (forward_ad.unpack_dual(f(dual)).tangent for f in (gelu, plain))
    assert torch.equal(found, wanted)
    u.requires_grad_()
    many = torch.randn(4, 5, 3)
    found, wanted = (torch.autograd.grad(f(u), u, many, is_grads_batched=True)[0] for f in (gelu, plain))
    assert torch.equal(found, wanted)


def networks(**options):
    """A transformer as after some training, plain and by the kernel."""
    net = DiT(2, 2, width=48, depth=2, head_dim=16, **options)
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    other = copy.deepcopy(net)
    assert Compute(compiled=True).prepare(other).compiled
    return net, other


@pytest.mark.parametrize("dtype", TYPES)
def test_a_transformer_is_the_same_with_and_without(dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    x, c, results = torch.randn(3, 2, 9, 8), torch.tensor([0.3, -1.0, 2.0]), []
    for net in networks():
        with Compute(dtype).context(torch.device("cpu")):
            y = net(x, c)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in net.parameters())])
        with torch.inference_mode(), Compute(dtype).context(torch.device("cpu")):
            assert torch.equal(net(x, c), y)
    for found, wanted in zip(*results, strict=True):
        assert (found - wanted).norm() <= tolerance * wanted.norm() + 1e-6


def test_activations_reach_the_kernel_in_the_type_of_the_products(monkeypatch):
    _, net = networks()
    code, seen = net.blocks[0].gelu.kernel, []
    for dtype, function in code.gelu.items():
        monkeypatch.setitem(
            code.gelu, dtype, lambda *a, d=dtype, f=function: (seen.append((d, a[2] is not None)), f(*a))
        )
    for dtype in TYPES:
        with Compute(dtype).context(torch.device("cpu")):
            net(torch.randn(1, 2, 4, 4), torch.zeros(1)).sum().backward()
    assert seen == [(dtype, back) for dtype in TYPES for back in (False, False, True, True)]


def test_the_kernel_is_no_part_of_the_weights_and_copies_share_it():
    plain_net, net = networks()
    assert list(plain_net.state_dict()) == list(net.state_dict())
    assert not any("gelu" in name for name in net.state_dict())
    copied = copy.deepcopy(net)
    assert all(b.gelu.kernel is a.gelu.kernel for a, b in zip(net.blocks, copied.blocks, strict=True))
    with twice_differentiable(net):
        assert all(block.gelu.kernel is None for block in net.blocks)
    assert all(block.gelu.kernel is kernel() for block in net.blocks)
    Compute().prepare(net)
    assert all(block.gelu.kernel is None for block in net.blocks)
