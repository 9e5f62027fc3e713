"""Bounds in bits per dimension against a model whose likelihood is known, and refusals of what is no code."""

import math

import pytest
import torch

from sfumato.core.errors import DataError, UsageError
from sfumato.core.noise import Noise
from sfumato.distributions.discrete import Bernoulli, Categorical
from sfumato.distributions.discretized import DiscretizedLogistic
from sfumato.distributions.gaussian import Gaussian, StandardNormal
from sfumato.evaluation.bits import CODE, DENSITY, bounds, check_levels, unit_of
from sfumato.models.trace import Latent, LatentVariableModel, Trace


class Linear(LatentVariableModel):
    """p(z) = N(0, 1), p(x given z) = N(z, s^2 I) on two pixels; q is the true posterior, shifted by `off`."""

    def __init__(self, s=0.5, off=0.0):
        super().__init__()
        self.s, self.off = s, off

    def trace(self, x, *, noise):
        flat = x.flatten(1)
        precision = 1 + flat.shape[1] / self.s**2
        mean = flat.sum(1, keepdim=True) / self.s**2 / precision + self.off
        q = Gaussian(mean, torch.full_like(mean, -0.5 * math.log(precision)))
        z = q.sample(noise)
        p = Gaussian(z.reshape(-1, 1, 1).expand_as(x), torch.tensor(math.log(self.s)))
        return Trace(p, x, (Latent(z, q, StandardNormal(z)),))

    def sample(self, count, *, noise, temperature=1.0):
        raise NotImplementedError

    def exact(self, x):
        """log N(x; 0, s^2 I + 1 1^T), (B,)."""
        cov = self.s**2 * torch.eye(2) + 1
        normal = torch.distributions.MultivariateNormal(torch.zeros(2), cov)
        return normal.log_prob(x.flatten(1))


X = torch.randn(64, 1, 2, generator=torch.Generator().manual_seed(0))


def test_with_the_true_posterior_both_bounds_are_the_likelihood():
    model = Linear()
    bits = float(-model.exact(X).mean() / (2 * math.log(2)))
    elbo, weighted = bounds(model, X.split(10), None, draws=1000)
    assert weighted.bits.value == pytest.approx(bits, abs=1e-5)  # every weight is p(x): no chance in it
    assert elbo.bits.value == pytest.approx(bits, abs=0.03)
    assert (elbo.name, weighted.name, elbo.unit) == ("ELBO", "IWAE-1000", DENSITY)
    assert elbo.nats == pytest.approx(-elbo.bits.value * 2 * math.log(2))


def test_bounds_are_ordered_and_rise_with_the_number_of_draws():
    model = Linear(off=0.4)
    exact = float(-model.exact(X).mean() / (2 * math.log(2)))
    values = [bounds(model, [X], None, draws=k, seed=k)[-1].bits.value for k in (1, 5, 50, 2000)]
    assert values[0] > values[1] > values[2] > exact - 0.01
    assert values[3] == pytest.approx(exact, abs=0.02)


def test_the_gap_of_the_elbo_is_the_divergence_from_the_posterior():
    """ELBO = log p - KL(q || posterior); a shift by d of a Gaussian costs d^2 / (2 var) nats."""
    right, wrong = (bounds(Linear(off=d), [X], None, draws=1500)[0].nats for d in (0.0, 0.3))
    assert right - wrong == pytest.approx(0.3**2 / 2 * (1 + 2 / 0.25), rel=0.1)


def test_bounds_do_not_depend_on_the_batches():
    together = bounds(Linear(off=0.2), [X], None, draws=3)
    apart = bounds(Linear(off=0.2), X.split(7), None, draws=3)
    for a, b in zip(together, apart, strict=True):
        assert a.bits.value == pytest.approx(b.bits.value, abs=1e-6)
    assert together[0].rate > 0
    expected = together[0].bits.spread
    assert expected == pytest.approx(float(Linear().exact(X).std() / 8 / (2 * math.log(2))), rel=0.3)


