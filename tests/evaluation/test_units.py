"""KL and activity of units against a model in which both are known."""

import math

import pytest
import torch

from sfumato.distributions.gaussian import Gaussian, StandardNormal
from sfumato.evaluation.units import standardised, units
from sfumato.models.trace import Conditional, Latent, LatentVariableModel, Trace


class Known(LatentVariableModel):
    """Two latents: the first answers to the mean of x in one unit; the second follows its prior."""

    def trace(self, x, *, noise):
        mean = torch.cat([2.0 * x.flatten(1).mean(1, keepdim=True), torch.full((len(x), 1), 0.7)], 1)
        q = Gaussian(mean, torch.zeros_like(mean))
        z = q.sample(noise)
        prior = Gaussian(z.sum(1, keepdim=True), torch.tensor(math.log(0.3)))
        second = prior.sample(noise)
        latents = (Latent(z, q, StandardNormal(z)), Latent(second, prior, prior))
        return Trace(Gaussian(x, torch.tensor(0.0)), x, latents)

    def sample(self, count, *, noise, temperature=1.0):
        raise NotImplementedError


X = torch.randn(500, 1, 4, generator=torch.Generator().manual_seed(0))


def test_the_kl_is_the_closed_form_and_only_what_answers_to_the_data_is_active():
    first, second = units(Known(), X.split(64))
    assert first.shape == (2,) and second.shape == (1,)
    means = 2.0 * X.flatten(1).mean(1)
    assert first.per_unit == pytest.approx((0.5 * means.square().mean().item(), 0.5 * 0.7**2), abs=1e-5)
    assert first.kl.value == pytest.approx(sum(first.per_unit), abs=1e-9)
    assert first.active == 1  # the second unit of the first latent is away from its prior, and deaf
    assert second.active == 0 and second.kl.value == pytest.approx(0.0, abs=1e-9)


class Ladder(LatentVariableModel):
    """z_1 is deaf; the means of z_2 are b z_1, a x + b z_1, and 0.02 x, in prior standard deviations 0.5."""

    a, b = 0.6, 0.5

    def trace(self, x, *, noise):
        x = x.flatten(1)[:, :1].double()
        q = Gaussian(torch.zeros_like(x), torch.zeros_like(x))
        z = q.sample(noise)
        prior = Gaussian(torch.cat([z, z, z], 1), torch.tensor(math.log(0.5)))
        shift = torch.cat([self.b * z, self.a * x + self.b * z, 0.02 * x], 1)
        second = Gaussian(prior.mean + 0.5 * shift, prior.log_std)
        latents = (Latent(z, q, StandardNormal(z)), Latent(second.sample(noise), second, prior))
        return Trace(Gaussian(x, torch.tensor(0.0)), x, latents)


def test_draws_of_the_levels_above_make_no_unit_active():
    """A_j = a^2 Var x, whatever b: the second draw of an image shares its x and nothing else."""
    first, second = units(Ladder(), X.split(100))
    assert first.active == 0 and first.answers == (0.0,)
    error = (0.5**2 + 0.6**2) / math.sqrt(len(X))  # of one covariance
    wanted = (0.0, 0.36 * X[:, 0, 0].var().item(), 0.0004)
    assert second.answers == pytest.approx(wanted, abs=3 * error)
    assert second.answers[2] == pytest.approx(0.0004, rel=0.2) and second.active == 1
    a, b = units(Ladder(), [X])[1], units(Ladder(), X.split(7))[1]
    assert a.answers == pytest.approx(b.answers, abs=1e-12) and a.active == b.active


def test_without_levels_above_the_answer_is_the_variance_of_the_means():
    means = 2.0 * X.flatten(1).mean(1)
    first = units(Known(), [X])[0]
    assert first.answers == pytest.approx((means.var(correction=0).item(), 0.0), abs=1e-6)


def test_the_spread_is_the_standard_error_over_images_and_batches_do_not_matter():
    a, b = units(Known(), [X])[0], units(Known(), X.split(7))[0]
    assert a.kl.value == pytest.approx(b.kl.value, rel=1e-9)
    each = 0.5 * (2.0 * X.flatten(1).mean(1)) ** 2
    assert a.kl.spread == pytest.approx(float(each.std() / math.sqrt(500)), rel=0.01)


def test_means_are_told_in_standard_deviations_of_the_prior():
    mean, prior = torch.full((2, 3), 1.5), Gaussian(torch.full((2, 3), 0.5), torch.tensor(math.log(0.25)))
    latent = Latent(mean, Gaussian(mean, torch.zeros(())), prior)
    torch.testing.assert_close(standardised(latent), torch.full((2, 3), 4.0))


class Pairs(LatentVariableModel):
    """A latent of two units drawn n times for an example, its means k x and 1 at draw k = 0, 1 ..."""

    def __init__(self, draws):
        super().__init__()
        self.draws = draws

    @property
    def conditional(self):
        return Conditional("half given the other", ("halving",))

    def trace(self, x, *, noise):
        k = torch.arange(self.draws, dtype=torch.float64)[None, :, None]
        mean = torch.cat([k * x.flatten(1)[:, :1, None].double(), torch.ones(len(x), self.draws, 1)], 2)
        q = Gaussian(mean, torch.zeros_like(mean))
        return Trace(Gaussian(x, torch.tensor(0.0)), x, (Latent(q.sample(noise), q, StandardNormal(mean)),))

    sample = Known.sample


@pytest.mark.parametrize("draws", [1, 3, 8])
def test_a_latent_drawn_several_times_has_the_units_and_the_kl_of_one_draw(draws):
    """The mean over draws of (k x)^2 / 2, and 1/2: however many are drawn, two units."""
    (found,) = units(Pairs(draws), X.split(64))
    each = 0.5 * X.flatten(1)[:, 0].double() ** 2 * sum(k * k for k in range(draws)) / draws
    assert found.shape == (2,) and found.name == "halving"
    assert found.per_unit == pytest.approx((each.mean().item(), 0.5))
    assert found.kl.value == pytest.approx(sum(found.per_unit))
    assert found.kl.spread == pytest.approx(float(each.std()) / math.sqrt(len(X)))
    assert found.active == 0 and found.answers == ()  # never called active, for draws differ in their times


def test_a_model_without_latents_has_no_units():
    class Plain(Known):
        def trace(self, x, *, noise):
            return Trace(Gaussian(x, torch.tensor(0.0)), x)

    assert units(Plain(), [X]) == ()
