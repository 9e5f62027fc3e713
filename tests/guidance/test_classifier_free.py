"""Classifier-free guidance: its identities are exact, and its algebra is what the paper says."""

import pytest
import torch

from sfumato.core.condition import NOTHING, Condition
from sfumato.diffusion.denoiser import Clipped, Denoiser, Posterior
from sfumato.diffusion.exact import MixtureDenoiser
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import VariancePreserving
from sfumato.guidance.classifier_free import ClassifierFree
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate

F64 = torch.float64
LEVEL = VariancePreserving().level(0.3)
COND = Condition(label=torch.tensor([0, 1, 1]))


class Counted(Denoiser):
    """The exact class-conditional denoiser of two modes; keeps the sizes of the batches it was given."""

    def __init__(self):
        super().__init__()
        self.inner = MixtureDenoiser(
            torch.tensor([0.5, 0.5], dtype=F64),
            torch.tensor([[[-1.0]], [[1.0]]], dtype=F64),
            torch.tensor([0.3, 0.4], dtype=F64),
        )
        self.batches = []

    def forward(self, x_t, level, cond=NOTHING):
        self.batches.append(len(x_t))
        return self.inner(x_t, level, cond)


def x():
    return torch.tensor([[[-0.5]], [[0.2]], [[0.9]]], dtype=F64)


def null(cond):
    return cond.drop(torch.zeros(3, dtype=torch.bool))


def test_scale_one_is_the_conditional_model_in_one_forward():
    den = Counted()
    guided = ClassifierFree(den, 1.0)(x(), LEVEL, COND)
    assert torch.equal(guided.mean, den.inner(x(), LEVEL, COND).mean) and den.batches == [3]


def test_scale_zero_is_the_unconditional_model_in_one_forward():
    den = Counted()
    guided = ClassifierFree(den, 0.0)(x(), LEVEL, COND)
    assert torch.equal(guided.mean, den.inner(x(), LEVEL).mean) and den.batches == [3]


def test_without_a_condition_there_is_one_forward():
    den = Counted()
    guided = ClassifierFree(den, 3.0)(x(), LEVEL)
    assert torch.equal(guided.mean, den.inner(x(), LEVEL).mean) and den.batches == [3]


@pytest.mark.parametrize("scale", [0.4, 1.7, 4.0])
def test_guided_noise_is_the_papers_combination(scale):
    """eps = eps(nothing) + scale (eps(cond) - eps(nothing)), from one batch of twice the size."""
    den = Counted()
    guided = ClassifierFree(den, scale)(x(), LEVEL, COND).eps(x(), LEVEL)
    cond, free = (den.inner(x(), LEVEL, c).eps(x(), LEVEL) for c in (COND, null(COND)))
    assert torch.allclose(guided, free + scale * (cond - free), atol=1e-12) and den.batches == [6]


def test_guided_score_is_the_gradient_of_the_tilted_density():
    """score = grad log q(x_t) + scale grad log q(cond | x_t), with q(cond | x_t) by autograd."""
    den, at = Counted(), x().requires_grad_()
    joint = den.inner.log_prob(at, LEVEL)
    single = MixtureDenoiser(torch.ones(1, dtype=F64), den.inner.means[1:], den.inner.stds[1:])
    classifier = single.log_prob(at, LEVEL) - joint
    (prior,) = torch.autograd.grad(joint.sum(), at, retain_graph=True)
    (tilt,) = torch.autograd.grad(classifier.sum(), at)
    cond = Condition(label=torch.ones(3, dtype=torch.long))
    guided = ClassifierFree(den, 2.5)(x(), LEVEL, cond).score(x(), LEVEL)
    assert torch.allclose(guided, prior + 2.5 * tilt, atol=1e-10)


def test_outside_the_interval_the_conditional_model_answers_alone():
    den = Counted()
    guide = ClassifierFree(den, 3.0, interval=(-1.0, 2.0))
    for log_snr, batch in ((-1.1, 3), (-0.9, 6), (1.9, 6), (2.1, 3)):
        level = VariancePreserving().level(log_snr)
        guided = guide(x(), level, COND)
        assert den.batches.pop() == batch
        if batch == 3:
            assert torch.equal(guided.mean, den.inner(x(), level, COND).mean)


def test_levels_per_sample_respect_the_interval_per_sample():
    levels = [VariancePreserving().level(v) for v in (-2.0, 0.5, 4.0)]
    batch = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=F64).T)
    guide = ClassifierFree(Counted(), 3.0, interval=(-1.0, 2.0))
    together = guide(x(), batch, COND)
    for i, level in enumerate(levels):
        alone = guide(x()[i : i + 1], level, Condition(label=COND.label[i : i + 1]))
        assert torch.allclose(together.mean[i], alone.mean[0], atol=1e-12)
        assert torch.allclose(together.var[i], alone.var[0], atol=1e-12)


def test_samples_without_a_condition_are_not_guided():
    """present = False per sample: conditional and unconditional answers coincide there."""
    den, cond = Counted(), COND.drop(torch.tensor([True, False, True]))
    guided = ClassifierFree(den, 3.0)(x(), LEVEL, cond).mean
    assert torch.allclose(guided[1], den.inner(x(), LEVEL).mean[1], atol=1e-12)
    assert not torch.allclose(guided[0], den.inner(x(), LEVEL).mean[0], atol=1e-3)


def test_guidance_stacks_with_clipping_and_solvers():
    levels = [VariancePreserving().level(v) for v in (-6.0, -3.0, 0.0, 3.0, 6.0)]
    wrapped = Clipped(ClassifierFree(Counted(), 2.0))
    out = integrate(wrapped, DpmPlusPlus2M(), [*levels, CLEAN], x(), cond=COND)
    assert (out.abs() <= 1 + 1e-12).all() and bool((out[0] < 0) & (out[1] > 0))


class TwoHalves(Denoiser):
    """Gives variance and fraction that name the half of the batch."""

    def forward(self, x_t, level, cond=NOTHING):
        half = cond.present.to(x_t.dtype)[:, None, None].expand_as(x_t)
        return Posterior(x_t, half, half)


def test_variances_are_those_of_the_conditional_half():
    guided = ClassifierFree(TwoHalves(), 2.0)(x(), LEVEL, COND)
    assert torch.equal(guided.var, torch.ones_like(x())) and torch.equal(
        guided.fraction, torch.ones_like(x())
    )


@pytest.mark.parametrize(
    "bad", [{"scale": -1.0}, {"scale": float("nan")}, {"scale": 2.0, "interval": (1.0, -1.0)}]
)
def test_impossible_guidance_is_refused(bad):
    with pytest.raises(ValueError, match=r"scale|interval"):
        ClassifierFree(Counted(), **bad)
