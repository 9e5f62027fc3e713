"""The whole judgement: perfect, noisy, copying and one-class models each get the verdict they deserve."""

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.core.errors import DataError, UsageError
from sfumato.data.dataset import Dataset
from sfumato.evaluation.confidence import entropy_of, probabilities, verdict
from sfumato.evaluation.features import Standardised
from sfumato.evaluation.judge import evaluate
from sfumato.evaluation.scene import About
from sfumato.evaluation.statistics import ImageStatistics
from sfumato.evaluation.store import Memory, remembered


def blobs(count, seed):
    """Images (count, 1, 6, 6) of two kinds: bright on the left or on the right, with smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.25 * torch.randn(count, 1, 6, 6, generator=generator)
    side = torch.arange(count) % 2
    x[side == 0, ..., :3] += 0.5
    x[side == 1, ..., 3:] += 0.5
    return x.clamp(-1, 1)


class Side(nn.Module):
    """A classifier of left and right."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def features(self, x):
        return torch.stack([x[..., :3].mean((1, 2, 3)), x[..., 3:].mean((1, 2, 3))], 1)

    def forward(self, x):
        return self.scale * self.features(x)


REAL = Dataset.of(blobs(2000, 0).numpy())
TRAIN, HELD = REAL.take(range(600)), REAL.take(range(600, 900))
X = TRAIN.batch(range(600)).x
FRESH = HELD.batch(range(300)).x


class Model:
    """Gives out a fixed set of images by position, and counts how many were asked for."""

    def __init__(self, images):
        self.images, self.asked = images, 0

    def __call__(self, first, count):
        self.asked += count
        return self.images[first : first + count]


def judged(images, count=300, **more):
    features = Standardised.on(ImageStatistics(1, (6, 6)), [X])
    return evaluate(Model(images), TRAIN, HELD, [features], About("blobs"), count=count, batch=70, **more)


def fresh(count=300):
    """Draws that are in neither part."""
    return REAL.batch(range(1250, 1250 + count)).x


def test_a_perfect_model_reaches_the_floor():
    found = judged(fresh())
    distance = found.find("Frechet distance")
    assert distance.value < 1.6 * distance.floor
    kernel = found.metrics[0]
    assert kernel.name == "kernel distance" and "fewer than 2,048" in kernel.note
    assert abs(kernel.value) < 4 * kernel.spread
    assert found.find("precision").value > found.find("precision").floor - 0.12
    assert found.find("memorisation").value < 0.1
    assert any("no sign of copying" in note for note in found.notes)


def test_noise_is_far_and_copies_are_near():
    noisy = judged((fresh() + 0.5 * torch.randn(300, 1, 6, 6)).clamp(-1, 1))
    assert noisy.find("Frechet distance").value > 4 * noisy.find("Frechet distance").floor
    assert noisy.find("kernel distance").value > 5 * noisy.find("kernel distance").spread
    assert any("differ from unseen images most in" in note and "sd" in note for note in noisy.notes)
    assert any(note.startswith("statistics: Sees") for note in noisy.notes)
    copies = judged(X[100:400])
    assert copies.find("memorisation").value == 1.0
    assert copies.find("nearness").value < -10
    assert all(j == i + 100 for i, j in copies.pairs)
    assert any("memorising" in note for note in copies.notes)


def test_every_number_carries_its_protocol():
    found = judged(fresh())
    for metric in found.metrics:
        p = metric.protocol
        assert p.data == "blobs" and p.samples and p.reference and p.features and p.precision == "float64"
        assert metric.spread > 0 and metric.floor is not None
    assert found.find("Frechet distance").protocol.reference == 300
    assert found.find("memorisation").protocol.reference == 600
    with pytest.raises(KeyError, match="no metric 'quality'"):
        found.find("quality")


def test_the_classifier_sees_a_missing_class():
    about_half = judged(fresh()[::2], count=150, classifier=Side())
    assert about_half.histogram[1] == 0 and about_half.find("classes present").value == 1
    assert about_half.find("classes present").floor == 2
    assert any("No sample belongs to class 1" in note for note in about_half.notes)
    assert about_half.find("class entropy").value < 0.6 < about_half.find("class entropy").floor
    wanted = torch.arange(300) % 2
    both = judged(fresh(), classifier=Side(), wanted=wanted)
    assert both.find("label accuracy").value > 0.95
    assert both.find("confidence").value == pytest.approx(both.find("confidence").floor, abs=0.03)


