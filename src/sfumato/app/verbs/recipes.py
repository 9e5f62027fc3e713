"""`sfumato recipes [NAME]`: what can be trained, and the dials of one recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import Console
from ..options import Json

NAME = "recipes"


def command(
    name: Annotated[str | None, typer.Argument(help="One recipe, with its dials.")] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or show the dials of one."""
    from ..compose import describe, recipe_names

    console = Console(as_json)
    found = [describe(n) for n in ([name] if name else recipe_names())]
    lines = []
    for entry in found:
        lines.append(f"{entry['name']:12} {entry['about']}")
        if name:
            lines += ["", entry["text"], "", *(f"  --set {d['name']}={d['default']}" for d in entry["dials"])]
    console.answer({"recipes": found}, lines)
