"""`sfumato compare RUN RUN ...`: one table of what was measured under the same protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import Console
from ..options import Json, Out

NAME = "compare"


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Evaluated run folders.")],
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Write a table, a plot and compare.html; numbers of unlike protocols are shown but never ranked."""
    from ..compare import compare

    console = Console(as_json)
    result = compare(runs, out=out)
    console.answer(result.to_json(), result.lines())
