"""Structural similarity against its formula written out with SciPy's filters, and closed forms."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from sfumato.core.errors import RefusedError, UsageError
from sfumato.evaluation import lpips
from sfumato.evaluation.similarity import peak_ratio, squared_error, ssim

G = torch.Generator().manual_seed(0)
X = torch.rand(3, 2, 20, 17, generator=G) * 2 - 1


def reference(x, y):
    """Wang et al. 2004 as scikit-image computes it with Gaussian weights, on one channel."""
    blur = lambda a: gaussian_filter(a, 1.5, truncate=3.5)  # noqa: E731
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.02**2, 0.06**2
    full = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return full[5:-5, 5:-5].mean()


def test_it_is_the_published_formula():
    y = (X + 0.3 * torch.randn(X.shape, generator=G)).clamp(-1, 1)
    found = ssim(X, y)
    for i in range(3):
        channels = [reference(X[i, c].double().numpy() + 1, y[i, c].double().numpy() + 1) for c in range(2)]
        assert found[i].item() == pytest.approx(np.mean(channels), abs=1e-6)


def test_a_picture_is_like_itself_and_less_like_a_noisier_one():
    torch.testing.assert_close(ssim(X, X), torch.ones(3, dtype=torch.float64))
    noise = torch.randn(X.shape, generator=G)
    values = [ssim(X, X + s * noise).mean().item() for s in (0.0, 0.1, 0.3, 1.0)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.6
    torch.testing.assert_close(ssim(X, X.flip(3)), ssim(X.flip(3), X))


def test_flat_pictures_have_a_closed_form():
    a, b = 0.5, -0.2
    x, y = torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b)
    light = (2 * (1 + a) * (1 + b) + 0.02**2) / ((1 + a) ** 2 + (1 + b) ** 2 + 0.02**2)
    assert ssim(x, y).item() == pytest.approx(light, abs=1e-6)


@pytest.mark.parametrize("space", [(40,), (3, 5), (8, 8), (6, 12, 9), (1, 30)])
def test_small_pictures_signals_and_volumes_work(space):
    x = torch.rand(2, 1, *space, generator=G) * 2 - 1
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert (ssim(x, -x) < 0.5).all()


def test_errors_are_means_over_the_picture():
    torch.testing.assert_close(squared_error(X, X + 0.5), torch.full((3,), 0.25))
    assert peak_ratio(0.04) == pytest.approx(20.0) and peak_ratio(0.0) == float("inf")
    with pytest.raises(ValueError, match="no structural similarity"):
        ssim(X, X[:2])


def test_lpips_says_which_file_is_missing_and_refuses_another_one(tmp_path):
    assert not lpips.at_hand(tmp_path)
    with pytest.raises(UsageError, match="nothing is downloaded"):
        lpips.verify(tmp_path)
    for name in lpips.FILES:
        (tmp_path / name).write_bytes(b"not a network")
    assert lpips.at_hand(tmp_path)
    with pytest.raises(RefusedError, match="not the published file"):
        lpips.verify(tmp_path)


def test_the_file_that_cannot_be_checked_is_told_by_its_hash(tmp_path, monkeypatch):
    for name, data in zip(lpips.FILES, (b"vgg", b"learned"), strict=True):
        (tmp_path / name).write_bytes(data)
    begins = hashlib.sha256(b"vgg").hexdigest()[:8]
    monkeypatch.setattr(lpips, "FILES", dict(zip(lpips.FILES, (begins, ""), strict=True)))
    assert lpips.verify(tmp_path) == hashlib.sha256(b"learned").hexdigest()[:8]
