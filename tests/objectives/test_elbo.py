"""The options of the ELBO objective, each by its definition."""

import pytest
import torch
from torch import nn

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.distributions.gaussian import Gaussian
from sfumato.models.likelihood import BernoulliLikelihood, DiscretizedGaussianLikelihood, GaussianLikelihood
from sfumato.models.trace import Latent, LatentVariableModel, Trace
from sfumato.models.vae import Vae
from sfumato.nets.plain import ConvDecoder, ConvEncoder
from sfumato.objectives.elbo import Elbo, ImportanceWeighted


def model(likelihood=None):
    torch.manual_seed(0)
    return Vae(
        ConvEncoder(1, (8, 8), 6, width=8),
        ConvDecoder(3, 1, (8, 8), width=8),
        likelihood or GaussianLikelihood(),
        3,
    )


def batch(n=6):
    return Batch(
        torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1, None, torch.arange(n)
    )


def loss(objective, vae=None, seen=0, seed=0, **_):
    return objective(vae or model(), batch(), noise=Noise([seed], rows=6), seen=seen)


def gradient(vae, value):
    """The gradient of a mean over the batch in all parameters, flat; zero where there is none."""
    parts = torch.autograd.grad(
        value.mean(), list(vae.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in parts])


def test_beta_one_is_the_elbo_and_its_gradient_the_sum_of_its_terms():
    vae = model()
    found = loss(Elbo(), vae)
    torch.testing.assert_close(found.total, -vae.trace(batch().x, noise=Noise([0], rows=6)).elbo())
    parts = gradient(vae, found.terms["reconstruction"]) + gradient(vae, found.terms["kl"])
    torch.testing.assert_close(gradient(vae, found.total), parts)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_kl_and_leaves_the_reported_terms_alone(beta):
    plain, weighed = loss(Elbo()), loss(Elbo(beta=beta))
    torch.testing.assert_close(weighed.total, plain.terms["reconstruction"] + beta * plain.terms["kl"])
    torch.testing.assert_close(weighed.terms["kl"], plain.terms["kl"])


def test_warm_up_is_linear_in_the_examples_seen_and_then_over():
    objective = Elbo(beta=2.0, warmup=1000)
    assert [objective.weight(seen) for seen in (0, 250, 1000, 5000)] == [0.0, 0.5, 2.0, 2.0]
    share = Elbo(warmup=0.25)
    share.open(nn.Identity(), 4000)
    assert [share.weight(seen) for seen in (0, 250, 1000, 5000)] == [0.0, 0.25, 1.0, 1.0]
    whole = Elbo(warmup=1)
    whole.open(nn.Identity(), 4000)
    assert [whole.weight(seen) for seen in (0, 1000, 4000)] == [0.0, 0.25, 1.0]


def test_free_bits_lift_every_unit_to_their_floor_without_a_gradient_below_it():
    vae = model()
    units = vae.trace(batch().x, noise=Noise([0], rows=6)).latents[0].kl_per_unit()
    floor = units.median().item()
    found = loss(Elbo(free_bits=floor), vae)
    torch.testing.assert_close(found.terms["kl"] + found.terms["free_bits"], units.clamp_min(floor).sum(1))
    high = loss(Elbo(free_bits=100.0), vae)
    without = gradient(vae, high.terms["reconstruction"])
    torch.testing.assert_close(gradient(vae, high.total), without, rtol=1e-3, atol=1e-4)


