"""A training step of our networks against the peers' and against the machine's convolutions.

    $(benchmarks/peers.sh) benchmarks/step.py [--threads 2] [--rounds 12]
                                              [--sizes small medium digits patches]
                                              [--peers azula diffusers lucidrains] [--compile]
                                              [--clock wall|processor] [--json FILE]
    python benchmarks/step.py --device cuda         # the same on a GPU: under ten minutes

One step: noise the batch, forward, squared error, backward, AdamW. Everything runs in one process and
alternates, one step each per round, so that the machine's drift meets all alike; the figure is the
fastest step, and GFLOP/s = 3 x forward FLOPs / time (the usual estimate), FLOPs counted by
torch.utils.flop_counter. Ceiling: forward and backward of one 3x3 convolution, 128 channels, 32x32,
batch 32, channels last, in the same rounds.

Size `patches` compares transformers: 6 blocks of 192 features, heads of 32, on patches of 4 x 4 (64
tokens), adaLN-Zero, with our U-Net `small` beside them; the other sizes compare U-Nets.

On a GPU the batches are eight times as large, so that it has something to do, matrix products may use
TF32 in the float32 ways, our "fused" way compiles one class of block, and every time ends with the device
in step. Peers run as their examples do (float32, default AdamW), with bfloat16 autocast, and with channels
last on top; --compile adds torch.compile of all that. Ours runs plain and as compute.py prepares it.
On a machine with other work use --threads 1 --clock processor: the processor time of one thread does
not count the time others held the core (though they still share caches and memory). Peers that are
not installed are left out with a word.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import json
import os
import platform
import sys
import time
import types
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from sfumato.nets.compute import Compute
from sfumato.nets.dit import DiT
from sfumato.nets.unet import UNet

SHAPES = {
    "small": (32, 3, 32, 32),
    "medium": (32, 3, 32, 32),
    "digits": (64, 1, 8, 8),
    "patches": (32, 3, 32, 32),
}
WIDTH, DEPTH, HEAD, PATCH = 192, 6, 32, 4  # of the transformers
LARGER = 8  # batches on a GPU
BF16, FP32 = torch.bfloat16, torch.float32
LAST, FIRST = torch.channels_last, torch.contiguous_format


class Called(nn.Module):
    """A peer's network behind one signature: net(x, t)."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, x, t):
        return self.call(self.net, x, t)


def azula(size):
    if size == "patches":
        from azula.nn.vit import ViT

        heads = WIDTH // HEAD
        net = ViT(
            3,
            3,
            mod_features=WIDTH,
            hid_channels=WIDTH,
            hid_blocks=DEPTH,
            patch_size=PATCH,
            attention_heads=heads,
        )
        return Called(nn.ModuleList([net, nn.Linear(1, WIDTH)]), lambda n, x, t: n[0](x, n[1](t[:, None])))
    from azula.nn.unet import UNet as Net

    widths, features = {
        "small": ((64, 96, 128), 128),
        "medium": ((128, 192, 256), 256),
        "digits": ((48, 96), 64),
    }[size]
    channels = SHAPES[size][1]
    net = Net(channels, channels, hid_channels=widths, hid_blocks=(2,) * len(widths), mod_features=features)
    return Called(nn.ModuleList([net, nn.Linear(1, features)]), lambda n, x, t: n[0](x, n[1](t[:, None])))


def diffusers(size):
    if size == "patches":
        from diffusers import DiTTransformer2DModel

        net = DiTTransformer2DModel(
            WIDTH // HEAD, HEAD, in_channels=3, num_layers=DEPTH, sample_size=32, patch_size=PATCH
        )
        none = torch.full((SHAPES[size][0],), 0)
        return Called(net, lambda n, x, t: n(x, t, none, return_dict=False)[0])
    from diffusers import UNet2DModel

    widths = {"small": (40, 88, 88), "medium": (88, 192, 192), "digits": (32, 64)}[size]
    _, channels, side, _ = SHAPES[size]
    # attention at the second of three resolutions, or of two
    levels = [i == 1 for i in range(len(widths))]
    net = UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=2,
        norm_num_groups=8,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in levels),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(levels)),
    )
    return Called(net, lambda n, x, t: n(x, t, return_dict=False)[0])


