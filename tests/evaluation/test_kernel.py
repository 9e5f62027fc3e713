"""The kernel distance is an unbiased U-statistic, and its spread is the scatter of repeated draws."""

import numpy as np
import pytest

from sfumato.evaluation.kernel import cubic, kernel_distance


def by_definition(x, y):
    """Three double sums over pairs, exactly as in the definition."""
    n, m, d = len(x), len(y), x.shape[1]
    k = lambda u, v: (u @ v / d + 1) ** 3  # noqa: E731
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(k(u, v) for u in x for v in y) / (n * m)
    return xx + yy - 2 * xy


def test_equals_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(17, 4)), rng.normal(size=(23, 4)) + 0.5
    assert kernel_distance(x, y, groups=5).value == pytest.approx(by_definition(x, y), rel=1e-10)


def test_unbiased_for_equal_distributions():
    """Over repeated draws the mean is zero within its stated error, at any size."""
    for n in (12, 60):
        values = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            values.append(kernel_distance(rng.normal(size=(n, 6)), rng.normal(size=(n, 6)), groups=3).value)
        assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(200)
        assert min(values) < 0 < max(values)


def test_expectation_of_shifted_points():
    """For fixed equal points the kernel means are exact: x = a, y = b gives k(a,a) + k(b,b) - 2 k(a,b)."""
    a, b = np.full((10, 3), 0.5), np.full((10, 3), -1.0)
    expected = (0.25 + 1) ** 3 + (1 + 1) ** 3 - 2 * (-0.5 + 1) ** 3
    found = kernel_distance(a, b, groups=5)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.spread < 1e-12


def test_spread_is_the_scatter_of_repeated_draws():
    found = []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        found.append(kernel_distance(rng.normal(size=(150, 5)) + 0.4, rng.normal(size=(120, 5))))
    scatter = np.std([e.value for e in found])
    assert np.mean([e.spread for e in found]) == pytest.approx(scatter, rel=0.3)


def test_the_order_of_the_images_does_not_matter():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(50, 3))
    assert kernel_distance(x, y).value == pytest.approx(kernel_distance(x[::-1], y[::-1]).value, abs=1e-12)
    assert cubic(x, y).shape == (40, 50)
