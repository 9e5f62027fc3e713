"""The classifier that guides knows a noisy tensor by its log-SNR, whatever the path; its loss is at x_t."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_models import stirred

from sfumato.core.errors import DataError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import geometric
from sfumato.diffusion.level import Level
from sfumato.diffusion.paths import Linear, VarianceExploding, VariancePreserving
from sfumato.diffusion.times import LogNormalSigma
from sfumato.models.classifier import Classifier, NoisyClassifier
from sfumato.objectives.cross_entropy import CrossEntropy, NoisyCrossEntropy


def model():
    net = stirred(Classifier(1, (8, 8), 3, width=16, noisy=True), std=0.2)
    return NoisyClassifier(net, geometric(), 0.5).eval()


def batch(count=6, label=True):
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Batch(x, torch.arange(count) % 3 if label else None, torch.arange(count))


@pytest.mark.parametrize("log_snr", [-4.0, 0.0, 5.0])
def test_the_same_noisy_tensor_on_another_path_has_the_same_class(log_snr):
    eps, x = torch.randn(6, 1, 8, 8), batch().x
    logits = []
    for path in (VariancePreserving(), VarianceExploding(), Linear()):
        level = path.level(log_snr)
        logits.append(model()(level.mix(x, eps), level))
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert torch.allclose(logits[0], logits[2], atol=1e-4)


def test_a_level_for_each_sample_is_each_samples_level():
    levels = [VariancePreserving().level(v) for v in (-3.0, 0.0, 4.0)]
    many = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=torch.float64).T)
    x = batch(3).x
    together = model()(x, many)
    for i, level in enumerate(levels):
        assert torch.allclose(together[i], model()(x[i : i + 1], level)[0], atol=1e-5)


def test_the_noise_level_matters():
    x = batch().x
    assert not torch.allclose(model()(x, Level(1.0, 0.1)), model()(x, Level(1.0, 3.0)), atol=1e-3)


def test_a_network_that_is_not_told_the_level_is_refused():
    with pytest.raises(ValueError, match="noisy"):
        NoisyClassifier(Classifier(1, (8, 8), 3, width=16), geometric())


def test_the_loss_is_the_cross_entropy_at_x_t():
    """At levels without noise it is that of the clean image at that level; of an untold guess log K."""
    clean = NoisyCrossEntropy(LogNormalSigma(-14.0, 1e-6))
    loss = clean(model(), batch(), noise=Noise([1], rows=6), seen=0)
    level = Level(1.0, math.exp(-14.0))
    expected = F.cross_entropy(model()(batch().x, level), batch().label, reduction="none")
    assert torch.allclose(loss.total, expected, atol=1e-3)
    mute = model()
    torch.nn.init.zeros_(mute.net.last.weight)
    torch.nn.init.zeros_(mute.net.last.bias)
    loss = NoisyCrossEntropy(LogNormalSigma())(mute, batch(), noise=Noise([1], rows=6), seen=0)
    assert torch.allclose(loss.total, torch.full((6,), math.log(3.0)), atol=1e-6)


def test_the_judge_averages_over_fixed_levels():
    objective, values = NoisyCrossEntropy(LogNormalSigma()), []
    for _ in range(2):
        with torch.no_grad():
            values.append(objective.judge(model(), batch(), noise=Noise([3], rows=6)))
    at = [v for k, v in values[0].items() if k.startswith("loss_at_log_snr_")]
    assert len(at) == 6 and torch.allclose(values[0]["loss"], torch.stack(at).mean(0))
    assert torch.equal(values[0]["loss"], values[1]["loss"])
    assert ((values[0]["accuracy"] >= 0) & (values[0]["accuracy"] <= 1)).all()


def test_other_models_and_unlabelled_data_are_refused():
    with pytest.raises(TypeError, match="NoisyClassifier"):
        NoisyCrossEntropy(LogNormalSigma())(
            Classifier(1, (8, 8), 3, width=16), batch(), noise=Noise([1], rows=6), seen=0
        )
    with pytest.raises(DataError, match="labelled"):
        NoisyCrossEntropy(LogNormalSigma())(model(), batch(label=False), noise=Noise([1], rows=6), seen=0)
    with pytest.raises(ValueError, match="smoothing"):
        CrossEntropy(1.0)
