"""Run claims: `python -m claims [cNN ...] [--quick] [--list] [--page]`.

Without a name: all that are not recorded, failed to run, or were changed since, one process each.
Ctrl-C or SIGTERM leaves the claim at work where it stands; the same command goes on with it.

Exit code: 0 whatever was found (a claim that does not hold is a finding), 1 if one failed to run,
2 for a wrong name, 130 or 143 when stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping

os.environ.setdefault("MPLBACKEND", "Agg")

from sfumato.core.errors import Interrupted, SfumatoError

from . import page
from .harness import ROOT, Experiment, Session, Skipped, crashed, experiments, find, stoppable

SKIPPED = 75  # exit code of a process whose claim was skipped


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m claims", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="cNN", help="default: all that are not recorded")
    parser.add_argument("--quick", action="store_true", help="a smoke run that records nothing")
    parser.add_argument("--list", action="store_true", help="what there is, and what came out")
    parser.add_argument("--page", action="store_true", help="write docs/claims.md from what is recorded")
    asked = parser.parse_args(words)
    try:
        known = experiments()
        if asked.list:
            print(*listing(known), sep="\n")
            return 0
        if not asked.page:
            chosen = [find(name, known) for name in asked.names] or open_ones(known, asked.quick)
            code = one(chosen[0], asked.quick) if len(chosen) == 1 else all_of(chosen, asked.quick)
            if asked.quick or code > 1:
                return 0 if code == SKIPPED else code
        page.write(known)
        print(f"{page.PAGE.relative_to(ROOT)} is written")
        return 0 if asked.page else code
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.")
        return 130
    except SfumatoError as error:
        print(error, file=sys.stderr)
        return error.code


def listing(known: Mapping[str, Experiment]) -> list[str]:
    """One line a claim."""
    rows = [(e, e.result()) for e in known.values()]
    return [f"{e.name:5} {r['outcome'] if r else 'not run yet':14} {e.title}" for e, r in rows]


def open_ones(known: Mapping[str, Experiment], quick: bool) -> list[Experiment]:
    """Those not recorded at the state of their file; all in a quick run."""
    results = {e.name: e.result() for e in known.values()}

    def done(e: Experiment) -> bool:
        result = results[e.name]
        return result is not None and e.stands(result) and not result["error"]

    return [e for e in known.values() if quick or not done(e)]


def one(experiment: Experiment, quick: bool) -> int:
    """Run one claim in this process and say what came out."""
    print(f"{experiment.name}: {experiment.title}", flush=True)
    try:
        result = Session(experiment).run(quick=quick)
    except Skipped as reason:
        print(f"  skipped: {reason}", flush=True)
        return SKIPPED
    except (KeyboardInterrupt, Interrupted) as error:
        print("  stopped; the same command goes on", flush=True)
        return getattr(error, "code", 130)
    for check in result["checks"]:
        print(f"  {'yes' if check['holds'] else 'NO '}  {check['text']}")
    for note in result["notes"]:
        print(f"  note: {note}")
    print(f"  {result['outcome']} {result['error']} ({result['minutes']} min)".rstrip(), flush=True)
    return 1 if result["error"] else 0


def all_of(chosen: list[Experiment], quick: bool) -> int:
    """Run several claims, each in a process of its own, so that one that dies takes no other with it."""
    failed = 0
    for experiment in chosen:
        words = [sys.executable, "-m", "claims", experiment.name, *(["--quick"] if quick else [])]
        with stoppable(), subprocess.Popen(words, cwd=ROOT) as child:
            try:
                code = child.wait()
            except Interrupted:  # Ctrl-C reaches the child by itself, SIGTERM does not
                child.terminate()
                code = child.wait()
        if code in (130, 143):
            return code
        if code not in (0, 1, SKIPPED) and not quick:
            crashed(experiment, code)
        failed += code not in (0, SKIPPED)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
