"""Settings that the data decide, which --set must not contradict.

    channels, space, shape                       of an image, or of its codes: what a network sees and answers
    classes                                      of the labels that the model is told
    concat_channels, vector_dim, token_dim       of what a network is told beside an image
    out_channels                                 of what is read of its answer
    levels, channels of a likelihood             the grey levels that get a probability
    a learned reverse variance                   only where the recipe's network answers with one

A recipe reads all of them from the facts of the data, and no single leaf can be another without the rest:
with another value training dies in the middle of a network, or goes on and learns nothing of use. So a
changed leaf is held against the one that the recipe had there, and a likelihood that was named against the
data.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ..core.errors import UsageError
from ..core.lazy import Lazy
from ..data.facts import Facts
from ..diffusion.transition import InterpolatedVariance
from ..models.likelihood import Likelihood

SHAPES = ("channels", "space", "shape")
FIXED = (*SHAPES, "classes", "concat_channels", "out_channels", "vector_dim", "token_dim")


def check_fixed(before: Any, after: Any, settings: Mapping[str, Any], facts: Facts) -> None:
    """UsageError where a dotted setting changed in a recipe's tree what follows from the data.

    before, after: the postponed recipe without and with the settings. The same value again is allowed.
    """
    for key, value in settings.items():
        *owner, name = key.split(".")
        old, new = _part(before, owner), _part(after, owner)
        if name not in FIXED or old is None or new is None or old.make is not new.make:
            continue
        right, given = _argument(old, name), _argument(new, name)
        if _plain(right) != _plain(given):
            raise _contradiction(key, value, right, facts)
    _check_variance(before, after)
    known = dict(_places(before, Likelihood))
    for path, part in _places(after, Likelihood):
        if known.get(path) != part:
            _check_likelihood(path, part, facts)


def _contradiction(key: str, value: object, right: object, facts: Facts) -> UsageError:
    """The refusal, by what the name stands for."""
    name = key.rpartition(".")[2]
    if name == "classes":
        count = len(facts.classes)
        holds = f"the data have {count} classes" if count else "the data have no classes"
        remedy = "Leave it out."
        if count and not right:
            holds += ", which this recipe does not give to the model"
            remedy = "Leave it out; to give them to the model: --set conditional=true."
    elif _plain(right) not in [_plain(v) for v in (facts.channels, facts.space, facts.shape)]:
        told = f"{key}={_plain(value)} contradicts the rest of the recipe, from which {_plain(right)} follows"
        return UsageError(told, where=key, remedy="Leave it out, and turn the dials: sfumato recipes.")
    else:
        holds = f"the data are {facts.words}, and the recipe has {_plain(right)} here"
        remedy = "Leave it out: it follows from the data."
        if name in SHAPES:
            remedy += " Other images: --size, --fit, --channels, --alpha."
    return UsageError(f"{key}={_plain(value)} contradicts the data: {holds}", where=key, remedy=remedy)


def _check_likelihood(path: str, part: Lazy[Any], facts: Facts) -> None:
    """UsageError where a likelihood is of other grey levels or channels than the data."""
    wanted = {"levels": facts.levels, "channels": facts.channels}
    for name in wanted.keys() & inspect.signature(part.make).parameters.keys():
        given, right = _argument(part, name), wanted[name]
        if given == right:
            continue
        told = f"{path}: {part.make.__name__} of {given:,} {'grey levels' if name == 'levels' else name}"
        if right is None:
            raise UsageError(
                f"{told} contradicts the data: they are floats, without grey levels",
                where=path,
                remedy=f"--set {path}=GaussianLikelihood",
            )
        raise UsageError(
            f"{told} contradicts the data: they have {right:,}",
            where=path,
            remedy=f"--set {path}.{name}={right}",
        )


def _check_variance(before: Any, after: Any) -> None:
    """UsageError for a reverse variance read of the network where the recipe has none that gives it."""
    asked = dict(_places(after, InterpolatedVariance))
    if asked and not dict(_places(before, InterpolatedVariance)):
        raise UsageError(
            "the network of this recipe answers without a reverse variance",
            where=next(iter(asked)),
            remedy="Take SmallVariance or LargeVariance, or train improved-ddpm, which learns it.",
        )


def _part(tree: Any, keys: list[str]) -> Lazy[Any] | None:
    """The postponed call at a path; None where there is none."""
    for key in keys:
        if isinstance(tree, Lazy):
            tree = _argument(tree, key)
        elif isinstance(tree, (list, tuple)):
            named = [v for v in tree if isinstance(v, Lazy) and v.arguments.get("name") == key]
            tree = named[0] if named else tree[int(key)] if key.isdecimal() and int(key) < len(tree) else None
        else:
            return None
    return tree if isinstance(tree, Lazy) else None


def _places(tree: Any, kind: type, path: str = "") -> Iterator[tuple[str, Lazy[Any]]]:
    """Every part of a class in a postponed recipe, with its path."""
    if isinstance(tree, Lazy):
        if inspect.isclass(tree.make) and issubclass(tree.make, kind):
            yield path, tree
        for key, value in tree.arguments.items():
            yield from _places(value, kind, f"{path}.{key}" if path else key)
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from _places(value, kind, f"{path}.{i}")


def _argument(part: Lazy[Any], name: str) -> Any:
    """An argument as given, else its default."""
    parameter = inspect.signature(part.make).parameters.get(name)
    return part.arguments.get(name, None if parameter is None else parameter.default)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value
