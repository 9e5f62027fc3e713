"""All speed benchmarks in turn: `make bench`, or with the peers' Python

    python -m benchmarks --peer $(benchmarks/peers.sh) [--threads N] [--out FOLDER] [--only NAME ...]
    python -m benchmarks --gpu              the training step on a GPU, in under ten minutes: `make bench-gpu`

step        a training step against the peers' and the machine's convolutions
sampling    images drawn per second, U-Net and transformer, network and solver together, beside the peers'
solvers     what a sampling step costs besides the network, against diffusers' schedulers
vae         VAE training end to end against pythae's pipeline
codebook    look-up and update of a codebook against vector-quantize-pytorch's
footprint   what importing costs, and peak memory against a bare loop
quality     digits: Frechet distance after a third of the ten minutes that azula is given

Results are printed and kept as JSON in FOLDER (default: build/benchmarks). Whatever runs networks of peers
in its own process is started by their Python, whatever trains runs of ours by ours. kill_resume.py measures
reliability, not speed, and is started by itself, as is quality.py on other data.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
IN_PEERS = ("step", "sampling", "solvers", "codebook")  # these load peers beside ours
WITH_PEERS = ("vae", "quality")  # these start the peers' Python themselves
ALL = ("step", "sampling", "solvers", "codebook", "vae", "footprint", "quality")


def command(name, chosen):
    """The command line of one benchmark."""
    peers = name in IN_PEERS and chosen.peer
    line = [chosen.peer if peers else sys.executable, str(HERE / f"{name}.py")]
    line += ["--json", str(chosen.out / f"{name}{'-gpu' if chosen.gpu else ''}.json")]
    if name == "quality":
        line.insert(2, "digits")
    if name in WITH_PEERS and chosen.peer:
        line += ["--peer", chosen.peer]
    if name != "footprint":
        line += ["--threads", str(chosen.threads)]
    return [*line, "--device", "cuda", "--peers"] if chosen.gpu else line


def main():
    """Run them one after the other; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="the Python of the peers' environment; without it ours alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "benchmarks")
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--gpu", action="store_true")
    chosen, failed = parser.parse_args(), 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    # the peers' environment does not hold sfumato itself
    paths = [str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    for name in ("step",) if chosen.gpu else chosen.only:
        print(f"\n{name}", flush=True)
        failed += subprocess.run(command(name, chosen), env=environment).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
