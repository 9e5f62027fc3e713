"""All speed benchmarks in turn: `make bench`, or with the peers' Python

    $(benchmarks/peers.sh) -m benchmarks [--threads N] [--out FOLDER]

step.py       a training step against the peers' and the machine's convolutions
solvers.py    what a sampling step costs besides the network, against diffusers' schedulers

Results are printed and kept as JSON in FOLDER (default: build/benchmarks). kill_resume.py measures
reliability, not speed, and is started by itself.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ALL = ("step", "solvers")


def main():
    """Run them one after the other; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "benchmarks")
    chosen, failed = parser.parse_args(), 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    # the peers' environment does not hold sfumato itself
    paths = [str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    for name in ALL:
        print(f"\n{name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--threads", str(chosen.threads)]
        command += ["--json", str(chosen.out / f"{name}.json")]
        failed += subprocess.run(command, env=environment).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
