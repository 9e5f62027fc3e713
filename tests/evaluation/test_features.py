"""Features measure what they say: each statistic against its definition, fingerprints against any change."""

import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.core.errors import DataError, RefusedError, UsageError
from sfumato.evaluation import inception
from sfumato.evaluation.features import (
    ClassifierFeatures,
    Pixels,
    Standardised,
    adaptive_mean,
    departures,
    extract,
    fingerprint_of,
    fingerprint_of_module,
)
from sfumato.evaluation.statistics import ImageStatistics
from sfumato.nets.critic import Classifier


def measured(x):
    """{name: values (B,)} of a batch."""
    features = ImageStatistics(x.shape[1], tuple(x.shape[2:]))
    return dict(zip(features.names, features(x).T, strict=True))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (2, 33), (6, 7, 5, 6), (2,), (1, 1, 7), (1, 3)])
def test_every_shape_has_finite_statistics_with_a_name_each(shape):
    features = ImageStatistics(shape[0], shape[1:])
    x = torch.rand(5, *shape) * 2 - 1
    found = features(x)
    assert found.shape == (5, features.dimension) and len(features.names) == features.dimension
    assert torch.isfinite(found).all() and torch.isfinite(features(torch.zeros(2, *shape))).all()
    assert len(set(features.names)) == features.dimension


def test_levels_moments_and_colour_equal_their_definitions():
    torch.manual_seed(0)
    x = torch.rand(4, 3, 10, 12).double() * 2 - 1
    found = measured(x)
    share = ((x[:, 1] >= 0.5) & (x[:, 1] < 0.625)).double().mean((1, 2))
    torch.testing.assert_close(found["share of grey in +0.50..+0.62, channel 1"], share)
    total = sum(v for k, v in found.items() if k.startswith("share") and k.endswith("channel 2"))
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found["mean of channel 0"], x[:, 0].mean((1, 2)))
    expected = [np.corrcoef(i[0].flatten(), i[2].flatten())[0, 1] for i in x]
    np.testing.assert_allclose(found["correlation of channels 0 and 2"], expected, rtol=1e-9)


def test_spectrum_of_a_plane_wave_is_one_shell():
    """cos(2 pi k u / n) has variance 1/2, all at frequency k/n."""
    u = torch.arange(32).double()
    x = torch.cos(2 * math.pi * 9 / 32 * u).expand(32, 32)[None, None]
    found = {k: float(v) for k, v in measured(x).items() if k.startswith("log power")}
    assert max(found, key=found.get) == "log power at 0.25..0.31 cycles/pixel"
    assert sorted(found.values())[-2] == pytest.approx(-8)
    white = measured(torch.randn(50, 1, 32, 32))
    mean = [float(v.mean()) for k, v in white.items() if k.startswith("log power")]
    assert np.ptp(mean) < 0.25


