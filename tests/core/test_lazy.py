"""Postponed calls: building equals calling, JSON round-trips, and every slip is answered by name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import RefusedError, SfumatoError, UsageError
from sfumato.core.lazy import Lazy, build, dump, lazy, load, override


@dataclass(frozen=True)
class Wheel:
    radius: float = 1.0
    spokes: int = 8
    tubeless: bool = False


@dataclass(frozen=True)
class Bike:
    front: Wheel
    name: str = "bike"
    gears: tuple[int, ...] = (1, 2)
    light: float | None = None


@dataclass(frozen=True)
class Fleet:
    bikes: tuple[Bike, ...]


@dataclass(frozen=True)
class Rack:
    holds: Wheel | Sequence[float]


class Lock:
    """What a Shed is locked with."""


class Chain(Lock):
    pass


class Padlock(Lock):
    pass


@dataclass(frozen=True)
class Shed:
    lock: Lock | None = None
    named: str = ""


def heavy_chain(links: int = 9) -> Chain:
    return Chain()


CATALOG = {"Wheel": Wheel, "Bike": Bike, "Fleet": Fleet}
SHOP = CATALOG | {"Chain": Chain, "Padlock": Padlock, "heavy_chain": heavy_chain, "Shed": Shed}
NAMES = {v: k for k, v in CATALOG.items()}
wheels = st.builds(
    lambda r, s, t: lazy(Wheel)(radius=r, spokes=s, tubeless=t),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.booleans(),
)
bikes = st.builds(
    lambda w, n, g: lazy(Bike)(w, name=n, gears=tuple(g)), wheels, st.text(), st.lists(st.integers())
)
fleets = st.lists(bikes, max_size=3).map(lambda b: lazy(Fleet)(tuple(b)))


def fleet():
    return lazy(Fleet)((lazy(Bike)(lazy(Wheel)(), name="a"), lazy(Bike)(lazy(Wheel)(2.0), name="b")))


def test_build_is_the_call_itself():
    assert build(fleet()) == Fleet((Bike(Wheel(), "a"), Bike(Wheel(2.0), "b")))


@given(fleets)
def test_json_round_trip(tree):
    again = load(json.loads(json.dumps(dump(tree, NAMES))), CATALOG)
    assert again == tree
    assert build(again) == build(tree)


def test_a_typo_fails_where_it_is_written():
    with pytest.raises(TypeError, match="Did you mean 'spokes'"):
        lazy(Wheel)(spoks=3)


@given(st.floats(allow_nan=False), st.integers(0, 1))
def test_override_changes_one_leaf_and_nothing_else(value, which):
    tree = fleet()
    changed = build(override(tree, f"bikes.{'ab'[which]}.front.radius", value, CATALOG))
    expected = list(build(tree).bikes)
    expected[which] = Bike(Wheel(value, expected[which].front.spokes), expected[which].name)
    assert changed == Fleet(tuple(expected))
    assert tree == fleet()


def test_override_reaches_defaults_lists_by_number_and_parts_by_name():
    assert build(override(fleet(), "bikes.0.light", 2.5)).bikes[0].light == 2.5
    assert build(override(fleet(), "bikes.1.gears", [7])).bikes[1].gears == (7,)
    assert build(override(fleet(), "bikes.1.front", "Wheel", CATALOG)).bikes[1].front == Wheel()
    assert build(override(fleet(), "bikes.1.front.radius", 3)).bikes[1].front.radius == 3.0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("bikes.a.front.raduis", 1.0, "Did you mean 'radius'"),
        ("bikes.c.front.radius", 1.0, "no entry 'c'"),
        ("bikes.\u00b2.front.radius", 1.0, "no entry"),
        (f"bikes.{'1' * 5000}.front.radius", 1.0, "no entry"),
        ("bikes.a.front.radius", 10**400, "beyond all floats"),
        ("bikes.a.front.spokes", 1.5, "takes int"),
        ("bikes.a.front.spokes", "many", "takes int"),
        ("bikes.a.front.tubeless", 1, "takes bool"),
        ("bikes.a.front", "Whel", "Did you mean 'Wheel'"),
        ("bikes.a.front", "motor", r"Known: Wheel\.$"),
        ("bikes.a.front", [1.0], "no known part"),
        ("bikes.a.name.x", 1, "nothing to set"),
    ],
)
def test_every_slip_names_the_legal_keys_or_types(path, value, words):
    with pytest.raises(UsageError, match=words):
        override(fleet(), path, value, CATALOG)


def test_a_value_may_take_a_parts_place_where_the_annotation_admits_it():
    rack = lazy(Rack)(lazy(Wheel)())
    assert build(override(rack, "holds", [1.0, 2.0], CATALOG)).holds == [1.0, 2.0]


@pytest.mark.parametrize("stands", [{}, {"lock": None}, {"lock": lazy(Padlock)()}])
def test_a_word_names_a_part_whatever_stands_in_its_place(stands):
    """The annotation decides what a word may mean, not the default."""
    shed = lazy(Shed)(**stands)
    assert type(build(override(shed, "lock", "Chain", SHOP)).lock) is Chain
    assert override(shed, "lock", "heavy_chain", SHOP) == lazy(Shed)(lock=lazy(heavy_chain)())
    assert build(override(shed, "lock", None, SHOP)).lock is None
    for value, words in (
        ("Padlok", "no known part .lock.[\\s\\S]*Did you mean 'Padlock'"),
        ("x", r"Known: Chain, Padlock, heavy_chain\.$"),
        ("Wheel", r"Wheel is no Lock .lock.[\s\S]*Known: Chain, Padlock, heavy_chain\.$"),
        (3, "'3' is no known part"),
        ([], "no known part"),
        (False, "no known part"),
    ):
        with pytest.raises(UsageError, match=words):
            override(shed, "lock", value, SHOP)


def test_where_no_part_fits_the_types_are_named():
    with pytest.raises(UsageError, match="lock takes Lock or nothing, not 'Chain'"):
        override(lazy(Shed)(), "lock", "Chain", {})
    with pytest.raises(UsageError, match="holds takes Sequence or Wheel, not 'abc'"):
        override(lazy(Rack)([1.0]), "holds", "abc", {})


def test_a_parts_name_is_a_word_like_any_other_where_words_are_taken():
    assert build(override(lazy(Shed)(), "named", "Chain", SHOP)).named == "Chain"


def test_nothing_takes_the_place_of_a_part_only_where_the_annotation_says_so():
    with pytest.raises(UsageError, match="no known part"):
        override(fleet(), "bikes.a.front", None, CATALOG)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(st.sampled_from(["make", "front", "radius", "x"]), v, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_json_loads_or_is_refused_with_our_error(value):
    try:
        load(value, CATALOG)
    except SfumatoError as error:
        assert isinstance(error, RefusedError)
        assert "recipe" in str(error)


def test_only_catalogued_calls_are_written():
    with pytest.raises(UsageError, match="not in the catalog"):
        dump(Lazy(dict, {}), NAMES)
