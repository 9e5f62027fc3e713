"""left-out.txt in a run folder: the files of its data, and of --test, that it was made without, and why.

One line a file, "name: why" ("--test name: why" for held-out images from elsewhere), in the order in which
they were found; the whole list, whatever was shown of it while the data were read. A run that used every
file has none.
"""

from __future__ import annotations

from pathlib import Path

from ..data.dataset import Split
from ..training.rundir import RunDir
from ..training.storage import JSON_LIMIT, read_regular

LEFT_OUT = "left-out.txt"
SHOWN = 3


def write_left_out(folder: RunDir, parts: Split) -> str:
    """Write the list into a run that begins; the sentence about it, "" where nothing is left out."""
    own, other = (part.survey for part in parts)
    bad = list(own.bad) if own is not None else []
    if other is not None and other is not own:
        bad += [(f"--test {name}", why) for name, why in other.bad]
    path = folder.path / LEFT_OUT
    if not bad:
        if path.exists():  # of an earlier beginning, before there was a checkpoint
            folder.disk.remove(path)
        return ""
    lines = [" ".join(f"{name}: {why}".splitlines()) for name, why in bad]
    folder.disk.replace(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    return f"All files left out, by name: {path}"


def left_out_row(folder: Path) -> tuple[tuple[str, str], ...]:
    """The row of the report: how many files were left out, the first of them, and where all are named."""
    path = folder / LEFT_OUT
    lines = read_regular(path, JSON_LIMIT).decode(errors="replace").splitlines() if path.exists() else []
    if not lines:
        return ()
    more = "; ..." if len(lines) > SHOWN else ""
    shown = "; ".join(lines[:SHOWN]) + more
    return (("left out", f"{len(lines):,} file{'s' * (len(lines) > 1)}, named in {LEFT_OUT}: {shown}"),)
