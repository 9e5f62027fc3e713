"""What a sampling step costs besides the network: our solvers against diffusers' schedulers.

    python benchmarks/solvers.py [--cpu-time] [--threads 2] [--steps 50] [--rounds 40] [--json FILE]

Both sides use a stand-in network that returns one fixed tensor as predicted noise, on the same table
(linear betas, T = 1000), batches of 64 and 1 of 3x32x32, float32. One process runs ours and theirs
alternately; the figure is the median time of a trajectory, grid included, divided by its network calls.
`ratio` is ours over theirs as measured; `overhead_ratio` takes off both what is not a solver's doing:
the call of the stand-in network, timed alone, and in ancestral sampling the normal draw of each step.

The goal is an overhead ratio of at most 0.3. Heun at batch 1 misses it: 0.45, for theirs is down to 30 us.
Tried beyond what is in the code, with the ratio each would give: keeping coefficients and c_noise of the
last level in the denoiser, as Heun visits each level twice, 0.37; forward without nn.Module's call on top,
0.34; one `torch.addr` instead of two kernels, slower (its views cost more than the kernel). The grid, the
five kernels and the two c_noise of a step in a bare loop without any solver are 0.22. The two that help
would buy 2 to 4 us a call with state inside a denoiser or with hooks that no longer run: left out.
"""

import argparse
import datetime
import json
import platform
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


def alone(output, x, steps, draws):
    """What both sides must do: the calls of the network, and its share of the normal draws if any."""
    net, noise = StandIn(output), Noise([0], rows=len(x))

    def run():
        for step in range(steps):
            net(x, x, None)
            if draws and step:
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
        sides = [ours(solver, output, x, steps), theirs(scheduler, output, x, steps)]
        runs = [*sides, alone(output, x, steps, draws=name == "ancestral")]
        mine, other, both = (1e6 * t for t in median_per_call(runs, rounds, clock))
        row = {"solver": name, "batch": batch, "ours_us": mine, "diffusers_us": other, "alone_us": both}
        row |= {"ratio": mine / other, "overhead_ratio": (mine - both) / (other - both)}
        rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    return rows


def circumstances(options):
    """Hardware, versions, date and protocol."""
    import diffusers

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{cpu}, {platform.machine()}, no GPU",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        "protocol": " ".join(__doc__.split("\n\n")[2].split()),
        "clock": "CPU time of one thread" if options.cpu_time else f"wall clock, {options.threads} threads",
        "steps": options.steps,
        "rounds": options.rounds,
    }


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
        print(
            f"batch {row['batch']:2d}  {row['solver']:18s} ours {row['ours_us']:7.1f} us   "
            f"diffusers {row['diffusers_us']:7.1f} us   both {row['alone_us']:6.1f} us   "
            f"ratio {row['ratio']:.2f}   overhead {row['overhead_ratio']:.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(circumstances(options) | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
