"""The recommendation rule on made-up numbers, and points that come back from their file."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import RefusedError, UsageError
from sfumato.evaluation.protocol import Metric, Protocol
from sfumato.evaluation.steps import Point, many, reason, recommended, usable

CONDITIONS = Protocol("d41d8c", "held-out", 1000, 400, "classifier@ab12")


def point(calls, value, spread=0.1, solver="ddim", grid="karras", steps=None):
    metric = Metric("Frechet distance", value, spread, CONDITIONS)
    return Point(solver, grid, round(calls) if steps is None else steps, calls, 0.001 * calls, metric)


def test_the_cheapest_within_the_spread_of_the_best_wins():
    points = [point(5, 2.0), point(10, 1.05), point(20, 1.0), point(40, 1.02)]
    assert recommended(points).calls == 10
    assert "10 network calls reach Frechet distance 1.05" in reason(points)


def test_the_spread_that_counts_is_that_of_the_best():
    """A cheap point with a large spread of its own is not excused by it."""
    points = [point(5, 1.5, spread=5.0), point(20, 1.0, spread=0.01)]
    assert recommended(points).calls == 20
    assert recommended([point(5, 1.5, 0.01), point(20, 1.0, 0.6)]).calls == 5


def test_of_equally_many_calls_the_better_wins():
    points = [point(10, 1.04, solver="ddim"), point(10, 1.01, solver="unipc"), point(30, 1.0)]
    assert recommended(points).solver == "unipc"


def test_heun_pays_for_its_second_call():
    assert recommended([point(19, 1.0, solver="heun", steps=10), point(18, 1.05, steps=18)]).steps == 18


def test_broken_points_are_left_out():
    points = [point(2, float("nan")), point(3, float("inf")), point(10, 1.0)]
    assert recommended(points).calls == 10
    with pytest.raises(UsageError, match="finite"):
        recommended(points[:2])


def test_one_is_not_many():
    one, two = point(1, 1.0), point(2, 1.3)
    assert many(1, "step") == "1 step" and many(1.5, "call") == "1.5 calls" and many(0, "way") == "0 ways"
    assert reason([one, two]).startswith("1 network call reaches Frechet distance 1.00")
    assert "the best of 2 ways, 1 step of ddim on karras, 1.00" in reason([one, two])
    assert reason([two]) == "2 network calls reach Frechet distance 1.30 ± 0.10; no other way was measured"
    assert " 1 step " in one.line() and " 2 steps " in two.line()
    assert one.line().index("±") == two.line().index("±")


def test_more_points_never_make_the_choice_worse_than_the_spread_of_the_best():
    """What is far from the best known way is not chosen, whatever was measured together with it."""
    known, worse = [point(9, 1.0), point(20, 1.02)], [point(2, 4.0), point(3, 3.0)]
    assert recommended(worse).calls == 3 and recommended([*known, *worse]) == recommended(known)


def test_unlike_points_are_not_ranked():
    other = point(5, 0.5)
    other = replace(other, metric=replace(other.metric, protocol=replace(CONDITIONS, samples=50)))
    with pytest.raises(UsageError, match="50"):
        usable([point(10, 1.0), other])


values = st.floats(0.01, 100.0)


@given(st.lists(st.tuples(st.integers(1, 60), values, st.floats(0.0, 10.0)), min_size=1, max_size=12))
def test_nothing_cheaper_is_as_good(rows):
    points = [point(c, v, s) for c, v, s in rows]
    chosen = recommended(points)
    best = min(points, key=lambda p: p.metric.value)
    limit = best.metric.value + best.metric.spread
    assert chosen.metric.value <= limit
    assert not any(p.calls < chosen.calls and p.metric.value <= limit for p in points)


@given(st.integers(1, 1000), values, values)
def test_points_come_back(calls, value, spread):
    one = point(calls, value, spread)
    assert Point.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    "change", [{"steps": "4"}, {"calls": None}, {"solver": 3}, {"more": 1}, {"metric": {}}]
)
def test_points_that_are_none_are_refused(change):
    with pytest.raises(RefusedError):
        Point.from_json(point(4, 1.0).to_json() | change)