def test_no_more_samples_than_training_images():
    model = Model(fresh(700))
    features = ImageStatistics(1, (6, 6))
    found = evaluate(model, TRAIN, HELD, [features], About("blobs"), count=10_000)
    assert model.asked == 600 == len(found.samples)


def test_features_of_real_images_are_computed_once():
    class Counting(ImageStatistics.__mro__[1]):
        name, dimension, fingerprint, tells, resize, calls = "count", 1, "1", "", "none", 0

        def __call__(self, x):
            Counting.calls += 1
            return x.flatten(1)[:, :3].double()

    shelf = Memory()
    for _ in range(2):
        before = Counting.calls
        evaluate(Model(fresh()), TRAIN, HELD, [Counting()], About("b"), count=300, batch=300, shelf=shelf)
    assert Counting.calls - before == 1  # the samples alone


def test_the_shelf_repairs_what_it_cannot_read():
    shelf, made = Memory(), []

    def make():
        made.append(1)
        return np.ones((3, 2))

    for damage, calls in ((None, 1), (None, 1), (b"", 1), (b"rubbish" * 9, 2), (None, 3)):
        np.testing.assert_array_equal(remembered(shelf, ("key",), make), np.ones((3, 2)))
        assert len(made) == calls
        if damage is not None:
            shelf.kept = dict.fromkeys(shelf.kept, damage)
    assert remembered(shelf, ("other key",), make) is not None and len(shelf.kept) == 2


def test_too_few_held_out_images():
    with pytest.raises(DataError, match="9 images are held out"):
        evaluate(Model(X), TRAIN, HELD.take(range(9)), [], About("b"))


@pytest.mark.parametrize(("count", "trained_on", "error"), [(9, 600, UsageError), (300, 9, DataError)])
def test_too_few_samples_or_training_images(count, trained_on, error):
    model = Model(X)
    with pytest.raises(error, match=r"9 (samples|images)"):
        evaluate(model, TRAIN.take(range(trained_on)), HELD, [], About("b"), count=count)
    assert model.asked == 0, "nothing is drawn in vain"


def test_resampled_images_are_said_to_be():
    features = ImageStatistics(1, (6, 6))
    found = evaluate(Model(fresh()), TRAIN, HELD, [features], About("b", resize="halved"), count=100)
    assert {m.protocol.resize for m in found.metrics} == {"halved"}


def test_caution_where_a_gaussian_cannot_be_fixed():
    small = HELD.take(range(20))
    found = evaluate(Model(fresh()), TRAIN, small, [ImageStatistics(1, (6, 6))], About("b"), count=100)
    assert any("cannot fix a Gaussian" in note for note in found.notes)


def test_verdict_in_numbers():
    p = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = verdict(p, torch.tensor([0, 0, 1, 1]))
    assert found.confidence.value == pytest.approx(3.5 / 4)
    assert found.entropy.value == pytest.approx(entropy_of(np.array([0.625, 0.375])))
    assert found.histogram == (3, 1) and found.accuracy.value == 0.75
    assert verdict(p[[1, 1]]).missing(("a", "b")) == ("b",)
    assert entropy_of(np.full(8, 1 / 8)) == pytest.approx(3)
    assert probabilities(Side(), [X[:5]]).sum(1) == pytest.approx(np.ones(5))


def test_images_go_to_where_the_classifier_is():
    asked = []

    class Elsewhere(Side):
        def forward(self, x):
            asked.append(x.device.type)
            return super().forward(x)

    far = Elsewhere().to("meta")
    with pytest.raises(NotImplementedError, match="meta"):  # what is computed there does not come back
        probabilities(far, [X[:5]])
    assert asked == ["meta"]


def test_the_error_of_the_entropy_is_its_scatter():
    rng = np.random.default_rng(0)
    draws = [verdict(rng.dirichlet([1, 0.3, 0.2], size=200)).entropy for _ in range(200)]
    assert np.mean([d.spread for d in draws]) == pytest.approx(np.std([d.value for d in draws]), rel=0.2)
