"""The exact denoisers: against each other, against Tweedie's formulas, and against brute force."""

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.diffusion.exact import CorrelatedDenoiser, GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.paths import Linear, SubVariancePreserving, VarianceExploding, VariancePreserving

F64 = torch.float64
PATHS = [VariancePreserving(), VarianceExploding(), SubVariancePreserving(), Linear()]


def mixture():
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
    means = torch.tensor([[[-1.0, 0.5]], [[0.3, 0.3]], [[1.0, -0.8]]], dtype=F64)
    return MixtureDenoiser(weights, means, torch.tensor([0.3, 0.5, 0.2], dtype=F64))


def points(count=5, seed=0):
    return torch.randn(count, 1, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_tweedie_the_mean_is_the_score_of_the_noisy_density(path):
    """alpha mean = x_t + sigma^2 grad log q(x_t), the gradient by autograd."""
    level, den = path.level(-0.3), mixture()
    x = points().requires_grad_()
    (score,) = torch.autograd.grad(den.log_prob(x, level).sum(), x)
    assert torch.allclose(den(x, level).score(x, level), score, atol=1e-10)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_second_tweedie_the_variance_is_the_slope_of_the_mean(path):
    """var = sigma^2/alpha dmean/dx_t, element by element."""
    level, den = path.level(0.8), mixture()
    x = points()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: den(v[None], level).mean[0]))(x)
    slope = jacobian.reshape(5, 2, 2).diagonal(dim1=1, dim2=2).reshape(5, 1, 2)
    assert torch.allclose(den(x, level).var, level.sigma**2 / level.alpha * slope, atol=1e-10)


def test_posterior_mean_and_variance_by_numerical_integration():
    """One number per sample: integrate x q(x_t | x) p(x) on a grid."""
    den = MixtureDenoiser(*(torch.tensor(v, dtype=F64) for v in ([0.4, 0.6], [[-1.0], [0.8]], [0.3, 0.5])))
    level, x_t = PATHS[3].level(-1.0), torch.tensor([[0.3]], dtype=F64)
    x = torch.linspace(-8, 8, 200_001, dtype=F64)
    prior = sum(
        w * torch.exp(-0.5 * ((x - m) / s) ** 2) / s for w, m, s in ((0.4, -1.0, 0.3), (0.6, 0.8, 0.5))
    )
    joint = prior * torch.exp(-0.5 * ((x_t[0] - level.alpha * x) / level.sigma) ** 2)
    joint = joint / torch.trapezoid(joint, x)
    mean = torch.trapezoid(joint * x, x)
    var = torch.trapezoid(joint * (x - mean) ** 2, x)
    posterior = den(x_t, level)
    assert float(posterior.mean) == pytest.approx(float(mean), rel=1e-9)
    assert float(posterior.var) == pytest.approx(float(var), rel=1e-9)


@pytest.mark.parametrize("level", [PATHS[0].level(0.0), PATHS[1].level(-3.0), Level(0.0, 1.0), CLEAN])
def test_one_component_one_covariance_and_one_gaussian_agree(level):
    mean, std = torch.tensor([[0.4, -0.2]], dtype=F64), 0.6
    den = [
        GaussianDenoiser(mean, std),
        CorrelatedDenoiser(mean, std**2 * torch.eye(2, dtype=F64)),
        MixtureDenoiser(torch.ones(1, dtype=F64), mean[None], torch.tensor([std], dtype=F64)),
    ]
    answers = [d(points(), level) for d in den]
    for other in answers[1:]:
        assert torch.allclose(other.mean, answers[0].mean, atol=1e-12)
        assert torch.allclose(other.var, answers[0].var, atol=1e-12)


def test_correlated_gaussian_is_the_textbook_formula():
    g = torch.Generator().manual_seed(2)
    root = torch.randn(6, 6, dtype=F64, generator=g)
    cov, mean = root @ root.T, torch.randn(2, 3, dtype=F64, generator=g)
    x_t, level = torch.randn(4, 2, 3, dtype=F64, generator=g), PATHS[0].level(0.4)
    a, s = level.alpha, level.sigma
    gain = a * cov @ torch.linalg.inv(a * a * cov + s * s * torch.eye(6, dtype=F64))
    expected = mean.flatten() + (x_t.flatten(1) - a * mean.flatten()) @ gain.T
    posterior = CorrelatedDenoiser(mean, cov)(x_t, level)
    assert torch.allclose(posterior.mean.flatten(1), expected, atol=1e-10)
    assert torch.allclose(posterior.var[0].flatten(), (cov - a * gain @ cov).diagonal(), atol=1e-10)


def test_levels_per_sample_equal_floats():
    levels = [PATHS[0].level(v) for v in (-3.0, 0.0, 2.0, 5.0, 8.0)]
    batch = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=F64).T)
    cov = CorrelatedDenoiser(torch.zeros(1, 2, dtype=F64), torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=F64))
    for den in (mixture(), cov, GaussianDenoiser(0.3, 0.4)):
        together = den(points(), batch)
        for i, level in enumerate(levels):
            alone = den(points()[i : i + 1], level)
            assert torch.allclose(together.mean[i], alone.mean[0], atol=1e-13)
            assert torch.allclose(together.var[i], alone.var[0], atol=1e-13)
    assert torch.allclose(
        mixture().log_prob(points(), batch)[2], mixture().log_prob(points()[2:3], levels[2])[0]
    )


def test_a_label_picks_a_component_and_its_absence_none():
    den, level, x = mixture(), PATHS[0].level(0.5), points(2)
    label = torch.tensor([2, 1])
    some = den(x, level, Condition(label=label, present=torch.tensor([True, False])))
    only = GaussianDenoiser(den.means[2], den.stds[2])(x, level)
    assert torch.allclose(some.mean[0], only.mean[0]) and torch.allclose(some.mean[1], den(x, level).mean[1])


def test_samples_have_the_moments_of_the_mixture():
    """200,000 draws: mean and second moment within five standard errors."""
    den, n = mixture(), 200_000
    x = den.sample(Noise([1], rows=n), F64)
    mean = (den.weights[:, None, None] * den.means).sum(0)
    second = (den.weights[:, None, None] * (den.means**2 + den.stds[:, None, None] ** 2)).sum(0)
    spread = (second - mean**2).sqrt()
    assert (((x.mean(0) - mean) / spread).abs() < 5 / n**0.5).all()
    assert ((x**2).mean(0) - second).abs().max() < 5 * float((x**2).std(0).max()) / n**0.5


def test_a_covariance_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match="covariance"):
        CorrelatedDenoiser(torch.zeros(3), torch.eye(2))
