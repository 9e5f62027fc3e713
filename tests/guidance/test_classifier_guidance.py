"""Classifier guidance is exact where the classifier is: Bayes' rule with the posteriors of a mixture."""

import math

import pytest
import torch

from sfumato.core.condition import NOTHING, Condition
from sfumato.core.noise import Noise
from sfumato.diffusion.denoiser import Clipped
from sfumato.diffusion.exact import MixtureDenoiser
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving
from sfumato.diffusion.transition import LargeVariance, SmallVariance
from sfumato.guidance.classifier import ClassifierGuided, ClassPosterior, Unguided, class_gradient
from sfumato.guidance.classifier_free import ClassifierFree
from sfumato.models.guides import ByClassifier
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import levels_at
from sfumato.samplers.heun import Heun
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

F64 = torch.float64
PATHS = [VariancePreserving(), VarianceExploding(), SubVariancePreserving(), Linear()]
LABEL = torch.tensor([0, 1, 2, 1])
COND = Condition(label=LABEL)


def world():
    """Three Gaussians in the plane, of unlike weights and widths."""
    return MixtureDenoiser(
        torch.tensor([0.2, 0.5, 0.3], dtype=F64),
        torch.tensor([[-1.0, 0.2], [0.8, 0.9], [0.3, -1.1]], dtype=F64),
        torch.tensor([0.3, 0.5, 0.2], dtype=F64),
    )


class Exact(ClassPosterior):
    """p(component given x_t) of a mixture; counts how often it is asked."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture, self.calls = mixture, 0
        m = mixture
        self.parts = [
            MixtureDenoiser(torch.ones(1, dtype=F64), m.means[k : k + 1], m.stds[k : k + 1]) for k in range(3)
        ]

    def forward(self, x_t, level):
        self.calls += 1
        joint = [part.log_prob(x_t, level) for part in self.parts]
        return torch.stack(joint, 1) + torch.log(self.mixture.weights)


class Unconditional(MixtureDenoiser):
    """The mixture as a model that was never told of classes."""

    def forward(self, x_t, level, cond=NOTHING):
        assert cond.label is None, "an unconditional model must not see the label"
        return super().forward(x_t, level, cond)


def unconditional():
    m = world()
    return Unconditional(m.weights, m.means, m.stds)


def x():
    return torch.tensor([[-0.5, 0.3], [0.2, 0.1], [0.9, -1.4], [0.0, 2.0]], dtype=F64)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("log_snr", [-6.0, -1.0, 0.3, 3.0])
def test_scale_one_of_the_unconditional_model_is_the_conditional_model(path, log_snr):
    level = path.level(log_snr)
    at = level.mix(x(), torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0)))
    guided = ClassifierGuided(unconditional(), Exact(world()), 1.0)(at, level, COND)
    assert torch.allclose(guided.mean, world()(at, level, COND).mean, atol=1e-9, rtol=0)


def test_scale_zero_is_the_unconditional_model_to_the_bit_without_a_gradient():
    level, judge = VariancePreserving().level(0.3), Exact(world())
    guided = ClassifierGuided(unconditional(), judge, 0.0)(x(), level, COND)
    assert torch.equal(guided.mean, world()(x(), level).mean) and judge.calls == 0


def test_a_model_that_is_told_the_class_is_itself_at_one_and_unconditional_at_zero():
    level, judge = VariancePreserving().level(0.3), Exact(world())
    for scale, cond in ((1.0, COND), (0.0, NOTHING)):
        guided = ClassifierGuided(world(), judge, scale, told=True)(x(), level, COND)
        assert torch.equal(guided.mean, world()(x(), level, cond).mean)
    assert judge.calls == 0


@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("told", [False, True])
def test_classifier_and_classifier_free_guidance_agree_where_both_are_exact(scale, told):
    """q(x) p(y given x)^gamma, whichever of the three densities is asked for its gradient."""
    level = VariancePreserving().level(-0.4)
    model = world() if told else unconditional()
    by_classifier = ClassifierGuided(model, Exact(world()), scale, told=told)(x(), level, COND).mean
    assert torch.allclose(by_classifier, ClassifierFree(world(), scale)(x(), level, COND).mean, atol=1e-9)


def test_the_shift_of_the_noise_is_the_papers():
    """eps' = eps - s sigma grad log p (Dhariwal & Nichol 2021, alg. 2, sigma = sqrt(1 - alpha_bar))."""
    level, judge = VariancePreserving().level(0.7), Exact(world())
    guided = ClassifierGuided(unconditional(), judge, 3.0)(x(), level, COND).eps(x(), level)
    plain = world()(x(), level).eps(x(), level)
    expected = plain - 3.0 * level.sigma * class_gradient(judge, x(), level, LABEL)
    assert torch.allclose(guided, expected, atol=1e-10)


