"""A number keeps its protocol through JSON and print, and unlike numbers are never ranked."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import RefusedError, UsageError
from sfumato.evaluation.protocol import (
    DECIDING,
    Metric,
    Protocol,
    apart,
    comparable,
    decimals_of,
    ordered,
    ranked,
    show,
)

WORDS = st.text(max_size=12)
COUNTS = st.integers(0, 10**6)
NUMBERS = st.floats(allow_nan=False)
PROTOCOLS = st.builds(
    Protocol,
    data=WORDS,
    split=st.sampled_from(["train", "held-out"]),
    samples=COUNTS,
    reference=COUNTS,
    features=WORDS,
    resize=WORDS,
    seed=WORDS,
    plan=WORDS,
    precision=WORDS,
    hardware=WORDS,
    commit=WORDS,
)
METRICS = st.builds(
    Metric,
    name=st.sampled_from(["Frechet distance", "kernel distance"]),
    value=NUMBERS,
    spread=st.floats(min_value=0, allow_nan=False),
    protocol=PROTOCOLS,
    lower=st.sampled_from([True, False]),
    floor=st.none() | NUMBERS,
    debiased=st.none() | NUMBERS,
    note=WORDS,
    parts=st.lists(NUMBERS, max_size=3).map(tuple),
)


def metric(value=12.34, spread=0.4, **changes):
    conditions = Protocol("d41d8c", "train", 10_000, 4_213, "classifier@ab12")
    return Metric("Frechet", value, spread, replace(conditions, **changes))


def test_the_one_line_form():
    assert metric().line() == (
        "Frechet 12.34 ± 0.40 | n=10,000 vs 4,213 train | features classifier@ab12 | float64 | seed 0"
    )
    full = replace(metric(plan="2M, 20 steps", resize="299x299"), floor=3.1, floor_spread=0.2, unit="units")
    assert full.line().startswith("Frechet 12.34 ± 0.40 units (real 3.10) | ")
    assert "| resize 299x299 | 2M, 20 steps |" in full.line()


@given(METRICS)
def test_json_round_trip(m):
    assert Metric.from_json(json.loads(json.dumps(m.to_json(), allow_nan=False))) == m


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "twelve"}, "value"),
        ({"value": True}, "value"),
        ({"name": 3}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"protocol": None}, "protocol"),
        ({"protocol": {"data": "x"}}, "split"),
        ({"lower": 1}, "lower"),
        ({"parts": [1.0, "two"]}, "parts"),
        ({"parts": 3.0}, "parts"),
    ],
)
def test_anything_else_is_refused_by_name(change, said):
    with pytest.raises(RefusedError, match=said):
        Metric.from_json(metric().to_json() | change)


@given(
    st.recursive(
        st.none() | st.booleans() | NUMBERS | WORDS, lambda x: st.lists(x) | st.dictionaries(WORDS, x)
    )
)
def test_no_json_value_breaks_the_reader(value):
    with pytest.raises(RefusedError):
        Metric.from_json(value)


@given(METRICS, METRICS)
def test_comparable_is_symmetric_and_decided_by_the_deciding_fields(a, b):
    same = a.name == b.name and all(getattr(a.protocol, f) == getattr(b.protocol, f) for f in DECIDING)
    assert (comparable(a, b) is None) == same == (comparable(b, a) is None)
    assert comparable(a, a) is None


@given(METRICS, st.sampled_from(DECIDING))
def test_a_refusal_names_the_field_that_differs(m, field):
    old = getattr(m.protocol, field)
    new = old + 1 if isinstance(old, int) else old + "x"
    other = replace(m, protocol=replace(m.protocol, **{field: new}))
    assert f"({field}: " in comparable(m, other)
    with pytest.raises(UsageError, match="cannot be ranked"):
        ranked([m, other])


@given(METRICS, WORDS, WORDS)
def test_seed_plan_and_machine_do_not_forbid_a_comparison(m, seed, plan):
    assert comparable(m, replace(m, protocol=replace(m.protocol, seed=seed, plan=plan, commit="c"))) is None


def test_rank_goes_the_right_way():
    values = [3.0, 1.0, 2.0]
    down = [metric(v) for v in values]
    assert [m.value for m in ranked(down)] == [1, 2, 3]
    assert [m.value for m in ranked([replace(m, lower=False) for m in down])] == [3, 2, 1]
    with pytest.raises(UsageError, match="no better or worse"):
        ranked([replace(m, lower=None) for m in down])


def test_apart_needs_two_joint_errors():
    assert apart(metric(1, 0.3), metric(2, 0.3))
    assert not apart(metric(1, 0.5), metric(2, 0.5))


def test_small_sets_put_the_kernel_distance_first_and_say_why():
    few = Protocol("d", "held-out", 500, 5000, "f@1")
    pair = [Metric("Frechet distance", 1, 0.1, few), Metric("kernel distance", 1, 0.1, few)]
    names = [m.name for m in ordered(pair)]
    assert names == ["kernel distance", "Frechet distance"]
    assert "500 images" in ordered(pair)[0].note
    many = [replace(m, protocol=replace(few, samples=3000)) for m in pair]
    assert ordered(many) == many


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e4))
def test_shown_digits_are_those_the_spread_allows(value, spread):
    text = show(value, decimals_of(value, spread))
    assert abs(float(text.replace(",", "")) - value) <= max(spread / 10, abs(value) * 1e-3)
    assert not text.startswith("-0") or float(text.replace(",", "")) != 0


def test_edges_of_showing():
    assert [show(v, 2) for v in (math.inf, 1234567.0, -0.001)] == ["inf", "1,234,567.00", "0.00"]
    assert decimals_of(0.0, 0.0) == 0
    assert metric(0.0123, 0.0).headline().startswith("Frechet 0.01230 ± 0")


def test_times_floor_only_where_the_floor_is_more_than_chance():
    assert replace(metric(6.0), floor=3.0, floor_spread=0.1).times_floor == 2.0
    assert replace(metric(6.0), floor=0.1, floor_spread=0.1).times_floor is None
    assert replace(metric(6.0), floor=3.0, lower=False).times_floor is None
    assert metric(6.0).times_floor is None