def test_a_model_without_latents_costs_the_code_of_its_likelihood():

    class Flat(Linear):
        def trace(self, x, *, noise):
            mass = DiscretizedLogistic(torch.zeros_like(x), torch.tensor(1.0), 256)
            return Trace(mass, x)

    grid = torch.arange(1, 255).repeat(2, 1)[None].float() * 2 / 255 - 1
    (found,) = bounds(Flat(), [grid], 256)
    assert found.unit == CODE and found.rate == 0
    w, s = 2 / 255, math.e
    mass = torch.sigmoid((grid.double() + w / 2) / s) - torch.sigmoid((grid.double() - w / 2) / s)
    assert found.bits.value == pytest.approx(float(-mass.log2().mean()), abs=1e-3)


class OneOfTwo(Linear):
    """Explains one of the two numbers, whichever the noise says: exactly, and another x at each draw."""

    def trace(self, x, *, noise):
        pick = noise.integers(2, (len(x), 1))
        data = x.flatten(1).gather(1, pick)
        return Trace(Gaussian(torch.zeros_like(data), torch.zeros_like(data)), data)


def test_draws_that_explain_different_data_have_an_elbo_alone():
    """log p of each number is known, and the ELBO its mean in bits of one number.

    The log-mean-exp over both lies above that mean and is the likelihood of neither.
    """
    (elbo,) = bounds(OneOfTwo(), X.split(10), None, draws=400)
    assert elbo.name == "ELBO" and "each draw predicts other frames" in elbo.note
    exact = -torch.distributions.Normal(0.0, 1.0).log_prob(X).mean() / math.log(2)
    assert elbo.bits.value == pytest.approx(float(exact), abs=0.02)
    (one,) = bounds(OneOfTwo(), [X], None)
    assert one.note == ""
    assert all(bound.note == "" for bound in bounds(Linear(), [X], None, draws=3))


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_every_grey_level_is_accepted_and_nothing_between_or_beyond(levels):
    x = (torch.arange(levels).double() * 2 / (levels - 1) - 1).float()
    check_levels(x, levels)
    half = 1 / (levels - 1)
    for wrong, said in (
        (x[:1] + half, "between"),
        (x[-1:] + 2 * half, "beyond"),
        (x[:1] - 2 * half, "beyond"),
    ):
        with pytest.raises(DataError, match=said):
            check_levels(torch.cat([x, wrong]), levels)
    with pytest.raises(DataError, match="beyond"):
        check_levels(x * torch.nan, levels)


def test_a_bound_of_images_off_the_levels_is_refused():
    """Sixteen-bit pictures made eight-bit, or resampled ones, would get the code length of other images."""

    class Flat(Linear):
        def trace(self, x, *, noise):
            return Trace(DiscretizedLogistic(torch.zeros_like(x), torch.tensor(1.0), 256), x)

    with pytest.raises(DataError, match="between the run's 256 grey levels"):
        bounds(Flat(), [torch.full((3, 1, 2), 0.1234)], 256)


@pytest.mark.parametrize(
    ("likelihood", "levels", "said"),
    [
        (Gaussian(torch.zeros(1), torch.zeros(1)), 256, "no upper limit"),
        (Bernoulli(torch.zeros(1)), 256, "cross-entropy"),
        (Bernoulli(torch.zeros(1)), None, "cross-entropy"),
        (DiscretizedLogistic(torch.zeros(1), torch.zeros(1), 256), None, "stored as floats"),
        (DiscretizedLogistic(torch.zeros(1), torch.zeros(1), 256), 65536, "256 grey levels"),
        (Categorical(torch.zeros(1, 3)), 256, "Categorical"),
    ],
)
def test_what_is_no_probability_of_the_data_is_refused(likelihood, levels, said):
    with pytest.raises(UsageError, match=said):
        unit_of(likelihood, levels)


def test_what_fits_has_its_unit():
    assert unit_of(Bernoulli(torch.zeros(1)), 2) == CODE
    assert unit_of(DiscretizedLogistic(torch.zeros(1), torch.zeros(1), 17), 17) == CODE
    assert unit_of(Gaussian(torch.zeros(1), torch.zeros(1)), None) == DENSITY
    with pytest.raises(ValueError, match="at least one batch"):
        bounds(Linear(), [], None)
    assert len(Noise([0])) == 1
