"""Kill a real training at random moments and compare what it becomes with an undisturbed one.

    python benchmarks/kill_resume.py [--kills 25] [--seed 0] [--work DIR] -- COMMAND ... {run} ...

for instance

    python benchmarks/kill_resume.py -- sfumato train vae digits --examples 20000 \\
        --precision fp32 --out {run}

COMMAND is run once undisturbed; then again and again, ended by SIGKILL at random moments, until
the given number of kills has landed in runs that all reached their end. A third of the kills wait
for a save to begin. Compared, to the bit: the final weights, the averages, and the chain of sample
ids. The way of computing must be fixed (--precision) and the budget given in examples: a choice by
the clock is another run. The result is one JSON object; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sfumato.training.rundir import RunDir
from sfumato.training.storage import from_json, sha256


def fingerprint(path):
    """SHA-256 of the final weights and averages, and the chain of sample ids."""
    run = RunDir(path)
    found = run.newest()
    state = from_json(found.file("state.json"), path)
    averages = {
        f"ema/{p.parent.name}/{p.name}": sha256(p.read_bytes()) for p in run.averages.glob("*/*.safetensors")
    }
    return {
        "stage": state["stage_name"],
        "total": state["total"],
        "ids": state["ids"],
        "model": sha256(found.file("model.safetensors")),
        **averages,
    }


def saving(path):
    return any(p.name.endswith(".partial") for p in path.glob("checkpoints/.*"))


def once(command, path, log, delay=None, in_save=False):
    """Run the command; kill it after a delay (or at the first save after it). Whether it ended itself."""
    words = [word.replace("{run}", str(path)) for word in command]
    process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    start = time.monotonic()
    while delay is not None and process.poll() is None:
        if time.monotonic() - start > delay and (not in_save or saving(path)):
            process.kill()
            process.wait()
            return False
        time.sleep(0.0005 if in_save else 0.002)
    code = process.wait()
    if code:
        sys.exit(f"the command failed with exit code {code}; see {log.name}")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("command", nargs="+", help="with {run} for the run folder")
    options = parser.parse_args()
    if not any("{run}" in word for word in options.command):
        parser.error("the command must contain {run}")
    work = options.work or Path(tempfile.mkdtemp(prefix="kill-resume-"))
    work.mkdir(parents=True, exist_ok=True)
    moments = random.Random(options.seed)
    with (work / "log.txt").open("w") as log:
        start = time.monotonic()
        once(options.command, work / "undisturbed", log)
        whole = time.monotonic() - start
        start = time.monotonic()
        once(options.command, work / "undisturbed", log)  # only starts, finds the end, and stops
        startup = time.monotonic() - start
        expected = fingerprint(work / "undisturbed")
        kills, saves, runs, differing = 0, 0, 0, []
        while kills < options.kills:
            runs += 1
            path, before = work / f"run-{runs}", kills
            while True:
                # late enough that the next start gets further, early enough to come before the end
                latest = startup + max(0.3 * (whole - startup), 0.2 * startup)
                delay, in_save = moments.uniform(0.5 * startup, latest), moments.random() < 1 / 3
                start = time.monotonic()
                if once(options.command, path, log, delay if kills < options.kills else None, in_save):
                    break
                kills += 1
                print(f"kill {kills} in {path.name}", file=sys.stderr, flush=True)
                saves += saving(path)
            if kills == before:  # the machine is faster than it was: the moments come earlier
                whole, startup = 0.8 * min(whole, time.monotonic() - start), 0.8 * startup
            found = fingerprint(path)
            differing += [f"{path.name}: {k}" for k in expected | found if expected.get(k) != found.get(k)]
    result = {
        "command": options.command,
        "kills": kills,
        "kills_in_a_save": saves,
        "runs": runs,
        "seconds_undisturbed": round(whole, 1),
        "differences": differing,
        "final": expected,
    }
    print(json.dumps(result, indent=1))
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
