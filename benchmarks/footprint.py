"""What our package costs besides the work: import time, and peak memory of training.

    .venv/bin/python benchmarks/footprint.py [--rounds 7] [--json FILE]

import   seconds of `import sfumato` in a fresh process beyond `import torch` in another, medians of
         alternating rounds; the command line's help, and whether it loads torch
memory   highest resident memory of a process that trains the U-Net of benchmarks/step.py (small) for 60
         steps by the trainer, against one that trains it by a bare loop: autocast, AdamW, nothing else;
         what loading the libraries takes counts on both sides
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS, BATCH = 60, 32


def bare():
    """The loop anyone would write, in the precision and layout the trainer picks here."""
    import numpy as np
    import torch

    from sfumato.nets.unet import UNet

    torch.manual_seed(0)
    data = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (512, 3, 32, 32), dtype=np.uint8))
    net = UNet(3, 2).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)
    for _ in range(STEPS):
        x = data[torch.randint(len(data), (BATCH,))].float() / 127.5 - 1
        t = torch.rand(BATCH)
        eps = torch.randn_like(x)
        noisy = torch.cos(t)[:, None, None, None] * x + torch.sin(t)[:, None, None, None] * eps
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(noisy, t)
        (out.float() - eps).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return peak()


def trained():
    """The same network by the trainer: averages, checkpoints, judging included."""
    import numpy as np

    from sfumato.core.lazy import build, lazy
    from sfumato.data.sources import open_data
    from sfumato.models.codec import Pixels
    from sfumato.models.generator import Generator
    from sfumato.nets.unet import UNet
    from sfumato.recipes.diffusion import modern_density, modern_objective, modern_plan
    from sfumato.training.budget import Examples
    from sfumato.training.execution import Execution
    from sfumato.training.rundir import RunDir
    from sfumato.training.settings import Settings
    from sfumato.training.stage import Recipe, Stage
    from sfumato.training.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        images = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), dtype=np.uint8)
        np.save(Path(folder) / "images.npy", images)
        data = open_data(f"{folder}/images.npy").split()
        facts = data.train.facts
        model = lazy(Generator)(
            codec=lazy(Pixels)(), density=modern_density(facts, lazy(UNet)(3, 2)), plan=modern_plan()
        )
        stage = lazy(Stage)(name="diffusion", objective=modern_objective(facts), train="density", batch=BATCH)
        recipe = build(lazy(Recipe)(model=model, stages=(stage,)))
        run = RunDir(Path(folder) / "run")
        run.begin({}, {}, {})
        Trainer(
            recipe, data.train, run, budget=Examples(STEPS * BATCH), seed=0,
            held_out=data.held_out, settings=Settings(execution=Execution(bf16=True, channels_last=True)),
        ).fit()  # fmt: skip
    return peak()


def peak():
    """Highest resident memory of this process so far, MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(code):
    """Seconds of a fresh Python that runs a line."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def imports(rounds):
    """Medians in seconds."""
    lines = {
        "python": "pass",
        "torch": "import torch",
        "sfumato": "import sfumato",
        "torch, sfumato": "import torch, sfumato",
        "sfumato, opened": "import torch, sfumato; sfumato.open",
        "help": "import sys; sys.argv = ['sfumato', '--help']; import sfumato.__main__ as m; m.main()",
    }
    times = {name: [] for name in lines}
    for _ in range(rounds):
        for name, code in lines.items():
            quiet = f"try:\n {code}\nexcept SystemExit: pass" if name == "help" else code
            times[name].append(timed(quiet))
    found = {name: round(statistics.median(values), 3) for name, values in times.items()}
    found["beyond torch"] = round(found["torch, sfumato"] - found["torch"], 3)
    found["opened beyond torch"] = round(found["sfumato, opened"] - found["torch"], 3)
    return found


def memory():
    """MB at the peak of both processes and their ratio."""
    found = {}
    for side in ("bare", "trained"):
        command = [sys.executable, str(Path(__file__).resolve()), "--side", side]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[side] = round(float(done.stdout.strip().splitlines()[-1]))
    return found | {"ratio": round(found["trained"] / found["bare"], 3)}


def main():
    """Print both tables; JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=["bare", "trained"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        print({"bare": bare, "trained": trained}[chosen.side]())
        return 0
    found = {"import_s": imports(chosen.rounds), "peak_MB": memory(), "cores": os.cpu_count()}
    print(json.dumps(found, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
