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


@given(st.floats(1e-6, 700))
def test_softplus_undoes_its_inverse(y):
    x = torch.tensor(stable.inverse_softplus(y), dtype=torch.float64)
    assert torch.nn.functional.softplus(x).item() == pytest.approx(y, rel=1e-9)


@given(st.floats(-20, 20), st.floats(1e-3, 10))
def test_a_soft_floor_is_never_passed_and_starts_where_it_is_told(floor, above):
    raw = torch.tensor(floor + stable.inverse_softplus(above), dtype=torch.float64)
    assert stable.soft_floor(raw, floor).item() == pytest.approx(floor + above, abs=1e-9)
    assert stable.soft_floor(torch.tensor(floor - 100.0, dtype=torch.float64), floor).item() >= floor


@given(st.lists(st.sampled_from([0.0, 1.0, 3.0]), min_size=2, max_size=6).filter(any), st.floats(0, 1))
def test_an_inverse_cdf_finds_the_first_sum_beyond_u_and_no_impossible_value(weights, u):
    """Up to u = 1 itself, where rounding may leave no sum beyond it: the last value of any probability."""
    p = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    rows = torch.stack([p, p.flip(0)])
    for dim, table in ((1, rows), (0, rows.T)):
        found = stable.inverse_cdf(table, torch.full((2,), u, dtype=torch.float64), dim)
        for k, row in zip(found.tolist(), rows, strict=True):
            assert row[k] > 0 and float(row.cumsum(0)[k] - row[k]) <= u + 1e-12
            assert float(row.cumsum(0)[k]) > u or not bool((row[k + 1 :] > 0).any())


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_one_scalar_per_sample_scales_whole_samples(rank):
    x = torch.randn(4, *range(2, 2 + rank))
    w = torch.tensor([0.0, 1.0, 2.0, -1.0])
    expected = torch.stack([w[i] * x[i] for i in range(4)])
    assert torch.equal(shapes.per_sample(w, x) * x, expected)
    assert shapes.per_sample(2.5, x) == 2.5
    kept = torch.where(shapes.per_sample_mask(w > 0, x), x, torch.zeros_like(x))
    assert torch.equal(kept, torch.stack([x[i] * float(w[i] > 0) for i in range(4)]))
    assert torch.allclose(shapes.event_sum(x), torch.stack([x[i].sum() for i in range(4)]))
    assert torch.allclose(shapes.event_mean(x), torch.stack([x[i].mean() for i in range(4)]))