def lucidrains(size):
    if size == "patches":
        raise ImportError("it has no transformer over patches")
    if "torchvision" not in sys.modules:  # only its trainer uses torchvision: see peers.sh
        empty = types.ModuleType("torchvision")
        empty.transforms, empty.utils = types.ModuleType("transforms"), types.ModuleType("utils")
        empty.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
        sys.modules["torchvision"] = empty
    from denoising_diffusion_pytorch import Unet

    dim, multipliers = {"small": (48, (1, 2, 2)), "medium": (76, (1, 2, 4)), "digits": (32, (1, 2))}[size]
    return Called(Unet(dim, dim_mults=multipliers, channels=SHAPES[size][1]), lambda n, x, t: n(x, t))


PEERS = {"azula": azula, "diffusers": diffusers, "lucidrains": lucidrains}


def sfumato(size, **options):
    if size == "patches":
        return DiT(3, 2, width=WIDTH, depth=DEPTH, head_dim=HEAD, patch=PATCH)
    settings = {"small": {}, "medium": {"width": 128}, "digits": {"multipliers": (1, 2), "blocks": 1}}[size]
    return UNet(SHAPES[size][1], 2, **{**settings, **options})


def batch_of(size, device):
    """Images in a step."""
    return SHAPES[size][0] * (LARGER if device == "cuda" else 1)


