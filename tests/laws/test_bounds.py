"""The ELBO is a lower bound, tight at the exact posterior; importance weighting tightens it otherwise."""

import torch
from linear_gaussian import linear_gaussian

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.models.trace import importance_bound
from sfumato.objectives.elbo import Elbo, ImportanceWeighted


def noise(x, seed=0):
    return Noise([seed], rows=len(x))


def batch_of(x):
    return Batch(x, None, torch.arange(len(x)))


def test_at_the_exact_posterior_every_draw_gives_the_exact_likelihood():
    model, exact, x = linear_gaussian()
    torch.testing.assert_close(model.trace(x, noise=noise(x)).log_weight(), exact)


def test_the_elbo_meets_the_likelihood_at_the_exact_posterior_and_stays_below_it_elsewhere():
    for spoil, tight in ((0.0, True), (0.3, False)):
        model, exact, x = linear_gaussian(spoil)
        elbo = torch.stack([model.trace(x, noise=noise(x, k)).elbo() for k in range(100)]).mean(0)
        gap = (exact - elbo).mean()
        assert abs(gap) < 0.02 if tight else gap > 0.1


def test_the_importance_weighted_bound_rises_with_its_samples_to_the_likelihood():
    model, exact, x = linear_gaussian(0.3)
    gaps = [(exact - importance_bound(model, x, k, noise=noise(x, k))).mean().item() for k in (1, 4, 32, 256)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1 and abs(gaps[-1]) < 0.02


def test_one_importance_sample_is_an_elbo_estimate_of_the_same_mean():
    model, _, x = linear_gaussian(0.2)
    many = range(200)
    loss = [ImportanceWeighted(1)(model, batch_of(x), noise=noise(x, k), seen=0).total.mean() for k in many]
    elbo = [Elbo()(model, batch_of(x), noise=noise(x, k), seen=0).total.mean() for k in many]
    assert abs(torch.stack(loss).mean() - torch.stack(elbo).mean()) < 0.02


def test_training_the_posterior_by_the_elbo_finds_the_exact_one():
    """The gradient of the ELBO in the encoder vanishes in expectation at the exact posterior."""
    model, _, x = linear_gaussian()
    for k in range(50):
        Elbo()(model, batch_of(x), noise=noise(x, k), seen=0).total.mean().backward()
    exact = model.encoder.weight.grad.norm() / 50
    spoilt, _, _ = linear_gaussian(0.3)
    for k in range(50):
        Elbo()(spoilt, batch_of(x), noise=noise(x, k), seen=0).total.mean().backward()
    assert exact < 0.1 * spoilt.encoder.weight.grad.norm() / 50
