"""Closed-form divergences and entropies against sampling, and log-probabilities against SciPy's."""

import pytest
import torch
from scipy import stats

from sfumato.core.noise import Noise
from sfumato.distributions.base import kl, kl_per_unit
from sfumato.distributions.discrete import Bernoulli, Categorical
from sfumato.distributions.discretized import DiscretizedGaussian
from sfumato.distributions.gaussian import Gaussian, StandardNormal

F64 = torch.float64
DRAWS = 40_000


def repeated(*rows):
    """Parameters of one event as those of DRAWS equal rows."""
    return [torch.tensor(r, dtype=F64).expand(DRAWS, *torch.tensor(r).shape) for r in rows]


def pairs():
    mean, log_std, other, log_other = repeated([0.3, -1.0], [-0.5, 0.4], [0.0, 0.5], [0.1, -0.2])
    logits, others = repeated([0.3, -1.2, 2.0], [-0.4, 0.0, 1.0])
    table, tables = repeated([[0.1, 1.0, -0.5], [0.0, 0.0, 3.0]], [[0.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    return [
        ("gaussian", Gaussian(mean, log_std), Gaussian(other, log_other)),
        ("standard", Gaussian(mean, log_std), StandardNormal(mean)),
        ("bernoulli", Bernoulli(logits), Bernoulli(others)),
        ("categorical", Categorical(table), Categorical(tables)),
    ]


@pytest.mark.parametrize(("name", "q", "p"), pairs(), ids=lambda v: v if isinstance(v, str) else "")
def test_kl_is_the_mean_log_ratio_of_draws(name, q, p):
    x = q.sample(Noise([0], rows=DRAWS))
    ratio = q.log_prob(x) - p.log_prob(x)
    error = ratio.std() / DRAWS**0.5
    assert abs(ratio.mean() - kl(q, p)[0]) < 4 * error


@pytest.mark.parametrize(("name", "q", "p"), pairs(), ids=lambda v: v if isinstance(v, str) else "")
def test_kl_is_nonnegative_zero_on_itself_and_sums_its_units(name, q, p):
    assert (kl_per_unit(q, p) >= 0).all()
    torch.testing.assert_close(kl_per_unit(q, p).flatten(1).sum(1), kl(q, p))
    if name != "standard":
        assert kl(q, q).abs().max() < 1e-14


@pytest.mark.parametrize(("name", "q", "p"), pairs(), ids=lambda v: v if isinstance(v, str) else "")
def test_entropy_is_minus_the_mean_log_probability(name, q, p):
    surprise = -q.log_prob(q.sample(Noise([1], rows=DRAWS)))
    assert abs(surprise.mean() - q.entropy()[0]) < 4 * surprise.std() / DRAWS**0.5 + 1e-12


def test_an_unused_unit_has_a_kl_exact_to_its_last_digit():
    """For s = 1 + d the KL is about d^2, far below the rounding of s^2 - 1 - log s^2 in single precision."""
    log_std = torch.full((1, 1), 1e-5)
    found = kl(Gaussian(torch.zeros(1, 1), log_std), StandardNormal(torch.zeros(1, 1)))
    assert found.item() == pytest.approx(1e-10, rel=0.05)


def test_log_probabilities_equal_scipy():
    x = torch.tensor([[0.2, -1.0, 3.0]], dtype=F64)
    mean, log_std = torch.tensor([[0.0, 0.5, 2.0]], dtype=F64), torch.tensor(0.3, dtype=F64)
    wanted = stats.norm(mean.numpy(), log_std.exp().item()).logpdf(x.numpy()).sum()
    assert Gaussian(mean, log_std).log_prob(x).item() == pytest.approx(wanted, rel=1e-12)
    assert StandardNormal(x).log_prob(x).item() == pytest.approx(
        stats.norm.logpdf(x.numpy()).sum(), rel=1e-12
    )
    bits = torch.tensor([[1.0, -1.0, 1.0]], dtype=F64)
    wanted = stats.bernoulli(torch.sigmoid(x).numpy()).logpmf((bits.numpy() + 1) / 2).sum()
    assert Bernoulli(x).log_prob(bits).item() == pytest.approx(wanted, rel=1e-12)


def test_grey_bernoulli_is_the_expected_log_likelihood_of_a_thresholded_image():
    logits, grey = torch.tensor([[0.7]], dtype=F64), torch.tensor([[-0.2]], dtype=F64)
    b = Bernoulli(logits)
    on, off = b.log_prob(torch.ones(1, 1, dtype=F64)), b.log_prob(-torch.ones(1, 1, dtype=F64))
    torch.testing.assert_close(b.log_prob(grey), 0.4 * on + 0.6 * off)


def test_bernoulli_mean_is_the_mean_of_its_draws():
    b = Bernoulli(torch.full((DRAWS, 1), 0.8))
    assert b.sample(Noise([3], rows=DRAWS)).mean() == pytest.approx(b.mean[0].item(), abs=0.02)


def test_categorical_draws_have_their_probabilities():
    c = Categorical(torch.tensor([0.0, 1.0, -1.0]).expand(DRAWS, 3))
    share = torch.bincount(c.sample(Noise([4], rows=DRAWS)), minlength=3) / DRAWS
    assert (share - c.mean[0]).abs().max() < 0.01


def test_temperature_zero_draws_the_mean():
    g = Gaussian(torch.tensor([[0.4, -0.7]]), torch.zeros(()))
    assert torch.equal(g.sample(Noise([0]), temperature=0.0), g.mean)


def test_families_without_a_closed_form_say_so():
    g = Gaussian(torch.zeros(1, 2), torch.zeros(()))
    for q, p in [(g, Bernoulli(torch.zeros(1, 2))), (Bernoulli(torch.zeros(1, 2)), g)]:
        with pytest.raises(TypeError, match="no closed form"):
            kl(q, p)
    with pytest.raises(TypeError, match="no closed form"):
        kl(DiscretizedGaussian(g.mean, g.log_std, 256), g)
