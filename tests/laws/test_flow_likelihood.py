"""The ODE's log-likelihood is the density of the data, whatever the path, the shape and the batch."""

import math

import pytest
import torch
from exact_worlds import F64, PATHS

from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.diffusion.denoiser import Posterior
from sfumato.diffusion.exact import CorrelatedDenoiser, GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.paths import VarianceExploding, VariancePreserving
from sfumato.guidance.classifier_free import ClassifierFree
from sfumato.samplers.likelihood import Exact, Hutchinson, log_likelihood

LOW, HIGH = -14.0, 14.0
SHAPES = [(1,), (3,), (2, 2, 2), (1, 2, 2, 2)]


def two_modes(shape):
    """0.3 N(-0.8, 0.2^2) + 0.7 N(0.6, 0.3^2), each over all elements of a shape."""
    means = torch.stack([torch.full(shape, -0.8, dtype=F64), torch.full(shape, 0.6, dtype=F64)])
    return MixtureDenoiser(torch.tensor([0.3, 0.7], dtype=F64), means, torch.tensor([0.2, 0.3], dtype=F64))


def bits(nats, x):
    return -nats / (x[0].numel() * math.log(2.0))


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_mixture_has_its_own_density_as_likelihood(shape, path):
    """Exact divergence: image by image within 0.002 bits/dim of log p, hence the entropy too."""
    world = two_modes(shape)
    x = world.sample(Noise(range(64)), F64)
    found = log_likelihood(world, path, x, LOW, HIGH, divergence=Exact(), tolerance=1e-6)
    gap = bits(found.log_prob, x) - bits(world.log_prob(x, CLEAN), x)
    assert float(gap.abs().max()) < 0.002
    assert float(gap.mean().abs()) < 2e-4


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_a_gaussian_has_its_entropy_as_mean_likelihood(path):
    """Correlated elements: log p of every point, and the noise the flow carries it to is white."""
    root = torch.tensor([[0.5, 0.0, 0.0], [0.3, 0.2, 0.0], [-0.1, 0.1, 0.4]], dtype=F64)
    mean, cov = torch.tensor([0.1, -0.2, 0.3], dtype=F64), root @ root.T
    z = Noise([1], rows=200).normal((200, 3), F64)
    x = mean + z @ root.T
    found = log_likelihood(CorrelatedDenoiser(mean, cov), path, x, LOW, HIGH, tolerance=1e-6)
    law = torch.distributions.MultivariateNormal(mean, cov)
    assert torch.allclose(found.log_prob, law.log_prob(x), rtol=0, atol=2e-3)
    assert torch.allclose(found.eps.square().sum(1), z.square().sum(1), rtol=0, atol=5e-3)


def test_float32_and_the_default_tolerance_are_enough():
    """Within 0.005 bits/dim of the density for every one of 64 images of 2 x 3 x 3 numbers."""
    world = two_modes((2, 3, 3)).float()
    x = world.sample(Noise(range(64)))
    found = log_likelihood(world, PATHS[0], x, -10.0, 13.0, divergence=Exact())
    gap = bits(found.log_prob, x) - bits(world.log_prob(x, CLEAN).double(), x)
    assert float(gap.abs().max()) < 0.005


@pytest.mark.parametrize("normal", [False, True])
def test_hutchinson_is_unbiased_and_signs_vary_least(normal):
    """On correlated data: the mean over probes is the exact value; an error far below the spread is seen."""
    root = torch.tensor([[0.5, 0.0], [0.4, 0.2]], dtype=F64)
    world = CorrelatedDenoiser(torch.zeros(2, dtype=F64), root @ root.T)
    x = torch.tensor([[0.3, 0.1]], dtype=F64).expand(4000, 2)
    exact = log_likelihood(world, PATHS[0], x[:1], LOW, HIGH, divergence=Exact()).log_prob
    one = log_likelihood(
        world, PATHS[0], x, LOW, HIGH, divergence=Hutchinson(normal=normal), noise=Noise([3], rows=4000)
    ).log_prob
    error, spread = float(one.mean() - exact), float(one.std())
    assert abs(error) < 4 * spread / math.sqrt(4000)
    assert (spread < 1.6) if not normal else (spread > 1.6)
    four = log_likelihood(
        world,
        PATHS[0],
        x[:1000],
        LOW,
        HIGH,
        divergence=Hutchinson(4, normal=normal),
        noise=Noise([5], rows=1000),
    ).log_prob
    assert float(four.std()) == pytest.approx(spread / 2, rel=0.15)


