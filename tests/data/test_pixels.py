"""Laws of the map between stored values and model values."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sfumato.core.errors import RefusedError
from sfumato.data.builtin import digits, swiss_roll
from sfumato.data.facts import Facts
from sfumato.data.loader import Dataset
from sfumato.data.pixels import from_model, to_model, viewable

shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))


@given(stored=hnp.arrays(np.uint8, shapes), multiple=st.integers(1, 8))
def test_eight_bits_survive_the_round_trip_padded_or_not(stored, multiple):
    facts = Facts(stored.shape[1], stored.shape[2:]).padded_to(multiple)
    x = to_model(stored, facts)
    assert x.shape[1:] == facts.shape and all(n % multiple == 0 for n in facts.space)
    assert np.array_equal(from_model(x, facts), stored)


@given(stored=hnp.arrays(np.uint16, shapes), low=st.integers(0, 65534), span=st.integers(1, 65535))
def test_sixteen_bits_survive_the_round_trip_for_any_range(stored, low, span):
    high = min(65535, low + span)
    stored = np.clip(stored, low, high)
    facts = Facts(stored.shape[1], stored.shape[2:], kind="uint16", low=low, high=high)
    back = from_model(to_model(stored, facts), facts)
    assert back.dtype == np.uint16 and np.array_equal(back, stored)


@given(
    stored=hnp.arrays(np.float32, shapes, elements=st.floats(-1e3, 1e3, width=32)), high=st.floats(-999, 1e3)
)
def test_floats_survive_the_round_trip_within_rounding(stored, high):
    facts = Facts(stored.shape[1], stored.shape[2:], kind="float32", low=-1e3, high=high)
    back = from_model(to_model(stored, facts), facts)
    size = np.maximum(np.abs(stored), max(abs(facts.middle), facts.half))
    assert (np.abs(back - stored) <= 4e-7 * size * np.maximum(1, np.abs(stored) / facts.half)).all()


def test_the_ends_of_the_range_are_exactly_minus_and_plus_one():
    for low, high, kind in (
        (0, 255, "uint8"),
        (0, 240, "uint8"),
        (112, 40211, "uint16"),
        (-0.5, 7.25, "float32"),
    ):
        facts = Facts(1, (2,), kind=kind, low=low, high=high)
        assert to_model(np.array([[[low, high]]], dtype=kind), facts).tolist() == [[[-1.0, 1.0]]]


def test_digits_keep_their_17_levels_and_look_right():
    data = digits()
    assert data.facts.levels == 17 and data.facts.bin == 2 / 16
    x = data.batch(range(len(data))).x
    assert np.array_equal(from_model(x, data.facts), data.stored)
    steps = (x + 1) * 8
    assert torch.allclose(steps, steps.round(), atol=1e-6)  # model values lie on the lattice of 17 levels
    noisy = from_model(
        x + 0.06 * torch.sign(torch.randn(x.shape, generator=torch.manual_seed(0))), data.facts
    )
    assert np.array_equal(noisy, data.stored)  # anything closer than half a bin rounds back
    assert viewable(data.stored, data.facts).max() == 240  # bright ink, not sixteen shades of black


def test_levels_count_the_true_steps_of_the_source():
    twelve_bit = np.arange(0, 4096, dtype=np.uint16).reshape(1, 64, 64) * 16
    assert Dataset.of(twelve_bit).facts.levels == 4096
    assert Dataset.of(twelve_bit.astype(np.float32)).facts.levels is None
    assert Dataset.of((twelve_bit // 16 % 256).astype(np.uint8)).facts.levels == 256


def test_samples_outside_the_range_are_clipped_and_broken_ones_are_low():
    facts = Facts(1, (4,), kind="uint16", low=100, high=300)
    x = torch.tensor([[[-3.0, 3.0, float("nan"), float("inf")]]])
    assert from_model(x, facts).tolist() == [[[100, 300, 100, 300]]]


def test_padding_repeats_the_edge():
    facts = Facts(1, (1, 3), kind="uint8").padded_to(4)
    x = from_model(to_model(np.array([[[[7, 8, 9]]]], np.uint8), facts), replace(facts, pad=()))
    assert x[0, 0].tolist() == [[7, 8, 9, 9]] * 4


def test_facts_round_trip_through_json_and_refuse_damage():
    facts = replace(digits().facts.padded_to(3), factors=("a",), alpha=True)
    text = json.dumps(facts.to_json())
    assert Facts.from_json(json.loads(text)) == facts
    for damage, word in (({"colour": 1}, "colour"), ({"kind": "int3"}, "int3"), ({"low": 300}, "range")):
        with pytest.raises(RefusedError, match=word):
            Facts.from_json(json.loads(text) | damage)
    with pytest.raises(RefusedError, match="missing entry 'channels'"):
        Facts.from_json({"space": [2]})


def test_statistics_are_those_of_the_model_values():
    data = swiss_roll()
    x = data.batch(range(len(data))).x.double()
    assert torch.allclose(x.mean(0), torch.tensor(data.facts.mean, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(
        x.std(0, correction=0), torch.tensor(data.facts.std, dtype=torch.float64), atol=1e-6
    )


def test_the_swiss_roll_lies_on_its_spiral():
    data = swiss_roll()
    points = from_model(data.batch(range(len(data))).x, data.facts)
    radius, t = np.hypot(*points.T), data.factor_values[:, 0]
    assert abs(np.std(radius - t) - 0.3) < 0.01  # the noise across the roll is what was asked for
