"""What must not change a judgement: rotation, scale, order, batches, copies of the training set."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.evaluation.coverage import coverage
from sfumato.evaluation.features import Pixels, extract
from sfumato.evaluation.kernel import kernel_distance
from sfumato.evaluation.memorisation import memorisation
from sfumato.evaluation.spread import combine, fitting_groups, groups_of, jackknife
from sfumato.evaluation.statistics import ImageStatistics

SEEDS = st.integers(0, 10**6)


def turned(rng, *sets):
    """The sets under one random rotation of their space."""
    q = np.linalg.qr(rng.normal(size=(sets[0].shape[1],) * 2))[0]
    return [rows @ q for rows in sets]


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.1, 100))
def test_coverage_does_not_see_rotation_scale_or_order(seed, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(50, 5)) + 0.3
    plain = coverage(x, y)
    u, v = turned(rng, scale * x[::-1], scale * y[::-1])
    again = coverage(u, v)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(again, name).value == pytest.approx(getattr(plain, name).value, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_precision_of_one_against_the_other_is_recall_the_other_way_round(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 4)), 1.5 * rng.normal(size=(40, 4))
    assert coverage(x, y).precision.value == coverage(y, x).recall.value


def test_wide_samples_lose_precision_and_narrow_ones_recall():
    rng = np.random.default_rng(0)
    real, narrow, wide = (s * rng.normal(size=(500, 3)) for s in (1.0, 0.4, 3.0))
    fine, spread = coverage(narrow, real), coverage(wide, real)
    assert fine.precision.value > 0.95 > 0.7 > fine.recall.value
    assert spread.recall.value > 0.9 > 0.5 > spread.precision.value


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_kernel_distance_does_not_see_rotation_and_is_symmetric(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(24, 4)) + 0.2
    value = kernel_distance(x, y).value
    assert kernel_distance(*turned(rng, x, y)).value == pytest.approx(value, abs=1e-10)
    assert kernel_distance(y, x).value == pytest.approx(value, abs=1e-10)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.01, 100))
def test_memorisation_does_not_see_rotation_scale_shift_or_order(seed, scale):
    rng = np.random.default_rng(seed)
    x, train, held = (rng.normal(size=(n, 6)) for n in (40, 120, 60))
    plain = memorisation(x, train, held)
    u, v, w = (scale * rows + 3.0 for rows in turned(rng, x, train[::-1], held))
    again = memorisation(u, v, w)
    assert again.rate.value == plain.rate.value and again.chance == plain.chance
    np.testing.assert_allclose(again.ratios, plain.ratios, rtol=1e-6)
    np.testing.assert_array_equal(119 - again.neighbours[:, 0], plain.neighbours[:, 0])


def test_copies_are_found_even_where_the_training_set_holds_duplicates():
    """Twins in the training set have a second neighbour as near as the first; the rest around them tells."""
    rng = np.random.default_rng(1)
    base, held = rng.normal(size=(300, 8)), rng.normal(size=(200, 8))
    train = np.concatenate([base, base[:100] + 1e-3])
    found = memorisation(base[:100] + 1e-2 * rng.normal(size=(100, 8)), train, held)
    assert found.rate.value > 0.95 and found.copying


X = torch.rand(6, 2, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
FEATURES = ImageStatistics(2, (12, 16))


def parts(x, *kinds):
    """The components whose names begin with one of these words."""
    chosen = [i for i, name in enumerate(FEATURES.names) if name.startswith(kinds)]
    assert chosen
    return FEATURES(x)[:, chosen]


def test_brightness_moves_levels_and_means_but_no_texture():
    kinds = ("log power", "correlation", "edges", "mean roughness", "roughness", "contrast")
    torch.testing.assert_close(parts(X + 0.1, *kinds), parts(X, *kinds))
    torch.testing.assert_close(parts(X + 0.1, "mean of"), parts(X, "mean of") + 0.1)


def test_contrast_scales_what_has_units_and_leaves_correlations():
    torch.testing.assert_close(parts(0.5 * X, "correlation"), parts(X, "correlation"))
    torch.testing.assert_close(parts(0.5 * X, "edges", "contrast"), 0.5 * parts(X, "edges", "contrast"))
    drop = parts(X, "log power") - parts(0.5 * X, "log power")
    torch.testing.assert_close(drop, torch.full_like(drop, np.log10(4)), atol=1e-3, rtol=0)


def test_a_circular_shift_moves_the_layout_and_not_levels_or_spectrum():
    shifted = X.roll((3, 5), (2, 3))
    torch.testing.assert_close(parts(shifted, "share", "log power"), parts(X, "share", "log power"))
    assert not torch.allclose(parts(shifted, "brightness"), parts(X, "brightness"))


def test_a_mirror_image_has_the_same_texture():
    kinds = ("share", "mean", "contrast", "log power", "correlation", "edges", "roughness")
    torch.testing.assert_close(parts(X.flip(3), *kinds), parts(X, *kinds))


def test_transposing_swaps_the_axes():
    other = ImageStatistics(2, (16, 12))
    found = dict(zip(other.names, other(X.transpose(2, 3)).T, strict=True))
    for i, name in enumerate(FEATURES.names):
        if "along axis 0" in name:
            torch.testing.assert_close(found[name.replace("axis 0", "axis 1")], FEATURES(X)[:, i])


def test_power_adds_up_to_the_variance():
    """Parseval: shells weighted by their sizes hold the variance of the signal."""
    x = torch.randn(4, 1, 64, dtype=torch.float64)
    features = ImageStatistics(1, (64,))
    found = dict(zip(features.names, features(x).T, strict=True))
    power = torch.stack([10**v - 1e-8 for k, v in found.items() if k.startswith("log power")])
    sizes = torch.tensor([8, 8, 8, 8, 8, 8, 8, 7.0], dtype=torch.float64)  # both signs; one Nyquist frequency
    torch.testing.assert_close((power * sizes[:, None]).sum(0), x.flatten(1).var(1, correction=0))


def test_features_do_not_depend_on_the_batch():
    for features in (FEATURES, Pixels((2, 12, 16))):
        whole, single = extract(features, [X]), extract(features, X.split(1))
        np.testing.assert_allclose(whole, single, atol=1e-12)


def test_debiasing_makes_the_plug_in_variance_unbiased():
    """The plug-in variance has expectation (1 - 1/n) sigma^2, a bias of exactly the form that is removed."""
    plug_in = lambda a, b: float(a.var())  # noqa: E731
    found = [jackknife(plug_in, x, x, 5) for x in np.random.default_rng(2).normal(size=(3000, 10, 1))]
    values, debiased = (np.array(v) for v in zip(*((e.value, e.debiased) for e in found), strict=True))
    assert abs(values.mean() - 0.9) < 4 * values.std() / np.sqrt(3000)
    assert abs(debiased.mean() - 1.0) < 4 * debiased.std() / np.sqrt(3000)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.floats(-1e6, 1e6))
def test_combining_is_linear_in_shift_and_scale(without, value):
    plain = combine(value, without)
    moved = combine(2 * value + 1, [2 * v + 1 for v in without])
    assert moved.spread == pytest.approx(2 * plain.spread, rel=1e-9, abs=1e-6)
    assert moved.debiased == pytest.approx(2 * plain.debiased + 1, rel=1e-9, abs=1e-4)


@given(st.integers(4, 500), st.integers(2, 30))
def test_every_group_has_two_rows_or_more(count, groups):
    fitting = fitting_groups(groups, count, 500)
    assert all(len(g) >= 2 for g in groups_of(count, fitting)) and 2 <= fitting <= max(2, groups)
