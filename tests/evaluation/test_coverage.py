"""Precision, recall, density and coverage against brute force and in the cases where the answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.evaluation import neighbours
from sfumato.evaluation.coverage import coverage
from sfumato.evaluation.neighbours import counts_within, nearest


def test_nearest_equals_sorting_all_distances(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 500)  # several blocks
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(70, 5)), rng.normal(size=(90, 5))
    all_distances = np.linalg.norm(q[:, None] - p[None], axis=2)
    distances, indices = nearest(q, p, 4)
    np.testing.assert_allclose(distances, np.sort(all_distances, axis=1)[:, :4], atol=1e-12)
    np.testing.assert_array_equal(indices, np.argsort(all_distances, axis=1)[:, :4])
    own, places = nearest(p, p, 2, itself=True)
    assert (places != np.arange(90)[:, None]).all()
    assert (own[:, 0] > 0).all()


def test_the_distance_of_a_copy_is_exactly_zero():
    """The expanded square cancels to 1e-7 here; the distances that are handed out must not."""
    x = np.random.default_rng(1).normal(size=(50, 300)) * 1e3
    assert (nearest(x[:9].copy(), x, 1)[0] == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_counts_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    q, p, radii = rng.normal(size=(30, 2)), rng.normal(size=(20, 2)), rng.uniform(0, 2, 20)
    expected = (np.linalg.norm(q[:, None] - p[None], axis=2) <= radii).sum(axis=1)
    np.testing.assert_array_equal(counts_within(q, p, radii), expected)


def test_the_same_set_is_covered_entirely():
    x = np.random.default_rng(2).normal(size=(200, 8))
    found = coverage(x, x)
    assert (found.precision.value, found.recall.value, found.coverage.value) == (1, 1, 1)


def test_a_far_set_is_not_covered_at_all():
    x = np.random.default_rng(3).normal(size=(200, 8))
    found = coverage(x + 100, x)
    assert [e.value for e in (found.precision, found.recall, found.density, found.coverage)] == [0, 0, 0, 0]


def test_fresh_draws_of_the_same_distribution():
    """In one dimension nearly everything is covered; density has expectation 1 in any dimension."""
    rng = np.random.default_rng(4)
    found = coverage(rng.normal(size=(2000, 1)), rng.normal(size=(2000, 1)))
    assert found.precision.value > 0.8 and found.recall.value > 0.8
    deep = coverage(rng.normal(size=(1500, 6)), rng.normal(size=(1500, 6)))
    assert deep.density.value == pytest.approx(1, abs=6 * deep.density.spread)
    assert deep.coverage.value == pytest.approx(1 - 0.5**5, abs=0.02)  # 1 - 2^-k for equal counts


def test_half_the_modes_halve_recall_and_not_precision():
    rng = np.random.default_rng(5)
    real = rng.normal(size=(600, 2)) * 0.1 + np.array([[0, 0], [10, 0]])[np.arange(600) % 2]
    one = rng.normal(size=(600, 2)) * 0.1
    found = coverage(one, real)
    assert found.precision.value > 0.9
    assert found.recall.value == pytest.approx(0.5, abs=0.05)
    assert found.coverage.value == pytest.approx(0.5, abs=0.05)


def test_one_outlier_inflates_precision_but_not_density():
    """The reason for density: balls of outliers are huge, and weigh one each."""
    rng = np.random.default_rng(6)
    real = np.concatenate([rng.normal(size=(300, 2)) * 0.1, [[50.0, 0.0]]])
    between = rng.normal(size=(300, 2)) * 0.1 + np.array([25.0, 0.0])
    found = coverage(between, real)
    assert found.precision.value == 1
    assert found.density.value < 0.3


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="more than 5"):
        coverage(np.zeros((5, 2)), np.zeros((50, 2)))
    with pytest.raises(ValueError, match="neighbours"):
        nearest(np.zeros((2, 2)), np.zeros((2, 2)), 2, itself=True)
