"""Scalar functions agree with exact arithmetic, and floats agree with tensors."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core import shapes, stable

reals = st.floats(-700, 700)
positives = st.floats(1e-300, 700)
CASES = [
    (stable.exp, reals),
    (stable.expm1, reals),
    (stable.sigmoid, reals),
    (stable.log_sigmoid, reals),
    (stable.log, positives),
    (stable.sqrt, positives),
    (stable.log1mexp, positives),
]


@pytest.mark.parametrize(("function", "domain"), CASES, ids=lambda c: getattr(c, "__name__", ""))
def test_floats_and_tensors_agree(function, domain):
    @given(domain)
    def agree(x):
        tensor = function(torch.tensor([x, 1.0], dtype=torch.float64))[0].item()
        assert function(x) == pytest.approx(tensor, rel=1e-12, abs=1e-300)

    agree()


@given(st.floats(1e-12, 1e-3))
def test_log1mexp_near_zero_equals_its_series(x):
    """log(1 - e^-x) = log x - x/2 + x^2/24 + O(x^4)."""
    exact = Fraction(x)
    series = math.log(x) - float(exact / 2 - exact**2 / 24)
    assert stable.log1mexp(x) == pytest.approx(series, rel=1e-12)


@given(reals)
def test_sigmoid_and_its_mirror_sum_to_one(x):
    assert stable.sigmoid(x) + stable.sigmoid(-x) == pytest.approx(1.0, abs=1e-15)
    assert math.exp(stable.log_sigmoid(x)) == pytest.approx(stable.sigmoid(x), rel=1e-12, abs=1e-305)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_one_scalar_per_sample_scales_whole_samples(rank):
    x = torch.randn(4, *range(2, 2 + rank))
    w = torch.tensor([0.0, 1.0, 2.0, -1.0])
    expected = torch.stack([w[i] * x[i] for i in range(4)])
    assert torch.equal(shapes.per_sample(w, x) * x, expected)
    assert shapes.per_sample(2.5, x) == 2.5
    assert torch.allclose(shapes.event_sum(x), torch.stack([x[i].sum() for i in range(4)]))
    assert torch.allclose(shapes.event_mean(x), torch.stack([x[i].mean() for i in range(4)]))