def test_gradients_are_the_same_in_inference_mode():
    level = VariancePreserving().level(0.3)
    outside = ClassifierGuided(unconditional(), Exact(world()), 2.0)(x(), level, COND).mean
    batched = Level(*(torch.full((4,), v, dtype=F64) for v in (level.alpha, level.sigma)))
    with torch.inference_mode():
        label = LABEL.clone()
        guide = ClassifierGuided(unconditional(), Exact(world()), 2.0)
        inside = guide(x(), level, Condition(label=label)).mean
        per_sample = guide(
            x(), Level(batched.alpha.clone(), batched.sigma.clone()), Condition(label=label)
        ).mean
    assert torch.equal(outside, inside) and not inside.requires_grad
    assert torch.allclose(per_sample, outside, atol=1e-10)


def test_levels_and_absent_labels_count_per_sample():
    judge = Exact(world())
    levels = [VariancePreserving().level(v) for v in (-3.0, 0.0, 1.0, 5.0)]
    batch = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=F64).T)
    guide = ClassifierGuided(unconditional(), judge, 2.5, interval=(-1.0, 2.0))
    cond = COND.drop(torch.tensor([True, True, False, True]))
    together = guide(x(), batch, cond).mean
    for i, level in enumerate(levels):
        one = Condition(label=LABEL[i : i + 1])
        alone = guide(x()[i : i + 1], level, one).mean
        expected = world()(x()[i : i + 1], level).mean if i == 2 else alone
        assert torch.allclose(together[i], expected[0], atol=1e-10)


@pytest.mark.parametrize("told", [False, True])
def test_outside_the_interval_the_classifier_is_not_asked_and_the_model_is_itself(told):
    """A model that is not told the class is unconditional there, one that is told conditional, to the bit."""
    level, judge, path = VariancePreserving().level(4.0), Exact(world()), VariancePreserving()
    model = world() if told else unconditional()
    guide = ClassifierGuided(model, judge, 5.0, interval=(-1.0, 2.0), told=told)
    expected = world()(x(), level, COND if told else NOTHING).mean
    assert torch.equal(guide(x(), level, COND).mean, expected) and judge.calls == 0
    some = path.level(torch.tensor([4.0, 0.5, 4.0, 0.5], dtype=F64))
    mixed, plain = guide(x(), some, COND).mean, model(x(), some, COND if told else NOTHING).mean
    assert torch.equal(mixed[::2], plain[::2]) and not torch.allclose(mixed[1::2], plain[1::2])


def test_pure_noise_is_not_classified():
    judge = Exact(world())
    guide = ClassifierGuided(unconditional(), judge, 2.0)
    assert torch.equal(guide(x(), Level(0.0, 1.0), COND).mean, world()(x(), Level(0.0, 1.0)).mean)
    assert judge.calls == 0
    mixed = Level(torch.tensor([0.0, 0.5, 0.5, 0.5], dtype=F64), torch.ones(4, dtype=F64))
    assert torch.isfinite(guide(x(), mixed, COND).mean).all()


def test_guidance_to_no_class_is_refused():
    with pytest.raises(ValueError, match="label"):
        ClassifierGuided(unconditional(), Exact(world()), 2.0)(x(), VariancePreserving().level(0.0))


@pytest.mark.parametrize("solver", [Ddim(), Heun(), UniPC()], ids=lambda s: type(s).__name__)
def test_every_solver_honours_it(solver):
    """The guided unconditional model at scale 1 ends where the conditional model ends."""
    levels = [*levels_at(VariancePreserving(), torch.linspace(-7.0, 7.0, 24, dtype=F64)), CLEAN]
    guided, same = ByClassifier(Exact(world()), told=False).steer(unconditional(), solver, 1.0, None)
    assert same is solver
    start = x() * levels[0].sigma
    expected = integrate(world(), solver, levels, start, cond=COND)
    assert torch.allclose(integrate(guided, solver, levels, start, cond=COND), expected, atol=1e-7)


