"""Copies are found, new draws are not accused, and the scores agree with their definitions."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.evaluation.memorisation import AROUND, chance_of, memorisation, rank_sum, ratios
from sfumato.evaluation.neighbours import nearest


def scene(seed, n=800, d=10):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n // 2, d)), rng.normal(size=(n // 2, d))


def test_fresh_draws_are_at_the_baseline():
    """Over repeated draws the rate is the baseline within its error, and nobody is accused."""
    found = [memorisation(new, train, held) for train, held, new in map(scene, range(25))]
    gaps = np.array([f.rate.value - f.baseline.value for f in found])
    assert abs(gaps.mean()) < 3.5 * gaps.std() / 5
    assert sum(f.copying for f in found) == 0
    assert 0.25 < np.mean([f.chance for f in found]) < 0.75


def test_the_chance_is_exact():
    """Against counting all orders, and against its meaning: p-values of innocents are uniform or larger."""
    n, h = 4, 3
    for j in range(n + 1):
        for k in range(1, h + 1):
            orders = list(itertools.combinations(range(n + h), h))  # places of the held-out values
            met = [sum(p < places[k - 1] for p in set(range(n + h)) - set(places)) >= j for places in orders]
            assert chance_of(j, k, n, h) == pytest.approx(np.mean(met), abs=1e-12)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        mine, theirs = rng.normal(size=50), rng.normal(size=40)
        found.append(chance_of(int((mine <= np.sort(theirs)[1]).sum()), 2, 50, 40))
    for level in (0.01, 0.1, 0.5):
        assert np.mean(np.array(found) <= level) <= level + 3 * np.sqrt(level / 2000)


def test_held_out_images_as_samples_are_exactly_the_baseline():
    train, held, _ = scene(1)
    found = memorisation(held, train, held)
    assert found.rate.value == found.baseline.value
    assert found.baseline.value == pytest.approx(0.05, abs=1 / 400)
    assert found.score == pytest.approx(0, abs=1e-9)
    assert not found.copying


def test_neighbours_of_held_out_images_that_are_known_change_nothing():
    train, held, new = scene(4, n=200)
    known = nearest(held, train, AROUND)[0]
    found, again = (memorisation(new, train, held, nearest_held=near) for near in (None, known))
    assert (found.rate, found.baseline, found.score) == (again.rate, again.baseline, again.score)
    assert (found.threshold, found.chance) == (again.threshold, again.chance)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_copies_are_found_with_and_without_noise(noise):
    train, held, rest = scene(2)
    copies = train[:400] + noise * rest
    found = memorisation(copies, train, held)
    assert found.rate.value > 0.97
    assert found.copying and found.score < -10
    assert "memorising" in found.words()
    assert [j for _, j in found.pairs(20)] == [i for i, _ in found.pairs(20)]  # each beside its original


def test_a_tenth_of_copies_is_found():
    train, held, new = scene(3)
    found = memorisation(np.concatenate([new[:360], train[:40]]), train, held)
    assert found.rate.value == pytest.approx(0.1 + 0.9 * 0.05, abs=0.04)
    assert found.copying
    assert {i for i, _ in found.pairs(40)} == set(range(360, 400))


def test_a_simple_kind_of_image_is_not_called_a_copy():
    """A model that draws only the tight cluster is near to training images everywhere, yet copies none."""
    rng = np.random.default_rng(4)
    tight = lambda n: rng.normal(size=(n, 6)) * 0.05  # noqa: E731
    wide = lambda n: rng.normal(size=(n, 6)) + 5  # noqa: E731
    train, held = (np.concatenate([tight(n), wide(n)]) for n in (500, 200))
    found = memorisation(tight(400), train, held)
    assert found.score < -5  # by plain distance they are closer than held-out images are,
    assert not found.copying  # but no closer to one training image than to its neighbours


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=2, max_size=30), st.lists(st.integers(0, 8), min_size=2, max_size=30)
)
def test_rank_sum_equals_scipy(a, b):
    x, y = np.array(a, float), np.array(b, float)
    if len(set(a + b)) == 1:
        assert rank_sum(x, y) == 0
        return
    p = scipy.stats.mannwhitneyu(x, y, use_continuity=False, method="asymptotic").pvalue
    assert 2 * scipy.stats.norm.sf(abs(rank_sum(x, y))) == pytest.approx(p, abs=1e-9)


def test_ratios_and_their_edge():
    np.testing.assert_allclose(ratios(np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])), [1 / 3, 0])
