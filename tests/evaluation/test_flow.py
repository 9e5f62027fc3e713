"""Bits per dimension by the flow: exact for known data, a bound on grey levels, refused where meaningless."""

import math
from dataclasses import replace

import pytest
import torch

from sfumato.core.errors import DataError, DivergedError, UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import LogSnrLine
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.evaluation import flow
from sfumato.evaluation.bits import CODE, DENSITY, bound_of
from sfumato.evaluation.flow import Flow, flow_log_prob, flow_method, trial
from sfumato.guidance.classifier import ClassPosterior
from sfumato.models.codec import Pixels
from sfumato.models.conditioner import ClassLabel
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.models.guides import ByClassifier
from sfumato.models.prior import StandardNormalPrior
from sfumato.objectives.estimate import ends
from sfumato.samplers.likelihood import Hutchinson

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


# ------------------------------------------------------------------------------ outer bins, ranges, words


def points(value):
    """An image of three numbers that is always the same, as an exact denoiser of it sees it."""
    x = torch.full((50, 3), value, dtype=F64)
    denoiser = MixtureDenoiser(torch.ones(1, dtype=F64), x[:1], torch.zeros(1, dtype=F64))
    return x, Generator(Pixels(), Diffusion(denoiser, BetaTable(linear_betas()), (3,)))


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_a_constant_image_at_an_end_of_256_levels_has_the_mass_of_its_open_bin(end):
    """Last noise 1.28 bins: -log2 Phi(w/2s) = 0.62 bits a number, where a bin closed outwards takes 1.71."""
    x, model = points(end)
    found = flow_log_prob(model, batch(x), 256, noise=Noise(range(50)), how=Flow(tolerance=1e-6))
    bits = bound_of("ODE", found, 3, CODE).bits
    table = BetaTable(linear_betas())
    edge = (1 / 255) / math.exp(-0.5 * ends(table)[1])
    exact = -math.log2(0.5 + 0.5 * math.erf(edge / math.sqrt(2)))
    shut = -math.log2(math.erf(edge / math.sqrt(2)))
    assert (exact, shut) == (pytest.approx(0.62, abs=0.01), pytest.approx(1.71, abs=0.01))
    assert bits.value == pytest.approx(exact, abs=0.01)
    inner, middle = points(1 / 255)  # the same image between the ends keeps its closed bin
    between = flow_log_prob(middle, batch(inner), 256, noise=Noise(range(50)), how=Flow(tolerance=1e-6))
    assert bound_of("ODE", between, 3, CODE).bits.value == pytest.approx(shut, abs=0.01)


def test_data_about_an_end_come_near_the_mass_of_the_open_bin():
    """N(-1, 0.1^2), last noise 0.1: near log 1 where the closed bin cannot pass log 0.87."""
    denoiser = GaussianDenoiser(torch.tensor(-1.0, dtype=F64), torch.tensor(0.1, dtype=F64))
    model = generator(denoiser, (1,), high=-2 * math.log(0.1))
    x, how = torch.full((2000, 1), -1.0, dtype=F64), Flow(tolerance=1e-5)
    found = float(flow_log_prob(model, batch(x), 9, noise=Noise(range(2000)), how=how).mean())
    spread = 0.1 * math.sqrt(2.0)  # of the data and the last noise
    mass, shut = (a + (1 - a) * math.erf(0.125 / spread / math.sqrt(2)) for a in (0.5, 0.0))
    assert math.log(shut) + 0.2 < found < math.log(mass) + 0.01
    assert found == pytest.approx(math.log(mass), abs=0.15)


def test_floats_of_another_unit_are_refused_and_a_little_beyond_is_not():
    denoiser = GaussianDenoiser(torch.tensor(0.0, dtype=F64), torch.tensor(0.3, dtype=F64))
    model = generator(denoiser, (3,))
    x = torch.linspace(-1.0, 1.3, 3, dtype=F64).repeat(2, 1)
    assert torch.isfinite(flow_log_prob(model, batch(x), None, noise=Noise(range(2)))).all()
    for wrong in (2.0 * x, 508.8 * x, x * math.nan):
        with pytest.raises(DataError, match="far beyond the run's range"):
            flow_log_prob(model, batch(wrong), None, noise=Noise(range(2)))


def test_the_method_names_all_that_changes_the_number():
    _, _, denoiser = pictures()
    model = generator(denoiser, (1, 2, 2))
    told = flow_method(model, LEVELS, Flow(draws=2, tolerance=1e-3))
    assert told.startswith("2 draws of truncated normal") and "exact divergence" in told
    assert "tolerance 0.001" in told and "log-SNR -13.0 ... 13.0" in told
    other = flow_method(model, LEVELS, Flow(uniform=True, divergence=Hutchinson(3)), Plan(scale=2.0))
    assert "1 draw of uniform" in other and "3 Rademacher probes" in other and "guidance 2" in other
    assert "dequantisation" not in flow_method(model, None, Flow())


# ------------------------------------------------------------------------------- which law of dequantisation


@pytest.mark.parametrize(("std", "last"), [(0.25, 0.01), (1e-5, 0.01)], ids=["flat", "sharp"])
def test_the_law_that_a_trial_prefers_has_the_exact_mass_of_a_bin(std, last):
    """N(level, std^2), 17 levels, a last noise of a hundredth of a bin: -log2 of the bin's mass is the truth.

    Where the density is flat across the bin uniform noise is near it; where it is the last noise, the normal.
    """
    width, model = 2 / 16, generator(GaussianDenoiser(0.0, std), (2,), high=-2 * math.log(last * 2 / 16))
    x = torch.zeros(60, 2, dtype=F64)
    found = trial(model, batch(x), 17, at=range(60))
    truth = -math.log2(math.erf(0.5 * width / math.hypot(std, last * width) / math.sqrt(2.0)))
    right, wrong = (found.uniform, found.normal) if std > width else (found.normal, found.uniform)
    assert found.count == 60 and found.prefers_uniform == (std > width)
    assert right == pytest.approx(truth, abs=0.06) and wrong > truth + 1.0


def test_a_law_whose_flow_cannot_be_solved_is_not_preferred(monkeypatch):
    x, _, denoiser = pictures()
    model, solve = generator(denoiser, (1, 2, 2)), flow.flow_log_prob

    def fails(*args, how, **rest):
        if how.uniform:
            raise DivergedError("steps too small")
        return solve(*args, how=how, **rest)

    monkeypatch.setattr(flow, "flow_log_prob", fails)
    found = trial(model, batch(x), LEVELS, at=range(4))
    assert found.uniform == math.inf and math.isfinite(found.normal) and not found.prefers_uniform
