"""Bits per dimension by the flow: exact for known data, a bound on grey levels, refused where meaningless."""

import math
from dataclasses import replace

import pytest
import torch

from sfumato.core.errors import DataError, UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import LogSnrLine
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.evaluation.bits import DENSITY, bound_of
from sfumato.evaluation.flow import Flow, flow_log_prob
from sfumato.guidance.classifier import ClassPosterior
from sfumato.models.codec import Pixels
from sfumato.models.conditioner import ClassLabel
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.models.guides import ByClassifier
from sfumato.models.prior import StandardNormalPrior

F64 = torch.float64
LEVELS = 5


def generator(denoiser, shape, conditioner=None, high=13.0):
    return Generator(Pixels(), Diffusion(denoiser, LogSnrLine(-13.0, high), shape), conditioner)


def batch(x, label=None):
    return Batch(x, label, torch.arange(len(x)))


def pictures():
    """Four 2 x 2 pictures on five grey levels, with probabilities 0.4, 0.3, 0.2, 0.1."""
    steps = torch.tensor([[0, 1, 2, 3], [4, 4, 0, 0], [2, 2, 2, 2], [1, 0, 3, 4]], dtype=F64).view(4, 1, 2, 2)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64)
    x = 2.0 * steps / (LEVELS - 1) - 1.0
    return x, weights, MixtureDenoiser(weights, x, torch.zeros(4, dtype=F64))


def test_pictures_on_grey_levels_have_their_probability():
    """A model of points: the bound is log P(x) itself, where uniform dequantisation loses many nats."""
    x, weights, denoiser = pictures()
    model = generator(denoiser, (1, 2, 2))
    how = Flow(tolerance=1e-6, draws=4)
    found = flow_log_prob(model, batch(x), LEVELS, noise=Noise(range(4)), how=how)
    assert torch.allclose(found, weights.log(), rtol=0, atol=0.01)


def test_uniform_noise_costs_bits_where_the_model_knows_the_levels():
    """At a last level of a sixteenth of a bin: many nats, though it is a bound as well."""
    x, weights, denoiser = pictures()
    model, how = generator(denoiser, (1, 2, 2), high=7.0), Flow(tolerance=1e-5)
    tight, loose = (
        flow_log_prob(model, batch(x), LEVELS, noise=Noise(range(4)), how=replace(how, uniform=uniform))
        for uniform in (False, True)
    )
    assert torch.allclose(tight, weights.log(), rtol=0, atol=0.05)
    assert bool((loose < tight - 5.0).all())


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 2, 2)], ids=str)
def test_floats_have_their_entropy(shape):
    denoiser = GaussianDenoiser(torch.tensor(0.1, dtype=F64), torch.tensor(0.3, dtype=F64))
    x = 0.1 + 0.3 * Noise([0], rows=400).normal((400, *shape), F64)
    nats = flow_log_prob(generator(denoiser, shape), batch(x), None, noise=Noise(range(400)))
    found = bound_of("ODE", nats, x[0].numel(), DENSITY)
    exact = -torch.distributions.Normal(0.1, 0.3).log_prob(x).mean() / math.log(2.0)
    assert found.bits.value == pytest.approx(float(exact), abs=0.002)
    assert found.unit == DENSITY and found.count == 400


def test_the_batch_does_not_matter():
    x, _, denoiser = pictures()
    model = generator(denoiser, (1, 2, 2))
    together = flow_log_prob(model, batch(x), LEVELS, noise=Noise(range(4)))
    apart = [flow_log_prob(model, batch(x[i : i + 1]), LEVELS, noise=Noise([i])) for i in range(4)]
    assert torch.allclose(together, torch.cat(apart), rtol=0, atol=1e-9)


def test_classes_and_guidance_enter_the_density():
    """p(x | class) sums to one over its own pictures; guidance moves mass between them."""
    x, weights, denoiser = pictures()
    model = generator(denoiser, (1, 2, 2), ClassLabel(4))
    one = flow_log_prob(
        model, batch(x, torch.arange(4)), LEVELS, noise=Noise(range(4)), how=Flow(tolerance=1e-6)
    )
    assert torch.allclose(one, torch.zeros(4, dtype=F64), atol=0.01)
    free = flow_log_prob(
        model,
        batch(x, torch.arange(4)),
        LEVELS,
        noise=Noise(range(4)),
        how=Flow(tolerance=1e-6),
        plan=replace(model.plan, scale=0.0),
    )
    assert torch.allclose(free, weights.log(), rtol=0, atol=0.02)
    with pytest.raises(DataError, match="labelled"):
        flow_log_prob(model, batch(x), LEVELS, noise=Noise(range(4)))


class Halves(ClassPosterior):
    def forward(self, x_t, level):
        return torch.stack([x_t.flatten(1).sum(1), torch.zeros(len(x_t), dtype=x_t.dtype)], 1)


def test_a_classifiers_second_derivative_is_not_taken_and_so_its_flow_is_refused():
    x, _, denoiser = pictures()
    model = generator(denoiser, (1, 2, 2), ClassLabel(4))
    plan = replace(model.plan, guide=ByClassifier(Halves(), told=True), scale=2.0)
    with pytest.raises(UsageError, match="needs its second derivative"):
        flow_log_prob(model, batch(x, torch.arange(4)), LEVELS, noise=Noise(range(4)), plan=plan)


def test_what_has_no_likelihood_is_refused_with_the_reason():
    x, _, denoiser = pictures()
    model = generator(denoiser, (1, 2, 2))
    with pytest.raises(DataError, match="between the run's 5 grey levels"):
        flow_log_prob(model, batch(0.9 * x), LEVELS, noise=Noise(range(4)))
    with pytest.raises(DataError, match="beyond the run's range"):
        flow_log_prob(model, batch(x * 3), LEVELS, noise=Noise(range(4)))
    latent = Generator(Pixels(), StandardNormalPrior(4))
    with pytest.raises(UsageError, match="no diffusion"):
        flow_log_prob(latent, batch(x), LEVELS, noise=Noise(range(4)))
    with pytest.raises(UsageError, match="tolerance"):
        Flow(tolerance=0.0)
    with pytest.raises(UsageError, match="at least one"):
        Flow(draws=0)