def test_signs_are_exact_where_elements_are_independent():
    world = GaussianDenoiser(torch.tensor(0.2, dtype=F64), torch.tensor(0.5, dtype=F64))
    x = torch.linspace(-1, 1, 12, dtype=F64).view(2, 6)
    exact, guess = (
        log_likelihood(world, PATHS[2], x, LOW, HIGH, divergence=d, noise=Noise([1, 2])).log_prob
        for d in (Exact(), Hutchinson())
    )
    assert torch.allclose(exact, guess, rtol=0, atol=1e-9)


def test_an_image_does_not_depend_on_its_batch():
    """Each row steps by its own error, with probes from its own seed."""
    world = two_modes((1, 4, 4))
    x = world.sample(Noise(range(5)), F64)
    together = log_likelihood(world, PATHS[0], x, LOW, HIGH, divergence=Hutchinson(2), noise=Noise(range(5)))
    for k in range(5):
        alone = log_likelihood(
            world, PATHS[0], x[k : k + 1], LOW, HIGH, divergence=Hutchinson(2), noise=Noise([k])
        )
        assert torch.allclose(alone.log_prob[0], together.log_prob[k], rtol=0, atol=1e-9)


def test_the_density_integrates_to_one_under_guidance():
    """A guided flow has a density too, another one: on a line it sums to one over a fine grid."""
    world = MixtureDenoiser(
        torch.tensor([0.5, 0.5], dtype=F64),
        torch.tensor([[-0.5], [0.5]], dtype=F64),
        torch.tensor([0.4, 0.3], dtype=F64),
    )
    x = torch.linspace(-3, 3, 601, dtype=F64)[:, None]
    cond = Condition(label=torch.ones(601, dtype=torch.int64))
    free, guided = (
        log_likelihood(ClassifierFree(world, scale), PATHS[0], x, -10.0, 10.0, cond=cond).log_prob.exp()
        for scale in (1.0, 2.0)
    )
    for density in (free, guided):
        assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1.0, abs=2e-3)
    mean = [float(torch.trapezoid(p * x[:, 0], x[:, 0])) for p in (free, guided)]
    assert mean[0] == pytest.approx(0.5, abs=5e-3) and mean[1] > 0.55


def test_paths_give_one_likelihood():
    """The same denoiser under all paths: the same number, to the solver's tolerance."""
    world = two_modes((2, 2))
    x = world.sample(Noise(range(16)), F64)
    values = [log_likelihood(world, path, x, -9.0, 9.0, tolerance=1e-8).log_prob for path in PATHS]
    for value in values[1:]:
        assert torch.allclose(value, values[0], rtol=0, atol=1e-5)


def test_it_works_in_inference_mode_and_leaves_no_gradients():
    net = torch.nn.Linear(2, 2)

    class Learned(GaussianDenoiser):
        def forward(self, x_t, level, cond=None):
            return Posterior(super().forward(x_t, level).mean + 0.01 * net(x_t))

    with torch.inference_mode():
        found = log_likelihood(Learned(0.0, 0.5), VariancePreserving(), torch.zeros(3, 2), -8.0, 8.0)
    assert torch.isfinite(found.log_prob).all() and found.calls > 10
    assert net.weight.grad is None


def test_a_flow_needs_two_ends():
    with pytest.raises(ValueError, match="low and a high"):
        log_likelihood(GaussianDenoiser(0.0, 0.5), VarianceExploding(), torch.zeros(1, 1), 3.0, 3.0)
