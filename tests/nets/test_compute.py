"""Every way of computing gives the same answer, and the choice follows the clock."""

import copy
import platform

import pytest
import torch
from torch import nn

from sfumato.nets import fused
from sfumato.nets.blocks import ResidualBlock
from sfumato.nets.compute import Compute, candidates, compile_blocks, decide, fuse
from sfumato.nets.unet import UNet

CPU = torch.device("cpu")


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


@pytest.mark.parametrize("way", candidates(CPU), ids=str)
def test_every_way_gives_the_same_answer_and_gradients(way):
    net, arguments = network(), inputs()
    plain, other = copy.deepcopy(net), copy.deepcopy(net)
    way.prepare(other)
    tolerance = 1e-4 if way.dtype == torch.float32 else 0.1
    expected = gradients(plain, arguments, Compute())
    for found, wanted in zip(gradients(other, arguments, way), expected, strict=True):
        assert (found - wanted).norm() <= tolerance * wanted.norm() + 1e-6


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


def scripted(durations):
    """A clock that makes the k-th candidate's preparation and steps last as told."""
    times, now = [], 0.0
    for ready, step in durations:
        for length in (ready, step, step):
            times += [now, now + length]
            now += length
    return iter(times).__next__


@pytest.mark.parametrize(
    ("budget", "durations", "chosen"),
    [
        (100.0, [(0, 1.0), (0, 0.5), (0, 0.8)], 1),  # the fastest
        (100.0, [(0, 1.0), (0, 0.97), (0, 0.98)], 0),  # plain, unless another is clearly faster
        (30.0, [(0, 1.0), (20.0, 0.5), (0, 0.8)], 2),  # preparing costs more than it saves here
        (1000.0, [(0, 1.0), (20.0, 0.5), (0, 0.8)], 1),  # and not here
    ],
)
def test_the_choice_counts_steps_within_the_budget(budget, durations, chosen):
    ways = [Compute(), Compute(torch.bfloat16), Compute(memory_format=torch.channels_last)]
    found = decide(nn.Linear(2, 2), (torch.ones(1, 2),), budget, ways=ways, clock=scripted(durations))
    assert (found.dtype, found.memory_format) == (ways[chosen].dtype, ways[chosen].memory_format)
    assert str(ways[chosen]) in found.why and "ms" in found.why


def test_deciding_leaves_weights_as_they_were_and_no_gradients():
    net = network()
    before = {n: p.clone() for n, p in net.named_parameters()}
    identities = [id(p) for p in net.parameters()]
    decide(net, inputs(), 60.0)
    assert identities == [id(p) for p in net.parameters()]
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in net.named_parameters())


def test_without_a_compiler_the_plain_path_serves(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    fused.kernel.cache_clear()
    try:
        net = network()
        assert not fuse(net)
        Compute(torch.float32, torch.channels_last, compiled=True).prepare(net)
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