def test_two_point_correlation_of_known_fields():
    """White noise has none; a first-order autoregression has rho^r, along its own axis only."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 1, 24, 64, generator=generator, dtype=torch.float64)
    for i in range(1, 64):
        x[..., i] = 0.8 * x[..., i - 1] + 0.6 * x[..., i]
    found = {k: float(v.mean()) for k, v in measured(x).items() if k.startswith("correlation at")}
    for r in (1, 2, 4):
        assert found[f"correlation at distance {r} along axis 1"] == pytest.approx(0.8**r, abs=0.05)
        assert found[f"correlation at distance {r} along axis 0"] == pytest.approx(0, abs=0.02)


def test_edges_and_layout():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1
    found = measured(x)
    assert float(found["edges along axis 1"]) == pytest.approx(1 / 7)
    assert float(found["edges along axis 0"]) == 0
    assert float(found["brightness of cell [0, 3], channel 0"]) == 1
    assert float(found["brightness of cell [0, 0], channel 0"]) == 0


def test_statistics_see_tint_blur_and_noise_and_say_which():
    torch.manual_seed(2)
    real = torch.nn.functional.avg_pool2d(torch.randn(300, 3, 18, 18), 3, 1).clamp(-1, 1)
    features = ImageStatistics(3, (16, 16))
    rows = extract(features, [real])
    tinted, noisy = real.clone(), real + 0.2 * torch.randn_like(real)
    tinted[:, 1] += 0.3
    assert any("channel 1" in s for s in departures(features.names, extract(features, [tinted]), rows))
    top = departures(features.names, extract(features, [noisy]), rows, 1)[0]
    assert ("log power" in top or "edges" in top or "rough" in top) and "+" in top
    assert departures(features.names, rows[::2], rows[1::2]) == []
    still = np.zeros_like(rows)
    told = departures(features.names, still + 1.0, still, 1)[0]
    assert "higher by over 100 sd" in told and "hardly vary" in told, "a number of deviations of nothing"


def test_points_are_their_own_features():
    x = torch.randn(7, 2)
    torch.testing.assert_close(ImageStatistics(2, ())(x), x.double())


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="cannot read"):
        ImageStatistics(1, (8, 8))(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="three axes"):
        ImageStatistics(1, (2, 2, 2, 2))


def test_standardised_features_have_mean_zero_and_deviation_one():
    x = torch.rand(64, 1, 8, 8) * 2 - 1
    found = Standardised.on(ImageStatistics(1, (8, 8)), x.split(10), least=0.0 + 1e-12)
    rows = extract(found, [x])
    varied = rows.std(axis=0) > 1e-6
    np.testing.assert_allclose(rows.mean(axis=0)[varied], 0, atol=1e-9)
    np.testing.assert_allclose(rows.std(axis=0, ddof=1)[varied], 1, rtol=1e-9)
    other = Standardised.on(ImageStatistics(1, (8, 8)), [x[:32]])
    assert found.fingerprint != other.fingerprint and found.name == "statistics"


def test_pixels_are_averaged_down_to_the_limit():
    x = torch.rand(3, 3, 50, 70)
    features = Pixels((3, 50, 70), most=1000)
    assert features.dimension <= 1000 and features(x).shape == (3, features.dimension)
    assert Pixels((1, 8, 8)).dimension == 64 and Pixels((1, 8, 8)).resize == "none"
    torch.testing.assert_close(adaptive_mean(x, (5, 7)), torch.nn.functional.avg_pool2d(x, 10))
    uneven = adaptive_mean(x, (12, 13))
    torch.testing.assert_close(uneven, torch.nn.functional.adaptive_avg_pool2d(x, (12, 13)))


def test_classifier_features_are_those_of_the_network_and_named_by_its_weights():
    torch.manual_seed(0)
    net = Classifier(1, (8, 8), 4, width=8, features=6)
    x = torch.randn(5, 1, 8, 8)
    features = ClassifierFeatures(net, x)
    assert features.dimension == 6 and features.label.startswith("classifier@")
    torch.testing.assert_close(features(x), net.features(x).double())
    before = fingerprint_of_module(net)
    with torch.no_grad():
        next(net.parameters())[0].add_(1e-6)
    assert fingerprint_of_module(net) != before


def test_fingerprints_tell_parts_apart():
    assert fingerprint_of("ab", "c") != fingerprint_of("a", "bc")
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.load_state_dict(a.state_dict())
    assert fingerprint_of_module(a) == fingerprint_of_module(b)


def test_inception_never_downloads_and_trusts_only_the_published_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UsageError, match="nothing is downloaded"):
        inception.InceptionFeatures()
    fake = tmp_path / "checkpoints" / inception.FILE
    fake.parent.mkdir()
    fake.write_bytes(b"cos\nsystem\n")
    with pytest.raises(RefusedError, match="not the published"):
        inception.InceptionFeatures()
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"cos\nsystem\n").hexdigest())
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match=r"sfumato\[metrics\]"):
            inception.InceptionFeatures()


def test_inception_reads_eight_bit_rgb():
    x = torch.tensor([-1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 2, 2)
    assert inception.to_rgb8(x)[0, 2].tolist() == [[0, 128], [255, 255]]
    with pytest.raises(DataError, match="gray or RGB"):
        inception.to_rgb8(torch.zeros(1, 5, 2, 2))