class Case:
    """One network in one way of computing: a step, its times and its FLOPs."""

    def __init__(self, name, way, size, make, dtype, layout, device, *, fused=False, compiled=False):
        self.name, self.way, self.times, self.device = name, way, [], device
        torch.manual_seed(0)
        net = make(size).train().to(device)
        self.x = torch.randn(batch_of(size, device), *SHAPES[size][1:], device=device)
        t = torch.rand(len(self.x), device=device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(self.x, t)
        self.gflop = counter.get_total_flops() / len(self.x) / 1e9
        self.million = sum(p.numel() for p in net.parameters()) / 1e6
        ours = name.startswith("sfumato")
        if ours:
            Compute(dtype, layout, fused).prepare(net)
        else:
            net = net.to(memory_format=layout)
        self.dtype = dtype
        self.optimizer = torch.optim.AdamW(net.parameters(), 1e-4, **({"fused": True} if ours else {}))
        self.net = torch.compile(net, dynamic=False) if compiled else net

    def step(self):
        t = torch.rand(len(self.x), device=self.device)
        alpha, sigma = torch.cos(t)[:, None, None, None], torch.sin(t)[:, None, None, None]
        eps = torch.randn_like(self.x)
        with torch.autocast(self.device, dtype=BF16, enabled=self.dtype == BF16):
            out = self.net(alpha * self.x + sigma * eps, t)
        (out.float() - eps).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def row(self):
        images = len(self.x) / min(self.times)
        return {
            "net": self.name, "way": self.way, "parameters_M": round(self.million, 2),
            "GFLOP": round(self.gflop, 3), "ms": round(min(self.times) * 1e3, 2),
            "median_ms": round(sorted(self.times)[len(self.times) // 2] * 1e3, 2),
            "images_per_s": round(images, 1), "GFLOP_per_s": round(3 * self.gflop * images, 1),
        }  # fmt: skip


class Ceiling:
    """Forward and backward of one convolution: what the machine gives at best."""

    def __init__(self, dtype, device):
        self.name, self.way, self.times = "conv 3x3, 128 channels", "bf16" if dtype == BF16 else "fp32", []
        self.conv = nn.Conv2d(128, 128, 3, padding=1).to(device, dtype).to(memory_format=LAST)
        self.batch = batch_of("small", device)
        self.x = torch.randn(self.batch, 128, 32, 32, dtype=dtype, device=device)
        self.x = self.x.to(memory_format=LAST).requires_grad_()
        self.gradient = torch.randn_like(self.x)

    def step(self):
        self.x.grad = self.conv.weight.grad = self.conv.bias.grad = None
        self.conv(self.x).backward(self.gradient)

    def row(self):
        rate = 3 * 2 * self.batch * 32 * 32 * 128 * 128 * 9 / min(self.times) / 1e9
        ms = round(min(self.times) * 1e3, 2)
        return {"net": self.name, "way": self.way, "ms": ms, "GFLOP_per_s": round(rate, 1)}


def cases(size, nets, compile_too, device):
    found = [Ceiling(FP32, device), Ceiling(BF16, device)]
    ways = [("fp32", FP32, FIRST), ("bf16", BF16, FIRST), ("bf16, channels last", BF16, LAST)]
    for name in nets:
        make = PEERS[name]
        try:
            found += [Case(name, way, size, make, dtype, layout, device) for way, dtype, layout in ways]
            if compile_too and name != "lucidrains":
                found.append(
                    Case(name, "bf16, channels last, compiled", size, make, BF16, LAST, device, compiled=True)
                )
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found + ours(size, ways, device)


def ours(size, ways, device):
    if size == "patches":
        plain = [Case("sfumato DiT", way, size, sfumato, dtype, FIRST, device) for way, dtype, _ in ways[:2]]
        fused = [
            Case("sfumato DiT", f"{way}, fused", size, sfumato, dtype, FIRST, device, fused=True)
            for way, dtype, _ in ways[:2]
        ]
        way = "bf16, channels last, fused"
        unet = Case("sfumato U-Net", way, size, lambda _: sfumato("small"), BF16, LAST, device, fused=True)
        return [*plain, *fused, unet]
    ways = [*ways, ("fp32, channels last, fused", FP32, LAST), ("bf16, channels last, fused", BF16, LAST)]
    found = [Case("sfumato", w, size, sfumato, d, m, device, fused="fused" in w) for w, d, m in ways]
    if size != "digits":

        def patched(size):
            return sfumato(size, patch=2, width=128 if size == "small" else 256, multipliers=(1, 1), blocks=3)

        way = "bf16, channels last, fused; patch 2"
        found.append(Case("sfumato", way, size, patched, BF16, LAST, device, fused=True))
    return found


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def in_step():
    """The wall clock once the GPU has done all it was asked."""
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(found, rounds, clock):
    """Alternate, one step each per round; the first call of each is timed as its preparation."""
    for case in found:
        start = clock()
        case.step()
        case.first = round(clock() - start, 2)
        case.step()
    for _ in range(rounds):
        for case in found:
            start = clock()
            case.step()
            case.times.append(clock() - start)
    return [{**case.row(), "first_step_s": case.first} for case in found]


def machine(threads, clock, device):
    name = platform.processor() or platform.machine()
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        table = {k.strip(): v.strip() for k, v in lines.items()}
        name, flags = table.get("model name", name), table.get("flags", "")
    known = [f for f in ("avx512f", "avx512_bf16", "amx_bf16") if f in flags.split()]
    graphics = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "processor": name, "features": known, "cores": os.cpu_count(), "threads": threads,
        "device": graphics or "cpu", "clock": clock, "load_at_start": round(os.getloadavg()[0], 2),
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def table(size, rows):
    print(f"\n{size}: {' x '.join(map(str, SHAPES[size]))}")
    print(
        "| net | way | M | GFLOP | ms | img/s | GFLOP/s | first step, s |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|"
    )
    for r in rows:
        cells = [
            r.get(k, "")
            for k in ("parameters_M", "GFLOP", "ms", "images_per_s", "GFLOP_per_s", "first_step_s")
        ]
        print(f"| {r['net']} | {r['way']} | " + " | ".join(map(str, cells)) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high")  # TF32, where there is such a thing
    clock = in_step if options.device == "cuda" else CLOCKS[options.clock]
    result = {"machine": machine(options.threads, options.clock, options.device), "sizes": {}}
    for size in options.sizes:
        rows = measure(
            cases(size, options.peers, options.compile, options.device),
            options.rounds * (5 if size == "digits" else 1),
            clock,
        )
        result["sizes"][size] = rows
        table(size, rows)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
