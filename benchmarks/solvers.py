"""What a sampling step costs besides the network: our solvers against diffusers' schedulers.

    python benchmarks/solvers.py [--threads 2] [--steps 50] [--rounds 40] [--json FILE]

Both sides use a stand-in network that returns one fixed tensor as predicted noise, on the same table
(linear betas, T = 1000), batches of 64 and 1 of 3x32x32, float32. One process runs ours and theirs
alternately; the figure is the median time of a trajectory divided by its network calls, and the ratio
is ours over theirs. Ancestral sampling draws a normal tensor per step on both sides; its draw alone
is timed too and taken off both for the second ratio.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import torch
from torch import nn

from sfumato.core.noise import Noise
from sfumato.diffusion.scaling import EpsScaling, Scaled
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Trailing
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC


class StandIn(nn.Module):
    """A network that costs nothing and counts its calls."""

    def __init__(self, output):
        super().__init__()
        self.output, self.calls = output, 0

    def forward(self, x, c_noise, cond):
        self.calls += 1
        return self.output


def theirs(scheduler, output, x, steps):
    """A diffusers trajectory as its pipelines write it, the stand-in network called like ours."""
    net = StandIn(output)

    def run():
        scheduler.set_timesteps(steps)
        sample = x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            predicted = net(scheduler.scale_model_input(sample, t), t, None)
            sample = scheduler.step(predicted, t, sample, return_dict=False)[0]
        return len(scheduler.timesteps)

    return run


def ours(solver, output, x, steps):
    """Our trajectory, grid and denoiser included."""
    net, schedule, grid = StandIn(output), BetaTable(linear_betas()), Trailing()
    denoiser = Scaled(net, EpsScaling())

    def run():
        net.calls = 0
        noise = Noise([0], rows=len(x)) if isinstance(solver, Ancestral) else None
        integrate(denoiser, solver, grid.levels(schedule, steps), x, noise=noise)
        return net.calls

    return run


def draw_alone(x, steps):
    """The normal draws of an ancestral trajectory and nothing else."""
    noise = Noise([0], rows=len(x))

    def run():
        for _ in range(steps - 1):
            noise.normal(x.shape)
        return steps

    return run


def pairs():
    """(name, our solver, their scheduler)."""
    import diffusers

    table = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    return [
        ("DDIM", Ddim(), diffusers.DDIMScheduler(**table, timestep_spacing="trailing", clip_sample=False)),
        (
            "DPM-Solver++(2M)",
            DpmPlusPlus2M(),
            diffusers.DPMSolverMultistepScheduler(**table, timestep_spacing="trailing"),
        ),
        ("Heun", Heun(), diffusers.HeunDiscreteScheduler(**table, timestep_spacing="trailing")),
        ("UniPC-2", UniPC(2), diffusers.UniPCMultistepScheduler(**table, timestep_spacing="trailing")),
        (
            "ancestral",
            Ancestral(),
            diffusers.DDPMScheduler(**table, timestep_spacing="trailing", clip_sample=False),
        ),
    ]


def median_per_call(runs, rounds, clock):
    """Seconds per network call of each run, the runs taken alternately."""
    for run in runs:
        run()
    times = [[] for _ in runs]
    for _ in range(rounds):
        for run, kept in zip(runs, times, strict=True):
            start = clock()
            calls = run()
            kept.append((clock() - start) / calls)
    return [statistics.median(kept) for kept in times]


def measure(batch, steps, rounds, clock):
    """One row per solver for a batch size, times in microseconds per network call."""
    x, output = torch.randn(batch, 3, 32, 32), torch.randn(batch, 3, 32, 32)
    rows = []
    for name, solver, scheduler in pairs():
        runs = [ours(solver, output, x, steps), theirs(scheduler, output, x, steps)]
        if name == "ancestral":
            runs.append(draw_alone(x, steps))
        mine, other, *draw = (1e6 * t for t in median_per_call(runs, rounds, clock))
        row = {"solver": name, "batch": batch, "ours_us": mine, "diffusers_us": other, "ratio": mine / other}
        if draw:
            row |= {"draw_us": draw[0], "ratio_without_draw": (mine - draw[0]) / (other - draw[0])}
        rows.append(row)
    return rows


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU time of one thread (a busy machine)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1 if options.cpu_time else options.threads)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    warnings.filterwarnings("ignore")
    with torch.inference_mode():
        rows = [row for batch in (64, 1) for row in measure(batch, options.steps, options.rounds, clock)]
    for row in rows:
        extra = f"   without the draw {row['ratio_without_draw']:.2f}" if "draw_us" in row else ""
        print(
            f"batch {row['batch']:2d}  {row['solver']:18s} ours {row['ours_us']:7.1f} us   "
            f"diffusers {row['diffusers_us']:7.1f} us   ratio {row['ratio']:.2f}{extra}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
