"""Autoguidance: its identities are exact, and it repairs the errors that guide and model share."""

import pytest
import torch

from sfumato.core.condition import NOTHING, Condition
from sfumato.diffusion.denoiser import Denoiser, Posterior
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import Level
from sfumato.diffusion.paths import VariancePreserving
from sfumato.guidance.auto import Autoguided
from sfumato.guidance.classifier_free import ClassifierFree
from sfumato.models.guides import ByModel
from sfumato.samplers.ancestral import Ancestral

F64 = torch.float64
LEVEL = VariancePreserving().level(0.2)


class Erring(Denoiser):
    """The exact Gaussian denoiser plus an error that grows with the square of the state."""

    def __init__(self, error):
        super().__init__()
        self.inner, self.error, self.calls = GaussianDenoiser(torch.tensor(0.5, dtype=F64), 0.4), error, 0

    def forward(self, x_t, level, cond=NOTHING):
        self.calls += 1
        answer = self.inner(x_t, level)
        return Posterior(answer.mean + self.error * x_t**2, answer.var)


def x():
    return torch.tensor([[-0.7], [0.1], [1.2]], dtype=F64)


def test_scale_one_is_the_model_and_never_asks_the_guide():
    model, guide = Erring(0.1), Erring(0.3)
    guided = Autoguided(model, guide, 1.0)(x(), LEVEL)
    assert torch.equal(guided.mean, Erring(0.1)(x(), LEVEL).mean) and guide.calls == 0


def test_scale_zero_is_the_guide_and_never_asks_the_model():
    model, guide = Erring(0.1), Erring(0.3)
    guided = Autoguided(model, guide, 0.0)(x(), LEVEL)
    assert torch.equal(guided.mean, Erring(0.3)(x(), LEVEL).mean) and model.calls == 0


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_a_model_guided_by_itself_is_itself(scale):
    guided = Autoguided(Erring(0.2), Erring(0.2), scale)(x(), LEVEL)
    assert torch.allclose(guided.mean, Erring(0.2)(x(), LEVEL).mean, atol=1e-14)


def test_an_error_made_three_times_as_large_by_the_guide_is_gone_at_one_and_a_half():
    """mean = truth + e (3 + scale (1 - 3)) = truth at scale 3/2: why a bad version guides well."""
    guided = Autoguided(Erring(0.1), Erring(0.3), 1.5)(x(), LEVEL)
    assert torch.allclose(guided.mean, Erring(0.0)(x(), LEVEL).mean, atol=1e-12)
    assert torch.equal(guided.var, Erring(0.1)(x(), LEVEL).var)


def test_outside_the_interval_the_model_answers_alone():
    guide = Erring(0.3)
    guided = Autoguided(Erring(0.1), guide, 2.0, interval=(-1.0, 1.0))
    for log_snr, asked in ((-1.2, 0), (0.0, 1), (1.2, 1)):
        level = VariancePreserving().level(log_snr)
        answer = guided(x(), level).mean
        assert guide.calls == asked
        if log_snr:
            assert torch.equal(answer, Erring(0.1)(x(), level).mean)


def test_levels_per_sample_respect_the_interval_per_sample():
    levels = [VariancePreserving().level(v) for v in (-2.0, 0.5, 4.0)]
    batch = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=F64).T)
    guided = Autoguided(Erring(0.1), Erring(0.3), 2.0, interval=(-1.0, 2.0))
    together = guided(x(), batch).mean
    for i, level in enumerate(levels):
        assert torch.allclose(together[i], guided(x()[i : i + 1], level).mean[0], atol=1e-12)


def test_a_guide_that_knows_no_class_is_classifier_free_guidance():
    """An unconditional model of its own in the guide's place gives Ho & Salimans' combination."""
    both = MixtureDenoiser(
        torch.tensor([0.4, 0.6], dtype=F64),
        torch.tensor([[-1.0], [1.0]], dtype=F64),
        torch.tensor([0.3, 0.4], dtype=F64),
    )
    cond = Condition(label=torch.tensor([0, 1, 1]))
    guided = Autoguided(both, both, 2.5, told=False)(x(), LEVEL, cond).mean
    assert torch.allclose(guided, ClassifierFree(both, 2.5)(x(), LEVEL, cond).mean, atol=1e-12)


def test_a_plans_guide_leaves_the_solver_alone():
    solver = Ancestral()
    guided, same = ByModel(Erring(0.3)).steer(Erring(0.1), solver, 2.0, (-1.0, 2.0))
    assert same is solver and isinstance(guided, Autoguided) and guided.strength.interval == (-1.0, 2.0)


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf")])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        Autoguided(Erring(0.1), Erring(0.2), scale)
