"""A constructor call, postponed: the configuration of everything.

    lazy(UNet)(width=64, depth=3)      binds the arguments at once (a typo fails here)
    build(tree)                        calls every postponed constructor, innermost first
    override(tree, "density.net.width", 96)   the same tree with one leaf changed
    dump(tree, names), load(json, catalog)    the tree as plain JSON and back

The signature is the only schema: legal keys are the parameters of the constructor. JSON names come
from one explicit catalog {name: constructor}; nothing is ever imported by path.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, Union, get_args, get_origin

from .errors import RefusedError, UsageError, did_you_mean

ANEW = "Restore the file from a copy, or train anew."
MORE = "Change the values of the part that stands there instead."
PLAIN = {int, float, bool, str, tuple, list, dict, type(None)}  # what JSON holds, apart from parts
P = ParamSpec("P")
T = TypeVar("T")


class Lazy(Generic[T]):
    """A postponed call make(**arguments); equal when both parts are equal."""

    __slots__ = ("arguments", "make")

    def __init__(self, make: Callable[..., T], arguments: dict[str, Any]) -> None:
        self.make, self.arguments = make, arguments

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lazy) and (self.make, self.arguments) == (other.make, other.arguments)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return f"lazy({self.make.__name__})({inside})"


def lazy(make: Callable[P, T]) -> Callable[P, T]:
    """Postpone a constructor. The result is typed as the thing itself, so checkers see the signature."""
    signature = inspect.signature(make)

    def bind(*args: P.args, **kwargs: P.kwargs) -> T:
        for key in kwargs:
            if key not in signature.parameters and not _takes_any(signature):
                raise TypeError(
                    f"{make.__name__} takes no '{key}'. {did_you_mean(key, signature.parameters)}"
                )
        return typing.cast(T, Lazy(make, dict(signature.bind(*args, **kwargs).arguments)))

    return bind


def _takes_any(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def build(tree: Any) -> Any:
    """Call every postponed constructor of a tree of Lazy, tuples, lists and dicts; leaves pass through."""
    if isinstance(tree, Lazy):
        return tree.make(**{k: build(v) for k, v in tree.arguments.items()})
    if isinstance(tree, (list, tuple)):
        return type(tree)(build(v) for v in tree)
    if isinstance(tree, dict):
        return {k: build(v) for k, v in tree.items()}
    return tree


# ---------------------------------------------------------------------------------------- JSON


def dump(tree: Any, names: Mapping[Callable[..., Any], str]) -> Any:
    """A tree as JSON values; a postponed call becomes {"make": name, ...its arguments}."""
    if isinstance(tree, Lazy):
        if tree.make not in names:
            raise UsageError(
                f"{tree.make.__name__} is not in the catalog", remedy="Add it to app/catalog.py."
            )
        return {"make": names[tree.make]} | {k: dump(v, names) for k, v in tree.arguments.items()}
    if isinstance(tree, (list, tuple)):
        return [dump(v, names) for v in tree]
    if isinstance(tree, dict):
        return {k: dump(v, names) for k, v in tree.items()}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise UsageError(
        f"a recipe holds numbers, words and postponed calls, not {type(tree).__name__}",
        remedy="Give a plain value, or postpone the call with lazy.",
    )


def load(value: Any, catalog: Mapping[str, Callable[..., Any]], path: str = "recipe") -> Any:
    """The tree of a JSON value. Unknown names and keys are refused with their place."""
    if isinstance(value, dict) and "make" in value:
        name = value["make"]
        if not isinstance(name, str) or name not in catalog:
            raise RefusedError(f"unknown part '{name}'", where=path, remedy=did_you_mean(str(name), catalog))
        arguments = {k: load(v, catalog, f"{path}.{k}") for k, v in value.items() if k != "make"}
        try:
            return lazy(catalog[name])(**arguments)
        except TypeError as error:
            raise RefusedError(str(error), where=path, remedy=ANEW) from None
    if isinstance(value, dict):
        return {k: load(v, catalog, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list):
        return tuple(load(v, catalog, f"{path}.{i}") for i, v in enumerate(value))
    return value


# ----------------------------------------------------------------------------------- overrides


def override(
    tree: Any, path: str, value: Any, catalog: Mapping[str, Callable[..., Any]] | None = None
) -> Any:
    """The tree with the leaf at a dotted path replaced; every mistake names the legal keys or the type.

    A word given where a postponed call stands names another part of the catalog (its defaults apply),
    which must be of the class that the parameter is annotated with.
    """
    return _override(tree, path.split("."), value, path, catalog or {})


def convert(make: Callable[..., Any], key: str, value: Any) -> Any:
    """A value as the parameter `key` of a callable takes it; UsageError where its type does not fit."""
    default = inspect.signature(make).parameters[key].default
    return _convert(value, default, _annotation(make, key), key, {})


def _override(tree: Any, keys: list[str], value: Any, path: str, catalog: Mapping[str, Any]) -> Any:
    if not keys:
        return _convert(value, tree, None, path, catalog)
    key, rest = keys[0], keys[1:]
    if isinstance(tree, Lazy):
        parameters = inspect.signature(tree.make).parameters
        if key not in parameters:
            raise UsageError(
                f"unknown key '{key}' in {tree.make.__name__}",
                where=path,
                remedy=did_you_mean(key, parameters),
            )
        old = tree.arguments.get(key, parameters[key].default)
        if rest:
            new = _override(old, rest, value, path, catalog)
        else:
            new = _convert(value, old, _annotation(tree.make, key), path, catalog)
        return Lazy(tree.make, {**tree.arguments, key: new})
    if isinstance(tree, (list, tuple)):
        at = _position(tree, key, path)
        return type(tree)(
            _override(v, rest, value, path, catalog) if i == at else v for i, v in enumerate(tree)
        )
    above = ".".join(path.split(".")[: -len(keys)])
    raise UsageError(f"nothing to set below '{above}'", where=path, remedy=f"Set {above} itself.")


def _position(items: list[Any] | tuple[Any, ...], key: str, path: str) -> int:
    """The place of a list entry, by number or by the 'name' argument of the entry."""
    names = [v.arguments.get("name") if isinstance(v, Lazy) else None for v in items]
    if key in names:
        return names.index(key)
    places = [str(i) for i in range(len(items))]
    if key in places:
        return places.index(key)
    known = [n for n in names if n] or places
    raise UsageError(f"no entry '{key}'", where=path, remedy=did_you_mean(key, known))


def _annotation(make: Callable[..., Any], key: str) -> Any:
    target = make.__init__ if inspect.isclass(make) else make  # type: ignore[misc]
    try:
        return typing.get_type_hints(target).get(key)
    except Exception:  # an annotation that cannot be resolved gives no type to check against
        return None


def _convert(value: Any, old: Any, hint: Any, path: str, catalog: Mapping[str, Any]) -> Any:
    kinds = _kinds(hint) if hint is not None else ({type(old)} if old is not None else set())
    classes = _classes(hint)
    parted = isinstance(old, Lazy) or bool(classes)
    if parted and isinstance(value, str) and value in catalog:
        return _part(value, hint, path, catalog)
    if not kinds or Any in kinds or isinstance(value, Lazy):
        return value
    if isinstance(value, bool) or value is None:
        fits = type(value) in kinds
    elif isinstance(value, int) and int not in kinds and float in kinds:
        return _real(value, path)
    elif isinstance(value, float) and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    elif isinstance(value, list) and tuple in kinds:
        return tuple(value)
    else:  # a word is a sequence of letters, and never meant as one
        fits = type(value) in kinds or (not isinstance(value, str) and isinstance(value, tuple(classes)))
    if not fits and parted and (known := _fitting(hint, catalog)):
        raise UsageError(
            f"'{value!s:.60}' is no known part", where=path, remedy=did_you_mean(str(value), known)
        )
    if not fits and (parted or kinds <= PLAIN):
        words = " or ".join(sorted("nothing" if k is type(None) else k.__name__ for k in kinds))
        raise UsageError(f"{path} takes {words}, not {value!r:.60}", where=path, remedy=_like(path, old))
    return value


def _like(path: str, old: Any) -> str:
    """What a place could be set to, by what stands there."""
    plain = isinstance(old, (bool, int, float, str)) and old != ""
    return f"For example: --set {path}={old}" if plain else "Leave it out to keep the default."


def _real(value: int, path: str) -> float:
    """A whole number as a float; UsageError for one beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        raise UsageError(
            "a number beyond all floats", where=path, remedy="Give one of at most 308 digits."
        ) from None


