"""Every way of computing gives the same answer, and the choice follows the clock."""

import copy
import platform

import pytest
import torch
from torch import nn

from sfumato.nets import fused
from sfumato.nets.blocks import ResidualBlock
from sfumato.nets.compute import Compute, compile_blocks, fuse
from sfumato.nets.unet import UNet
from sfumato.training.state import environment

CPU = torch.device("cpu")
LAYOUTS = [(torch.contiguous_format, False), (torch.channels_last, False), (torch.channels_last, True)]
WAYS = [Compute(t, *way) for t in (torch.float32, torch.bfloat16) for way in LAYOUTS]


def network() -> UNet:
    net = UNet(3, 2, width=16, multipliers=(1, 2), blocks=1, attention=(1,))
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return net


def inputs():
    return torch.randn(2, 3, 9, 8), torch.tensor([0.3, -4.0])


def gradients(net, arguments, way):
    with way.context(CPU):
        y = net(*arguments)
    y.square().sum().backward()
    return [y.detach(), *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_gives_the_same_answer_and_gradients(way):
    net, arguments = network(), inputs()
    plain, other = copy.deepcopy(net), copy.deepcopy(net)
    way.prepare(other)
    tolerance = 1e-4 if way.dtype == torch.float32 else 0.1
    expected = gradients(plain, arguments, Compute())
    for found, wanted in zip(gradients(other, arguments, way), expected, strict=True):
        assert (found - wanted).norm() <= tolerance * wanted.norm() + 1e-6


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own parts
def test_another_way_undoes_compiled_blocks():
    net = nn.Sequential(ResidualBlock(2, 16))
    compile_blocks(net)
    assert net[0]._compiled_call_impl is not None
    Compute().prepare(net)
    assert net[0]._compiled_call_impl is None


def test_the_fused_kernel_is_part_of_what_equality_depends_on():
    code = fused.kernel()
    if code is None:
        pytest.skip("no compiler")
    assert environment(CPU)["kernel"] == "" and environment(CPU, compiled=True)["kernel"] == code.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_give_the_same_answer():
    plain, x = nn.Sequential(ResidualBlock(2, 16)), torch.randn(2, 16, 4, 4)
    nn.init.normal_(plain[0].conv_out.weight, std=0.1)
    compiled = copy.deepcopy(plain)
    compile_blocks(compiled)
    expected = gradients(plain, (x,), Compute())
    for found, wanted in zip(gradients(compiled, (x,), Compute()), expected, strict=True):
        assert (found - wanted).norm() <= 1e-4 * wanted.norm() + 1e-6


def test_without_a_compiler_the_plain_path_serves(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    fused.kernel.cache_clear()
    try:
        net = network()
        assert not fuse(net)
        found = Compute(torch.float32, torch.channels_last, compiled=True).prepare(net)
        assert not found.compiled and "fused" not in str(found)
        assert environment(CPU, compiled=True)["kernel"] == ""
        assert net(*inputs()).isfinite().all()
    finally:
        monkeypatch.undo()
        fused.kernel.cache_clear()


def test_a_failing_compiler_is_no_error_and_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused.kernel.cache_clear()
    try:
        assert fused.kernel() is None and not list((tmp_path / "sfumato").iterdir())
    finally:
        monkeypatch.undo()
        fused.kernel.cache_clear()


def test_a_prepared_process_keeps_its_memory():
    """Freed pages are used again: a second round of large tensors takes almost no page faults."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library")
    import resource

    fused_way = Compute(torch.float32, torch.channels_last, compiled=True)
    fused_way.prepare(network())

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.ones(4_000_000)  # 16 MB: above glibc's own threshold for going back to the system
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 4000 * 4 / 4
