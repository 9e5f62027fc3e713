"""The prior fitted to codes: recovers a known mixture, agrees with scikit-learn, chooses its size."""

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from sfumato.core.condition import Condition
from sfumato.core.errors import DataError
from sfumato.core.noise import Noise
from sfumato.models.density import Plan
from sfumato.models.mixture import fit_mixture
from sfumato.models.prior import MixturePrior, StandardNormalPrior

WEIGHTS = torch.tensor([0.2, 0.5, 0.3])
MEANS = torch.tensor([[-4.0, 0.0], [0.0, 3.0], [4.0, -1.0]])
STDS = torch.tensor([[0.5, 1.0], [0.3, 0.3], [1.0, 0.4]])


def known(count=6000, seed=0):
    g = torch.Generator().manual_seed(seed)
    k = torch.multinomial(WEIGHTS, count, replacement=True, generator=g)
    return MEANS[k] + STDS[k] * torch.randn(count, 2, generator=g), k


def fitted(components=8, **kw):
    prior = MixturePrior(2, components, **kw)
    prior.fit(known()[0], seed=0)
    return prior


def test_fitting_recovers_a_known_mixture():
    prior = fitted(exact=True, components=3)
    order = prior.means[0, :, 0].argsort()
    assert (prior.means[0][order] - MEANS).abs().max() < 0.1
    assert (prior.weights[0][order] - WEIGHTS).abs().max() < 0.02
    stds = (prior.factors[0] @ prior.factors[0].mT).diagonal(dim1=1, dim2=2).sqrt()
    assert (stds[order] - STDS).abs().max() < 0.05


def test_bic_takes_one_component_for_one_gaussian_and_several_for_several():
    one = MixturePrior(2, 8)
    one.fit(torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)) * 2 + 1)
    assert (one.weights > 0).sum() == 1
    assert (fitted(8).weights > 0).sum() == 4  # the power of two that holds three


def test_the_density_equals_scikit_learns():
    codes = known()[0].double().numpy()
    reference = GaussianMixture(4, reg_covar=1e-4, random_state=0, max_iter=200).fit(codes)
    prior = MixturePrior(2, 4, exact=True).double()
    prior.fit(known()[0].double(), seed=0)
    z = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 4
    wanted = torch.from_numpy(reference.score_samples(z.numpy()))
    torch.testing.assert_close(prior.log_prob(z), wanted, rtol=1e-9, atol=1e-9)


def test_draws_have_the_moments_of_the_data():
    z = fitted().draw(20_000, Plan(), noise=Noise([0], rows=20_000))
    data = known()[0]
    assert (z.mean(0) - data.mean(0)).abs().max() < 0.1
    assert (z.T.cov() - data.T.cov()).abs().max() < 0.2


def test_draws_maximise_their_own_density_as_temperature_falls():
    prior = fitted()
    density = [
        prior.log_prob(prior.draw(500, Plan(latent_temperature=t), noise=Noise([0], rows=500))).mean()
        for t in (1.0, 0.5, 0.0)
    ]
    assert density == sorted(density)
    cold = prior.draw(100, Plan(latent_temperature=0.0), noise=Noise([0], rows=100))
    distance = (cold[:, None] - prior.means[0]).norm(dim=2).min(1).values
    assert distance.max() < 1e-6


def test_before_fitting_a_mixture_is_the_standard_normal():
    z = torch.randn(10, 3)
    torch.testing.assert_close(MixturePrior(3).log_prob(z), StandardNormalPrior(3).log_prob(z))


def test_each_class_gets_its_own_mixture():
    z, k = known()
    prior = MixturePrior(2, 2, classes=3)
    prior.fit(z, k, seed=0)
    label = torch.arange(3).repeat_interleave(2000)
    drawn = prior.draw(6000, Plan(), cond=Condition(label=label), noise=Noise([0], rows=6000))
    for c in range(3):
        assert (drawn[label == c].mean(0) - MEANS[c]).abs().max() < 0.1
    # and the class can be read off the density
    table = torch.stack([prior.log_prob(z, torch.full_like(k, c)) for c in range(3)])
    assert (table.argmax(0) == k).float().mean() > 0.99
    torch.testing.assert_close(prior.log_prob(z), torch.logsumexp(table, 0) - math.log(3))


def test_a_rare_class_borrows_the_mixture_of_everything():
    z, k = known()
    k[k == 2] = 1
    k[0] = 2
    prior = MixturePrior(2, 2, classes=3)
    prior.fit(z, k, seed=0)
    assert torch.isfinite(prior.log_prob(z, torch.full_like(k, 2))).all()


def test_without_labels_or_without_a_class_a_conditional_prior_still_answers():
    prior = MixturePrior(2, 2, classes=3)
    prior.fit(known()[0], seed=0)
    torch.testing.assert_close(prior.means[0], prior.means[2])
    assert prior.draw(5, Plan(), noise=Noise(range(5))).shape == (5, 2)


def test_a_fitted_prior_is_carried_by_its_state_dict():
    prior, copy = fitted(), MixturePrior(2, 8)
    copy.load_state_dict(prior.state_dict())
    noise = [Noise(range(7)) for _ in range(2)]
    assert torch.equal(prior.draw(7, Plan(), noise=noise[0]), copy.draw(7, Plan(), noise=noise[1]))


def test_fitting_is_repeatable():
    assert torch.equal(fitted().means, fitted().means)


def test_few_examples_get_few_components():
    rng = np.random.default_rng(0)
    weights, _, covariances = fit_mixture(rng.normal(size=(40, 5)), 16, exact=False, seed=0)
    assert len(weights) <= 2
    assert np.isfinite(covariances).all()


def test_codes_that_cannot_be_fitted_are_refused():
    with pytest.raises(DataError, match="NaN"):
        MixturePrior(2).fit(torch.full((10, 2), math.nan))
    with pytest.raises(DataError, match="1 encoded"):
        MixturePrior(2).fit(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="cannot be fitted to codes"):
        MixturePrior(2).fit(torch.zeros(10, 3))
    with pytest.raises(ValueError):
        MixturePrior(2, 0)