def _part(name: str, hint: Any, path: str, catalog: Mapping[str, Any]) -> Any:
    """The catalog's part by a name, postponed with its defaults; UsageError where it cannot stand there."""
    make = catalog[name]
    if not _fits(make, _classes(hint)):
        words = " or ".join(sorted(k.__name__ for k in _classes(hint)))
        remedy = did_you_mean(name, _fitting(hint, catalog))
        raise UsageError(f"{name} is no {words}", where=path, remedy=remedy)
    try:
        return lazy(make)()
    except TypeError as error:
        raise UsageError(f"{name} needs more than its name: {error}", where=path, remedy=MORE) from None


def _classes(hint: Any) -> set[type]:
    """The classes of parts that an annotation names: all that are no plain values."""
    return {k for k in _kinds(hint) if inspect.isclass(k) and k is not Any} - PLAIN


def _fits(make: Any, classes: set[type]) -> bool:
    """Whether a constructor, or a function by what it is annotated to return, makes one of the classes."""
    made = make if inspect.isclass(make) else _annotation(make, "return")
    return not classes or not inspect.isclass(made) or issubclass(made, tuple(classes))


def _fitting(hint: Any, catalog: Mapping[str, Any]) -> list[str]:
    """The names of the catalog's parts that an annotation admits; all of them where there is none."""
    return [name for name, make in catalog.items() if _fits(make, _classes(hint))]


def _kinds(hint: Any) -> set[Any]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return set().union(*(_kinds(h) for h in get_args(hint)))
    if origin is typing.Literal:
        return {type(a) for a in get_args(hint)}
    return {origin or hint}
