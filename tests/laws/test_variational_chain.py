"""The variational bound is of the chain that draws: its table and the variance of its reverse steps."""

import math

import pytest
import torch
from exact_worlds import F64

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.bound import decoder_term, prior_term, step_term
from sfumato.diffusion.exact import GaussianDenoiser, MixtureDenoiser
from sfumato.diffusion.tables import BetaTable
from sfumato.diffusion.transition import LargeVariance, SmallVariance, transition
from sfumato.evaluation.variational import variational_bounds, vlb
from sfumato.models.codec import Pixels
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.samplers.ancestral import Ancestral

SHORT = BetaTable(torch.tensor([0.02, 0.2, 0.5, 0.7, 0.9], dtype=F64))
FEW = 9  # grey levels
CHOICES = [SmallVariance(), LargeVariance()]


def world(denoiser, plan=None):
    """A generator of single numbers with an exact denoiser; nothing is clipped unless the plan says so."""
    return Generator(Pixels(), Diffusion(denoiser, SHORT, (1,)), plan=plan or Plan(clip=False))


def batch_of(x):
    return Batch(x, None, torch.arange(len(x)))


def normal_density(x, mean, var):
    return torch.exp(-0.5 * (x - mean) ** 2 / var) / math.sqrt(2 * math.pi * var)


def chain_log_prob(denoiser, variance, points=1601):
    """log P(k) (FEW,) of the chain itself: its density carried over a grid from noise down to the decoder."""
    grid = torch.linspace(-6, 6, points, dtype=F64)
    space, rows = float(grid[1] - grid[0]), [SHORT.at(i) for i in range(len(SHORT))]
    density = normal_density(grid, 0.0, rows[-1].sigma ** 2)
    for t, s in zip(rows[:0:-1], rows[-2::-1], strict=True):
        posterior, q = denoiser(grid[:, None], t), transition(t, s)
        mean = q.mean(grid[:, None], posterior.mean)  # of x_s for each x_t
        density = (normal_density(grid, mean, variance(t, s, posterior)) * density[:, None]).sum(0) * space
    levels = torch.arange(FEW, dtype=F64) * (2 / (FEW - 1)) - 1
    posterior = denoiser(grid[:, None], rows[0])
    cost = [
        decoder_term(posterior, x.expand(points, 1), rows[0], variance, FEW) for x in levels
    ]  # of each level for every x_1
    return torch.stack([(torch.exp(-c) * density).sum() * space for c in cost]).log()


def integrated_bound(denoiser, variance, x, points=4001):
    """The bound of one number x by quadrature over x_t at every level."""
    z = torch.linspace(-8, 8, points, dtype=F64)[:, None]
    share = normal_density(z[:, 0], 0.0, 1.0) * float(z[1] - z[0])
    here = torch.full_like(z, x)
    total = float(prior_term(here[:1], SHORT.at(len(SHORT) - 1)))
    for i in range(len(SHORT)):
        t = SHORT.at(i)
        posterior = denoiser(t.mix(here, z), t)
        if i:
            cost = step_term(posterior, here, t, SHORT.at(i - 1), variance)
        else:
            cost = decoder_term(posterior, here, t, variance, FEW)
        total += float((share * cost).sum())
    return total


def lattice_worlds():
    gaussian = GaussianDenoiser(torch.tensor(0.1, dtype=F64), torch.tensor(0.4, dtype=F64))
    modes = MixtureDenoiser(*(torch.tensor(v, dtype=F64) for v in ([0.3, 0.7], [[-0.6], [0.4]], [0.1, 0.2])))
    return [gaussian, modes]


@pytest.mark.parametrize("variance", CHOICES, ids=lambda v: v.name)
@pytest.mark.parametrize("world_of", [0, 1], ids=["Gaussian", "two modes"])
def test_with_either_variance_it_bounds_the_chain_that_has_this_variance(world_of, variance):
    """Above -log P of the chain, whose levels' probabilities sum to one, and what drawn steps estimate."""
    denoiser = lattice_worlds()[world_of]
    truth = chain_log_prob(denoiser, variance)
    assert float(truth.exp().sum()) == pytest.approx(1.0, abs=2e-4)
    levels = torch.arange(FEW, dtype=F64) * (2 / (FEW - 1)) - 1
    wanted = torch.tensor([integrated_bound(denoiser, variance, float(x)) for x in levels], dtype=F64)
    assert bool((wanted >= -truth - 1e-4).all())
    x = levels[:, None].repeat_interleave(6000, 0)
    model = world(denoiser)
    found = vlb(model, batch_of(x), FEW, terms=99, noise=Noise([4], rows=len(x)), variance=variance)
    nats = found.total.view(FEW, -1)
    error = nats.std(1) / math.sqrt(nats.shape[1])
    assert bool(((nats.mean(1) - wanted).abs() < 4.5 * error + 1e-6).all())
    assert variance.name in found.method


@pytest.mark.parametrize("variance", CHOICES, ids=lambda v: v.name)
def test_the_bound_is_of_the_variance_that_the_models_own_plan_draws_with(variance):
    """Unless told otherwise; solvers of the ODE have none, and then beta is taken."""
    denoiser = lattice_worlds()[0]
    x = torch.tensor([[-0.25], [0.5]], dtype=F64)
    own = world(denoiser, Plan(solver=Ancestral(variance), clip=False))
    told, other = (
        vlb(model, batch_of(x), FEW, noise=Noise([0, 1]), variance=v)
        for model, v in ((world(denoiser), variance), (own, CHOICES[variance is CHOICES[0]]))
    )
    mine = vlb(own, batch_of(x), FEW, noise=Noise([0, 1]))
    assert torch.equal(mine.total, told.total) and mine.method == told.method
    assert bool((mine.total != other.total).all()) and mine.method != other.method
    ode = vlb(world(denoiser), batch_of(x), FEW, noise=Noise([0, 1]))
    assert "large" in ode.method
    summed, method = variational_bounds(own, [batch_of(x)], FEW, terms=99, variance=LargeVariance())
    assert "large" in method and summed[0].count == 2


def test_predictions_that_are_clipped_are_told():
    model = world(lattice_worlds()[0], Plan(clip=True))
    found = vlb(model, batch_of(torch.tensor([[-0.25]], dtype=F64)), FEW, noise=Noise([0]))
    assert found.method.endswith("predictions clipped")
