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
    wide = max(len(entry["name"]) for entry in found)
    lines = []
    for entry in found:
        lines.append(f"{entry['name']:{wide}}  {entry['about']}")
        if name:
            dials = [f"  --set {d['name']}={_shown(d['default'])}" for d in entry["dials"]]
            lines += ["", entry["text"], "", *dials]
    console.answer({"recipes": found}, lines)


def _shown(default: object) -> str:
    """A default as one would type it; a word for what is left to the recipe."""
    return "...  (not set: see above)" if default is None else str(default).lower()
