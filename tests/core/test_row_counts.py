"""Sums over events, scalars per sample, and how many examples are held at a time."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.shapes import event_mean, event_sum, per_sample, rows_at_once


def test_a_scalar_per_sample_multiplies_its_own_sample():
    x = torch.arange(24.0).reshape(2, 3, 4)
    scaled = per_sample(torch.tensor([2.0, -1.0], dtype=torch.float64), x) * x
    assert torch.equal(scaled[0], 2 * x[0]) and torch.equal(scaled[1], -x[1]) and scaled.dtype == x.dtype
    assert per_sample(3.0, x) == 3.0
    assert torch.equal(event_sum(x), torch.stack([v.sum() for v in x]))
    assert torch.equal(event_mean(x) * 12, event_sum(x))
    assert event_sum(x[0, 0]) is not None and torch.equal(event_sum(x[0, 0]), x[0, 0])


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4))
def test_the_memory_of_a_batch_is_bounded_whatever_the_size_of_an_image(shape):
    rows = rows_at_once(shape)
    assert 1 <= rows <= 256
    assert rows == 1 or rows * math.prod(shape) <= 2**22
    assert rows == 256 or (rows + 1) * math.prod(shape) > 2**22
