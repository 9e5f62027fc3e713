"""What codes cost: closed forms of usage, of uniform and of calibrated codes."""

import math
import sys
from pathlib import Path

import pytest
import torch

from sfumato.distributions.discretized import DiscretizedGaussian
from sfumato.evaluation.codes import _level, image_bits, judge_codes, mean_of, reconstruction_scale

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from test_codes import codec, generator, images


def on_levels(n, levels=5, seed=0):
    """Images whose values are grey levels."""
    return torch.round((images(n, seed) + 1) * (levels - 1) / 2) * 2 / (levels - 1) - 1


def test_an_untrained_prior_charges_uniform_codes():
    model = generator(2)
    for density in (model.density, model.conditioner.first.density):
        torch.nn.init.zeros_(density.net.last.weight)
        torch.nn.init.zeros_(density.net.last.bias)
    levels, nats = judge_codes(model, [(images(5), None), (images(3, 1), None)])
    assert [level.bits.value for level in levels] == pytest.approx([math.log2(6)] * 2)
    assert torch.allclose(nats, torch.full((8,), sum(model.codec.lengths) * math.log(6)).double())


def test_the_cost_of_an_image_is_the_sum_of_its_levels():
    model = generator(2, 3)
    x, label = images(6), torch.arange(6) % 3
    levels, nats = judge_codes(model, [(x, label)])
    total = sum(level.bits.value * level.length for level in levels) * math.log(2)
    assert float(nats.mean()) == pytest.approx(total)


def test_perplexity_counts_equally_common_codes():
    counts = torch.tensor([5, 5, 5, 5, 0, 0, 0, 0])
    found = _level(8, 3, counts, torch.ones(4, dtype=torch.float64))
    assert found.used == 0.5 and found.perplexity == pytest.approx(4.0)
    alone = _level(8, 3, torch.tensor([9] + [0] * 7), torch.ones(4, dtype=torch.float64))
    assert alone.used == 0.125 and alone.perplexity == pytest.approx(1.0)


def test_the_scale_is_the_error_of_reconstruction():
    model, x = codec(1), images(7)
    with torch.no_grad():
        error = (model.decode(model.encode(x)) - x).double()
    scale = reconstruction_scale(model, x.split(3))
    assert float(scale) == pytest.approx(float(error.square().mean().sqrt()), rel=1e-5)


def test_the_rest_is_a_probability_of_the_grey_levels():
    """Over all values of one pixel, the others as they are, probabilities given the same code sum to one."""
    model, levels = codec(1), 5
    x = on_levels(1, levels)
    codes, scale = model.encode(x), torch.tensor([0.4])
    model.encode = lambda images: codes.expand(len(images), -1)
    every = x.repeat(levels, 1, 1, 1)
    every[:, 0, 2, 3] = torch.linspace(-1, 1, levels)
    bits = image_bits(model, every, scale, levels)
    mean = model.decode(codes)
    others = image_bits(model, x, scale, levels)
    pixel = DiscretizedGaussian(mean, scale.log().reshape(1, 1, 1, 1), levels).log_mass(x)[
        0, 0, 2, 3
    ] / math.log(2)
    rest = float(others) + float(pixel.detach())
    assert float(torch.exp2(-(bits - rest)).sum()) == pytest.approx(1.0, abs=1e-5)


def test_mean_and_standard_error():
    found = mean_of(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert found.value == 2.5 and found.spread == pytest.approx(math.sqrt(5 / 3) / 2)
