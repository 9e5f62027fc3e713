"""The Frechet distance is a squared metric between Gaussians, right to its last digits; so is its spread."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core.errors import DataError
from sfumato.evaluation.frechet import between, fit, fit_moments, frechet
from sfumato.evaluation.spread import combine, groups_of, jackknife, share


def gaussian(rng, d, rank=None):
    a = rng.normal(size=(d, rank or d))
    return rng.normal(size=d), a @ a.T / d


def by_sqrtm(m1, s1, m2, s2):
    """The formula as it is written, with SciPy's matrix square root of the product."""
    root = scipy.linalg.sqrtm(s1 @ s2)
    return ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * root.real)


@pytest.mark.parametrize("d", [1, 3, 40, 200])
def test_equals_the_matrix_square_root(d):
    rng = np.random.default_rng(d)
    m1, s1 = gaussian(rng, d)
    m2, s2 = gaussian(rng, d)
    ours = between(fit_moments(m1, s1), fit_moments(m2, s2))
    assert ours == pytest.approx(by_sqrtm(m1, s1, m2, s2), rel=1e-9)


@pytest.mark.parametrize("rank", [5, 30])
def test_equals_the_eigenvalues_of_the_product(rank):
    """tr (S1 S2)^1/2 as the sum of the roots of the eigenvalues of S1 S2, the way of torch-fidelity."""
    rng = np.random.default_rng(rank)
    (m1, s1), (m2, s2) = gaussian(rng, 30, rank), gaussian(rng, 30)
    roots = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).real.sum()
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * roots
    assert between(fit_moments(m1, s1), fit_moments(m2, s2)) == pytest.approx(expected, rel=1e-6)


def test_closed_form_of_commuting_covariances():
    """With a common eigenbasis d^2 = |m1 - m2|^2 + sum (sqrt a - sqrt b)^2, whatever the basis."""
    rng = np.random.default_rng(0)
    a, b, m = rng.uniform(0, 4, 30), rng.uniform(0, 4, 30), rng.normal(size=30)
    a[:7] = 0  # singular, and not in the same directions
    b[5:12] = 0
    q = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    expected = (m**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    ours = between(fit_moments(m, q @ np.diag(a) @ q.T), fit_moments(0 * m, q @ np.diag(b) @ q.T))
    assert ours == pytest.approx(expected, abs=1e-6)


def test_equals_the_functions_of_torch_fidelity():
    fid = pytest.importorskip("torch_fidelity.metric_fid", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(500, 32)), rng.normal(size=(400, 32)) @ np.diag(rng.uniform(0.5, 2, 32)) + 0.3
    stats = [fid.fid_features_to_statistics(torch.from_numpy(v)) for v in (x, y)]
    theirs = fid.fid_statistics_to_metric(*stats, False)["frechet_inception_distance"]
    assert between(fit(x), fit(y)) == pytest.approx(theirs, rel=1e-6)


def test_fit_has_the_unbiased_covariance():
    x = np.random.default_rng(2).normal(size=(60, 9))
    np.testing.assert_allclose(fit(x).cov, np.cov(x, rowvar=False), atol=1e-12)


def test_fewer_images_than_features_lose_no_digits():
    """The singular case: equal sets are at distance zero to machine precision, not to its square root."""
    x = np.random.default_rng(3).normal(size=(20, 300)) * 100
    assert between(fit(x), fit(x[::-1])) < 1e-8
    shifted = between(fit(x), fit(x + 1e-3))
    assert shifted == pytest.approx(300e-6, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 12), scale=st.floats(1e-3, 1e3))
def test_metric_laws(seed, d, scale):
    """Zero for equal, symmetric, invariant under rotation, quadratic in scale, triangle for the root."""
    rng = np.random.default_rng(seed)
    a, b, c = (fit(scale * (rng.normal(size=(d + 3, d)) @ rng.normal(size=(d, d)))) for _ in range(3))
    tolerance = 1e-9 * scale**2 * d**2 * 10
    assert between(a, a) <= tolerance
    assert between(a, b) == pytest.approx(between(b, a), abs=tolerance)
    q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    turned = [fit_moments(f.mean @ q + scale, q.T @ f.cov @ q) for f in (a, b)]
    assert between(*turned) == pytest.approx(between(a, b), rel=1e-6, abs=tolerance * 1e3)
    ab, bc, ac = (np.sqrt(between(x, y)) for x, y in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc + np.sqrt(tolerance)
    double = [fit_moments(2 * f.mean, 4 * f.cov) for f in (a, b)]
    assert between(*double) == pytest.approx(4 * between(a, b), rel=1e-6, abs=tolerance * 1e3)


def test_one_dimension_in_numbers():
    assert between(fit_moments([0.0], [[1.0]]), fit_moments([3.0], [[4.0]])) == pytest.approx(
        9 + 1, abs=1e-12
    )


def draws(seed, n=300, d=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * 1.2 + 0.2, rng.normal(size=(n, d))


def test_spread_is_the_scatter_of_repeated_draws_and_debiasing_removes_the_bias():
    exact = 8 * (0.2**2 + 0.2**2)
    estimates = [frechet(*draws(seed)) for seed in range(60)]
    values = np.array([e.value for e in estimates])
    debiased = np.array([e.debiased for e in estimates])
    assert np.mean([e.spread for e in estimates]) == pytest.approx(values.std(), rel=0.35)
    assert values.mean() - exact > 3 * values.std() / np.sqrt(60)  # the bias is real,
    assert abs(debiased.mean() - exact) < 4 * debiased.std() / np.sqrt(60)  # and gone


def test_jackknife_of_a_mean_is_the_textbook_error():
    x = np.random.default_rng(4).normal(size=(400, 1))
    found = jackknife(lambda a, b: float(a.mean()), x, x, groups=200)
    assert found.spread == pytest.approx(x.std(ddof=1) / 20, rel=0.15)
    assert found.debiased == pytest.approx(found.value, abs=1e-10)


def test_groups_partition_the_rows():
    parts = groups_of(103, 10)
    assert sorted(np.concatenate(parts)) == list(range(103))
    assert {len(p) for p in parts} == {10, 11}
    with pytest.raises(ValueError, match="cannot be dealt"):
        groups_of(3, 2)


def test_combine_of_constants_has_no_spread():
    assert combine(5.0, [5.0] * 7).spread == 0.0


def test_a_share_of_none_is_not_certain():
    assert share(np.zeros(100, dtype=bool)).spread > 0.005
    assert share(np.arange(100) % 2 == 0).spread == pytest.approx(0.05, rel=1e-3)


def test_features_that_are_not_finite_are_named():
    x = np.ones((5, 2))
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of 5 images"):
        fit(x)
    with pytest.raises(ValueError, match="dimensions"):
        between(fit(np.eye(3)), fit(np.eye(4)))
