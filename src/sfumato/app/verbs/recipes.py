"""`sfumato recipes [NAME]`: what can be trained or distilled, and the dials of one recipe or method."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..console import Console
from ..options import Json

NAME = "recipes"


def command(
    name: Annotated[
        str | None, typer.Argument(help="One recipe, or one method of `distill`, with its dials.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, and the methods of `distill`; or show the dials of one."""
    from ..compose import describe, method_names, recipe_names

    console = Console(as_json)
    if name is None:
        recipes, methods = ([describe(n) for n in names()] for names in (recipe_names, method_names))
        heads = ["", "Methods of `sfumato distill RUN --method NAME`:"]
        console.answer(
            {"recipes": recipes, "methods": methods}, [*_listed(recipes), *heads, *_listed(methods)]
        )
        return
    entry, lines = describe(name), []
    kind = "methods" if name in method_names() else "recipes"
    if kind == "methods":
        lines = [f"{name} is a method of `sfumato distill RUN --method {name}`.", ""]
    dials = [f"  --set {d['name']}={_shown(d['default'])}" for d in entry["dials"]]
    console.answer({kind: [entry]}, [*lines, *_listed([entry]), "", entry["text"], "", *dials])


def _listed(entries: list[dict[str, Any]]) -> list[str]:
    """A line for each: its name, and what it is."""
    wide = max(len(entry["name"]) for entry in entries)
    return [f"{entry['name']:{wide}}  {entry['about']}" for entry in entries]


def _shown(default: object) -> str:
    """A default as one would type it; a word for what is left to the recipe."""
    return "...  (not set: see above)" if default is None else str(default).lower()