class Ladder(LatentVariableModel):
    """Two rungs of two units; KL_2j = (slope_j z_1j)^2 / 2 depends on the draw, the rest on no slope."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([0.1, 3.0], dtype=torch.float64))

    def trace(self, x, *, noise):
        zero = torch.zeros(len(x), 2, dtype=torch.float64)
        first, prior = Gaussian(2.0 + zero, zero), Gaussian(zero, zero)
        z = first.mean + noise.normal((len(x), 2), torch.float64)
        second = Gaussian(self.slope * z, zero)
        latents = (Latent(z, first, prior), Latent(second.mean, second, prior))
        return Trace(Gaussian(torch.zeros_like(x), torch.zeros_like(x)), x, latents)


@pytest.mark.parametrize("samples", [1, 4])
def test_on_a_ladder_a_unit_below_the_floor_has_no_gradient_however_many_draws(samples):
    ladder, b = Ladder(), batch()
    noise = Noise([0], rows=6)
    draws = [ladder.trace(b.x, noise=noise) for _ in range(samples)]
    units = torch.stack([torch.cat([v.kl_per_unit() for v in t.latents], 1) for t in draws]).mean(0)
    floor = 2.0 * units[:, 2].max().item()  # above the first unit of the second rung, in every image
    assert (units[:, 3] > floor).any()
    found = loss(Elbo(free_bits=floor, samples=samples), ladder)
    torch.testing.assert_close(found.terms["kl"] + found.terms["free_bits"], units.clamp_min(floor).sum(1))
    below, above = gradient(ladder, found.total)
    assert abs(below) < 1e-12 < abs(above)


def test_one_draw_is_the_trace_itself_to_the_bit():
    ladder, noise = Ladder(), Noise([0], rows=6)
    trace = ladder.trace(batch().x, noise=noise)
    found = loss(Elbo(free_bits=0.5), ladder)
    short = torch.stack([(0.5 - v.kl_per_unit()).clamp_min(0.0).sum(1) for v in trace.latents]).sum(0)
    kl = torch.stack([v.kl() for v in trace.latents]).sum(0)
    assert torch.equal(found.terms["kl"], kl) and torch.equal(found.terms["free_bits"], short)
    notes = torch.cat([v.kl_per_unit().mean(0) for v in trace.latents])
    assert torch.equal(found.notes["kl_per_unit"], notes.detach())


def test_the_loss_of_an_image_does_not_depend_on_its_batch():
    vae, b = model().double(), batch()
    objective = Elbo(free_bits=0.3)
    x = b.x.double()
    together = objective(vae, Batch(x, None, b.index), noise=Noise(range(6)), seen=0).total
    alone = [
        objective(vae, Batch(x[i : i + 1], None, b.index[:1]), noise=Noise([i]), seen=0).total
        for i in range(6)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_more_samples_keep_the_mean_and_lower_the_variance():
    vae = model()
    one = torch.stack([loss(Elbo(), vae, seed=k).total.mean() for k in range(60)]).detach()
    many = torch.stack([loss(Elbo(samples=8), vae, seed=k).total.mean() for k in range(60)]).detach()
    assert many.var() < 0.4 * one.var()
    assert abs(one.mean() - many.mean()) < 4 * one.std() / 60**0.5


def test_kl_per_unit_is_noted_and_sums_to_the_kl():
    found = loss(Elbo())
    assert found.notes["kl_per_unit"].shape == (3,)
    torch.testing.assert_close(found.notes["kl_per_unit"].sum(), found.terms["kl"].mean().detach())


def test_judging_gives_the_true_bound_whatever_the_training_weighs():
    vae = model(DiscretizedGaussianLikelihood(levels=17))
    a = Elbo().judge(vae, batch(), noise=Noise([0], rows=6))
    b = Elbo(beta=7.0, free_bits=1.0).judge(vae, batch(), noise=Noise([0], rows=6))
    torch.testing.assert_close(a["loss"], b["loss"])
    torch.testing.assert_close(a["loss"], a["reconstruction"] + a["kl"])


def test_the_learned_scale_finds_the_error_of_the_reconstruction():
    """sigma-VAE: at the optimum the scale is the root of the mean squared error."""
    likelihood = GaussianLikelihood()
    decoded = torch.zeros(64, 1, 8, 8)
    x = 0.05 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(likelihood.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (-likelihood(decoded).log_prob(x).mean()).backward()
        optimizer.step()
    assert likelihood(decoded).std.item() == pytest.approx(x.std().item(), rel=0.02)


def test_scales_per_channel_are_learned_apart_and_bounded_below():
    likelihood = GaussianLikelihood(scales=3)
    x = torch.randn(128, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([0.5, 0.1, 0.0]).view(3, 1, 1)
    optimizer = torch.optim.Adam(likelihood.parameters(), 0.1)
    for _ in range(400):
        optimizer.zero_grad()
        (-likelihood(torch.zeros_like(x)).log_prob(x).mean()).backward()
        optimizer.step()
    std = likelihood(torch.zeros_like(x)).std.flatten().tolist()
    assert std[:2] == pytest.approx([0.5, 0.1], rel=0.05)
    assert torch.tensor(std[2]).log() >= -6.0


def test_a_scale_that_starts_below_its_floor_is_refused():
    with pytest.raises(ValueError, match="above its floor"):
        GaussianLikelihood(start=-7.0)


def test_training_raises_the_elbo_of_every_likelihood():
    for likelihood in (BernoulliLikelihood(), GaussianLikelihood(), DiscretizedGaussianLikelihood(17)):
        vae, objective = model(likelihood), Elbo()
        optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
        values = []
        for k in range(60):
            value = objective(vae, batch(), noise=Noise([k], rows=6), seen=0).total.mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert sum(values[-5:]) < sum(values[:5])


@pytest.mark.parametrize("bad", [{"beta": -1.0}, {"warmup": -1}, {"free_bits": -0.1}, {"samples": 0}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(ValueError):
        Elbo(**bad)
    with pytest.raises(ValueError):
        ImportanceWeighted(0)
