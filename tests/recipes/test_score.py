"""The score recipe: its ladder follows from the data, and its objective is denoising score matching."""

import math
from itertools import pairwise

import pytest
import torch

from sfumato.core.lazy import build
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.data.facts import Facts
from sfumato.diffusion.exact import GaussianDenoiser
from sfumato.diffusion.paths import VarianceExploding
from sfumato.models.codec import Pixels
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.recipes.score import ncsn
from sfumato.samplers.langevin import AnnealedLangevin, best_ratio, rungs

DIGITS = Facts(1, (8, 8), "uint8", 0, 240, 15.0, count=1797, mean=(-0.4,), std=(0.75,))


@pytest.mark.parametrize(("size", "known"), [(3072, 232)])
def test_the_ladder_is_the_published_one(size, known):
    """CIFAR-10 of Song & Ermon (2020): 232 levels from 50 to 0.01; ours by the closed form, within 5 %."""
    assert rungs(size, 0.01, 50.0) == pytest.approx(known, rel=0.06)


def test_more_numbers_need_closer_rungs():
    counts = [rungs(size, 0.01, 10.0) for size in (2, 64, 784, 3072)]
    assert counts == sorted(counts) and counts[0] == 1 + math.ceil(math.log2(1000))


@pytest.mark.parametrize("factor", [1.04, 1.4, 2.0])
def test_the_chosen_step_leaves_the_least_wrong_variance(factor):
    """By iterating the variance of x <- (1 - r^2) x + 2^1/2 r z from factor^2, for five moves."""

    def left(ratio):
        var = factor**2
        for _ in range(5):
            var = (1 - ratio**2) ** 2 * var + 2 * ratio**2
        return abs(var - 1.0)

    best = best_ratio(factor, 5)
    assert left(best) <= min(left(best + 0.02), left(best - 0.02)) + 1e-9


def test_the_objective_is_score_matching_with_the_weight_sigma_squared():
    """sigma^2 |score + eps/sigma|^2, averaged over elements, from the score the denoiser stands for."""
    stage = build(ncsn(DIGITS).arguments["stages"])[0]
    denoiser, path = GaussianDenoiser(-0.4, 0.6), VarianceExploding()
    schedule = build(ncsn(DIGITS).arguments["model"].arguments["density"].arguments["schedule"])
    model = Generator(Pixels(), Diffusion(denoiser, schedule, DIGITS.shape))
    x = torch.linspace(-1, 1, 6 * 64).view(6, 1, 8, 8)
    loss = stage.objective(model, Batch(x, None, torch.arange(6)), noise=Noise([3], rows=6), seen=0).total
    noise = Noise([3], rows=6)
    level = path.level(stage.objective.times.draw(schedule, noise, 6))
    eps = noise.normal(x.shape)
    x_t = level.mix(x, eps)
    sigma = level.sigma.float().view(-1, 1, 1, 1)
    error = (sigma * (denoiser(x_t, level).score(x_t, level) + eps / sigma)) ** 2
    assert torch.allclose(loss, error.flatten(1).mean(1), rtol=2e-3, atol=1e-4)


def test_it_samples_by_annealed_langevin_over_its_own_ladder():
    model = build(ncsn(DIGITS, width=16, levels=6, moves=2)).model
    assert isinstance(model.plan.solver, AnnealedLangevin) and model.plan.steps == 6
    levels = model.plan.grid.levels(model.density.schedule, model.plan.steps)
    ratios = [a.sigma / b.sigma for a, b in pairwise(levels[:-1])]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-9)
    one, two = model.sample(2, seeds=[5, 6]), model.sample(1, seeds=[6])
    assert torch.equal(one[1], two[0])