# ------------------------------------------------------------------------------- the ancestral step


@pytest.mark.parametrize("variance", [SmallVariance(), LargeVariance()], ids=lambda v: type(v).__name__)
def test_an_ancestral_step_is_shifted_by_s_sigma_g(variance):
    """x_s(guided) - x_s = s Sigma grad log p(y given x_t), with the same noise."""
    t, s = (VariancePreserving().level(v) for v in (-0.5, 0.4))
    judge = Exact(world())
    denoiser, solver = ByClassifier(judge, told=False).steer(unconditional(), Ancestral(variance), 2.0, None)
    assert isinstance(denoiser, Unguided)
    noise = [Noise([1, 2, 3, 4]) for _ in range(2)]
    guided, _ = solver.step(denoiser, x(), t, s, None, cond=COND, noise=noise[0])
    plain, _ = Ancestral(variance).step(world(), x(), t, s, None, noise=noise[1])
    shift = 2.0 * variance(t, s, world()(x(), t)) * class_gradient(judge, x(), t, LABEL)
    assert torch.allclose(guided - plain, shift, atol=1e-12)


@pytest.mark.parametrize("variance", [SmallVariance(), LargeVariance()], ids=lambda v: type(v).__name__)
def test_both_forms_agree_in_the_limit_of_small_steps(variance):
    """The ratio of the two shifts goes to 1 linearly in the step: halving it halves the difference."""

    def apart(step):
        t, s = (VariancePreserving().level(v) for v in (0.2, 0.2 + step))
        guide, mean = ByClassifier(Exact(world()), told=False), Ancestral(variance)
        tilted, solver = guide.steer(unconditional(), mean, 2.0, None)
        score = ClassifierGuided(unconditional(), Exact(world()), 2.0)
        x_s = [
            each.step(den, x(), t, s, None, cond=COND, noise=Noise([1, 2, 3, 4]))[0]
            for den, each in ((tilted, solver), (score, mean), (Unguided(score), mean))
        ]
        return float((x_s[0] - x_s[1]).norm() / (x_s[1] - x_s[2]).norm())

    slope = math.log2(apart(0.02) / apart(0.01))
    assert apart(0.01) < 0.01 and abs(slope - 1.0) < 0.1


def test_ancestral_guidance_at_scale_one_reaches_the_component():
    """Many guided ancestral steps of the unconditional mixture draw from the wanted component."""
    count, k = 4000, 2
    levels = [*levels_at(VariancePreserving(), torch.linspace(-8.0, 8.0, 150, dtype=F64)), CLEAN]
    denoiser, solver = ByClassifier(Exact(world()), told=False).steer(unconditional(), Ancestral(), 1.0, None)
    noise = Noise([5], rows=count)
    start = noise.normal((count, 2), F64)
    label = torch.full((count,), k)
    with torch.inference_mode():
        drawn = integrate(denoiser, solver, levels, start, cond=Condition(label=label), noise=noise)
    m = world()
    assert torch.allclose(drawn.mean(0), m.means[k], atol=0.02)
    assert torch.allclose(drawn.std(0), m.stds[k].expand(2), atol=0.015)


def test_guidance_stacks_with_clipping():
    levels = [*levels_at(VariancePreserving(), torch.linspace(-7.0, 7.0, 12, dtype=F64)), CLEAN]
    guided = Clipped(ClassifierGuided(unconditional(), Exact(world()), 4.0))
    assert (integrate(guided, UniPC(), levels, x(), cond=COND).abs() <= 1 + 1e-9).all()


@pytest.mark.parametrize(
    "bad", [{"scale": -1.0}, {"scale": math.nan}, {"scale": math.inf}, {"scale": 2.0, "interval": (1.0, 1.0)}]
)
def test_impossible_strengths_are_refused(bad):
    with pytest.raises(ValueError, match=r"scale|interval"):
        ClassifierGuided(unconditional(), Exact(world()), **bad)
