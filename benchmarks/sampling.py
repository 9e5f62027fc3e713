"""Images drawn per second, network and solver together: our U-Net and transformer beside the peers'.

    $(benchmarks/peers.sh) benchmarks/sampling.py [--threads 2] [--rounds 4] [--steps 10]
                                                  [--sizes small patches] [--clock wall|processor]
                                                  [--json FILE]

The networks are those of step.py (random weights, no dropout; what a step costs does not depend on the
weights). Each draws a batch of 32 images of 3 x 32 x 32 by so many DDIM steps of its own library, the grid
and the library's bookkeeping included: Sfumato's `integrate`, azula's DDIMSampler, diffusers' DDIMScheduler
in its pipeline's loop. denoising-diffusion-pytorch is left out: its sampler also draws a progress bar. The
networks alternate in one process, one trajectory each per round; the figure is the fastest. Precisions:
float32, in which all three sample by default, and bfloat16 autocast.

`alone` is the part of the time that the same number of bare calls of the network takes.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from step import BF16, CLOCKS, FIRST, FP32, LAST, PEERS, SHAPES, machine, sfumato

from sfumato.diffusion.scaling import EpsScaling, Scaled
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.nets.compute import Compute
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Trailing
from sfumato.samplers.solver import integrate

BATCH = 32
SIZES = ["small", "medium", "patches"]
WAYS = [("fp32", FP32, FIRST), ("fp32, channels last", FP32, LAST), ("bf16, channels last", BF16, LAST)]


class Conditioned(torch.nn.Module):
    """A network of step.py, net(x, t), called as our denoisers call theirs."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, c_noise, cond):
        return self.net(x, c_noise.expand(len(x)))


def our_loop(net, x, steps):
    """`integrate`, on a table of 1,000 levels."""
    denoiser, schedule = Scaled(Conditioned(net), EpsScaling()), BetaTable(linear_betas())
    return lambda: integrate(denoiser, Ddim(), Trailing().levels(schedule, steps), x)


def azula_loop(net, x, steps):
    """azula's sampler and denoiser."""
    from azula.denoise import KarrasDenoiser
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler

    class Broadcast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x_t, t):
            return self.inner(x_t, t.expand(len(x_t)))

    sampler = DDIMSampler(KarrasDenoiser(Broadcast(), VPSchedule()), steps=steps, silent=True)
    return lambda: sampler(x)


def diffusers_loop(net, x, steps):
    """The loop of diffusers' DDIMPipeline."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")

    def run():
        scheduler.set_timesteps(steps)
        sample = x
        for t in scheduler.timesteps:
            output = net(sample, t.expand(len(x)))[:, : x.shape[1]]  # its transformer also tells variances
            sample = scheduler.step(output, t, sample).prev_sample
        return sample

    return run


LOOPS = {"azula": azula_loop, "diffusers": diffusers_loop}


class Case:
    """One network, one way of computing, one library's loop."""

    def __init__(self, name, size, way, dtype, layout, steps):
        torch.manual_seed(0)
        ours = name.startswith("sfumato")
        net = (sfumato if ours else PEERS[name])(size).eval()
        if ours:
            fused = layout is LAST or size == "patches"  # as a run read from disk; its norms need the layout
            Compute(dtype, layout, fused).prepare(net)
            way += ", fused" if fused else ""
        else:
            net = net.to(memory_format=layout)
        self.name, self.way, self.dtype, self.steps, self.net = name, way, dtype, steps, net
        self.x, self.times, self.bare = torch.randn(BATCH, *SHAPES[size][1:]), [], []
        self.loop = LOOPS.get(name, our_loop)(net, self.x, steps)

    def draw(self):
        with torch.inference_mode(), torch.autocast("cpu", dtype=BF16, enabled=self.dtype == BF16):
            return self.loop()

    def call(self):
        t = torch.full((BATCH,), 0.5)
        with torch.inference_mode(), torch.autocast("cpu", dtype=BF16, enabled=self.dtype == BF16):
            for _ in range(self.steps):
                self.net(self.x, t)

    def row(self):
        best = min(self.times)
        return {
            "net": self.name, "way": self.way, "ms_an_image": round(1e3 * best / BATCH, 3),
            "images_per_s": round(BATCH / best, 2), "alone": round(min(self.bare) / best, 3),
            "seconds": [round(t, 3) for t in self.times],
        }  # fmt: skip


def cases(size, steps):
    """Every network in every way; peers that are not installed are left out with a word."""
    names = ["azula", "diffusers", "sfumato DiT" if size == "patches" else "sfumato U-Net"]
    for name in names:
        for way, dtype, layout in WAYS:
            if size == "patches" and way == "fp32, channels last":
                continue  # a transformer has no such layout
            try:
                yield Case(name, size, way, dtype, layout, steps)
            except ImportError as error:
                print(f"{name} is left out: {error}")


def measured(found, rounds, clock):
    """Alternate, one trajectory and one set of bare calls each per round; the first counts for nothing."""
    for case in found:
        assert torch.isfinite(case.draw()).all()
    for _ in range(rounds):
        for case in found:
            for work, kept in ((case.draw, case.times), (case.call, case.bare)):
                start = clock()
                work()
                kept.append(clock() - start)
    return [case.row() for case in found]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "patches"])
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    result = {"machine": machine(options.threads, options.clock, "cpu"), "steps": options.steps, "sizes": {}}
    for size in options.sizes:
        rows = measured(list(cases(size, options.steps)), options.rounds, CLOCKS[options.clock])
        result["sizes"][size] = rows
        print(f"\n{size}: batch {BATCH}, {options.steps} DDIM steps")
        print("| net | way | ms an image | images/s | alone |\n|---|---|---:|---:|---:|")
        for r in rows:
            cells = (r[k] for k in ("net", "way", "ms_an_image", "images_per_s", "alone"))
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
