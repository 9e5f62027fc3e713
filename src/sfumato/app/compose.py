"""From a recipe's name, the facts of the data and the user's settings to one postponed tree.

A setting without a dot turns a dial of the recipe (a keyword of its function: one dial sets many
leaves); a dotted one changes a single leaf of the tree the recipe returned:

    --set width=96                              the recipe's dial
    --set stages.diffusion.batch=128            one leaf, list entries by name or number

What the data decide (fixed.py) is no choice: a leaf that contradicts them is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import UsageError, did_you_mean
from ..core.lazy import build, convert, override
from ..data.facts import Facts
from ..recipes.few_steps import METHODS
from .catalog import CATALOG, RECIPES
from .fixed import check_fixed


def recipe_names() -> list[str]:
    """The names `train` knows."""
    return list(RECIPES)


def method_names() -> list[str]:
    """The names `distill --method` knows; their dials are described like those of recipes."""
    return list(METHODS)


def known_recipe(name: str) -> Any:
    """A recipe by its name; UsageError with the nearest one for a word that is none."""
    if name not in RECIPES:
        raise UsageError(f"no recipe '{name}'", remedy=did_you_mean(name, RECIPES))
    return RECIPES[name]


def _dials(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(make).parameters
    return {k: p for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def describe(name: str) -> dict[str, Any]:
    """Name, one sentence, the whole text, and the dials with their defaults, of a recipe or a method."""
    make = {**RECIPES, **METHODS}.get(name)
    if make is None:
        raise UsageError(f"no recipe '{name}'", remedy=did_you_mean(name, [*RECIPES, *METHODS]))
    text = inspect.getdoc(make) or ""
    return {
        "name": name,
        "about": text.partition("\n")[0],
        "text": text.partition("\n")[2].strip(),
        "dials": [{"name": k, "default": p.default} for k, p in _dials(make).items()],
    }


def build_recipe(name: str, tree: Any) -> Any:
    """The recipe built; UsageError where its parts refuse their values or do not fit together."""
    try:
        return build(tree)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError) as error:
        raise UsageError(
            f"recipe {name} cannot be built: {error}", remedy="Look at what --set changed."
        ) from error


def compose(name: str, facts: Facts, settings: Mapping[str, Any]) -> Any:
    """The postponed Recipe with every setting applied; each slip names the legal keys or types."""
    return turned(known_recipe(name), f"recipe '{name}'", facts, settings)


def unused_classes(name: str, facts: Facts, settings: Mapping[str, Any]) -> list[str]:
    """A sentence where the data have classes that the recipe could be given and was not."""
    if not facts.classes or "conditional" in settings or "conditional" not in _dials(known_recipe(name)):
        return []
    return [f"The {len(facts.classes)} classes are not given to the model; --set conditional=true does so."]


def turned(make: Callable[..., Any], what: str, subject: object, settings: Mapping[str, Any]) -> Any:
    """The postponed Recipe that a function makes of its subject, its dials turned and leaves changed."""
    dials = _dials(make)
    chosen, leaves = {}, {}
    for key, value in settings.items():
        if "." in key:
            leaves[key] = value
        elif key in dials:
            chosen[key] = convert(make, key, value)
        else:
            raise UsageError(
                f"{what} has no dial '{key}'",
                remedy=did_you_mean(key, dials) + " A dotted key reaches a single leaf.",
            )
    try:
        tree = make(subject, **chosen)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UsageError(
            str(error), where=what.replace("'", ""), remedy="Look at what --set changed."
        ) from error
    changed = tree
    for key, value in leaves.items():
        changed = override(changed, key, value, CATALOG)
    if isinstance(subject, Facts):
        check_fixed(tree, changed, leaves, subject)
    return changed
