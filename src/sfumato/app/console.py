"""What the user reads: plain sentences on the way, one JSON object at the end when --json is given.

Of several processes under one launcher only the first speaks.

With --json every sentence goes to standard error, so that standard output holds nothing but the object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from ..core.launch import rank


class Console:
    """Says sentences and answers with a result."""

    def __init__(self, as_json: bool = False, silent: bool = False) -> None:
        self.as_json, self.silent = as_json, silent or rank() > 0

    def say(self, *sentences: str) -> None:
        """Print sentences, one a line."""
        for sentence in () if self.silent else sentences:
            typer.echo(sentence, err=self.as_json)

    def answer(self, result: Mapping[str, Any], lines: Iterable[str] = ()) -> None:
        """The verb's result: lines for a person, or the JSON object."""
        if self.as_json and not self.silent:
            typer.echo(json.dumps(dict(result), default=str))
        else:
            self.say(*lines)

    def next(self, *commands: str) -> None:
        """The commands to type next."""
        if commands:
            self.say("", "Next:", *(f"  {c}" for c in commands))

    @property
    def interactive(self) -> bool:
        """Whether a progress bar can be drawn."""
        return sys.stderr.isatty() and not self.as_json
