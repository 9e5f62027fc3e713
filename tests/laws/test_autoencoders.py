"""Autoencoders: penalties by their closed forms and by autograd, units, corruption statistics."""

import math

import pytest
import torch

from sfumato.core.errors import DataError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.models.autoencoder import Autoencoder, tied
from sfumato.models.likelihood import BernoulliLikelihood, FixedGaussianLikelihood
from sfumato.nets.compute import fuse
from sfumato.nets.plain import ConvDecoder, ConvEncoder
from sfumato.nets.shallow import LinearDecoder, LinearEncoder
from sfumato.nets.units import LinearUnits, SigmoidUnits, TopUnits
from sfumato.objectives.corruption import Clean, GaussianCorruption, InTurn, Masking, SaltAndPepper
from sfumato.objectives.elbo import Elbo
from sfumato.objectives.jacobian import ExactJacobian, JacobianTraceEstimate, OneLayerJacobian
from sfumato.objectives.penalties import BatchMean, Contraction, KlSparsity, RunningMean, bernoulli_kl
from sfumato.objectives.reconstruction import ReconstructionLoss

SHAPE, LATENT, ROWS = (1, 8, 8), 5, 6


def images(rows=ROWS, seed=0):
    return torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(rows=ROWS):
    return Batch(images(rows), None, torch.arange(rows))


def noise(rows=ROWS, seed=0):
    return Noise([seed], rows=rows)


def deep(units=None, likelihood=None):
    torch.manual_seed(0)
    model = Autoencoder(
        ConvEncoder(1, (8, 8), LATENT, width=8),
        ConvDecoder(LATENT, 1, (8, 8), width=8),
        units or SigmoidUnits(),
        likelihood or FixedGaussianLikelihood(),
        LATENT,
    )
    with torch.no_grad():
        for p in model.parameters():  # the residual branches start at zero: let them speak
            p.add_(0.1 * torch.randn_like(p))
    return model


def one_layer(units=None):
    torch.manual_seed(0)
    return Autoencoder(
        LinearEncoder(1, (8, 8), LATENT),
        LinearDecoder(LATENT, 1, (8, 8)),
        units or SigmoidUnits(),
        FixedGaussianLikelihood(),
        LATENT,
    )


def autograd_norm(model, x):
    """|dh/dx|_F^2 by autograd's own Jacobian, one example at a time."""
    rows = [torch.autograd.functional.jacobian(lambda v: model.code(v[None])[0], one) for one in x]
    return torch.stack([row.square().sum() for row in rows])


# -------------------------------------------------------------------------------- the objective


def test_minus_log_likelihood_is_the_squared_error_and_a_constant():
    model, b = deep(), batch()
    loss = ReconstructionLoss()(model, b, noise=noise(), seen=0)
    error = (model.likelihood_of(model.code(b.x)).mean - b.x).square().flatten(1).sum(1)
    torch.testing.assert_close(loss.total, error + 32 * math.log(math.pi))
    torch.testing.assert_close(loss.terms["mse"], error / 64)


def test_an_autoencoder_is_a_trace_without_latents_and_its_elbo_objective_is_the_error():
    model, b = deep(), batch()
    assert model.trace(b.x, noise=noise()).latents == ()
    ours = ReconstructionLoss()(model, b, noise=noise(), seen=0)
    torch.testing.assert_close(Elbo()(model, b, noise=noise(), seen=0).total, ours.total)


def test_the_loss_is_of_the_clean_image_from_the_corrupted_one():
    model, b = deep(), batch()
    loss = ReconstructionLoss(Masking(1.0))(model, b, noise=noise(), seen=0)
    likelihood = model.trace(torch.full_like(b.x, -1.0), noise=noise()).likelihood
    torch.testing.assert_close(loss.total, -likelihood.log_prob(b.x))


def test_penalties_enter_by_their_weights():
    model, b = deep(), batch()
    penalties = (KlSparsity(3.0), Contraction(0.5))
    loss = ReconstructionLoss(penalties=penalties)(model, b, noise=noise(), seen=0)
    parts = loss.terms
    wanted = parts["reconstruction"] + 3.0 * parts["sparsity"] + 0.5 * parts["jacobian"]
    torch.testing.assert_close(loss.total, wanted)


# -------------------------------------------------------------------------------- contraction


@pytest.mark.parametrize(
    "units", [SigmoidUnits(), LinearUnits(), TopUnits(2)], ids=lambda u: type(u).__name__
)
def test_the_closed_form_of_one_layer_is_autograds_jacobian(units):
    model, x = one_layer(units), images()
    for way in (OneLayerJacobian(), ExactJacobian()):
        torch.testing.assert_close(way(model, x, noise=noise()).detach(), autograd_norm(model, x))


def test_the_closed_form_is_the_papers_formula():
    model, x = one_layer(), images()
    h, w = model.code(x), model.encoder.weight
    formula = ((h * (1 - h)).square() * w.square().sum(1)).sum(1)
    torch.testing.assert_close(OneLayerJacobian()(model, x, noise=noise()), formula)


@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_the_exact_norm_of_a_deep_encoder_is_autograds_whatever_the_chunk(chunk):
    model, x = deep(), images()
    found = ExactJacobian(chunk)(model, x, noise=noise())
    torch.testing.assert_close(found.detach(), autograd_norm(model, x), rtol=1e-4, atol=1e-6)


def test_the_estimate_is_unbiased():
    model, x = deep(), images(2)
    exact = ExactJacobian()(model, x, noise=noise(2)).detach()
    found = JacobianTraceEstimate(4000)(model, x, noise=noise(2)).detach()
    assert ((found - exact).abs() < 0.06 * exact).all()


def test_the_estimate_has_no_variance_where_gradients_are_orthogonal():
    model, x = one_layer(LinearUnits()), images()
    with torch.no_grad():
        model.encoder.layer.weight.copy_(torch.linalg.qr(torch.randn(64, LATENT))[0].T)
    found = JacobianTraceEstimate(1)(model, x, noise=noise())
    torch.testing.assert_close(found, torch.full((ROWS,), float(LATENT)))


@pytest.mark.parametrize("way", [ExactJacobian(3), JacobianTraceEstimate(2)], ids=lambda w: type(w).__name__)
def test_the_gradient_of_the_penalty_is_that_of_finite_differences(way):
    model, x = deep().double(), images(3).double()
    weight = model.encoder.last.weight
    value = way(model, x, noise=noise(3)).sum()
    (gradient,) = torch.autograd.grad(value, weight)
    step = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)).double() * 1e-5
    with torch.no_grad():
        weight.add_(step)
        after = way(model, x, noise=noise(3)).sum()
        weight.sub_(2 * step)
        before = way(model, x, noise=noise(3)).sum()
    assert float((after - before) / 2) == pytest.approx(float((gradient * step).sum()), rel=1e-5)


def test_the_penalty_is_the_same_beside_the_fused_kernel_which_is_left_on():
    model = deep().to(memory_format=torch.channels_last)
    x = images().to(memory_format=torch.channels_last)
    plain = ExactJacobian()(model, x, noise=noise())
    if not fuse(model):
        pytest.skip("no compiler here")
    torch.testing.assert_close(ExactJacobian()(model, x, noise=noise()), plain)
    ReconstructionLoss(penalties=(Contraction(),))(
        model, batch(), noise=noise(), seen=0
    ).total.sum().backward()
    assert all(part.kernel is not None for part in model.modules() if hasattr(part, "kernel"))


def test_without_gradients_the_penalty_has_its_value_and_no_graph():
    model, x = deep(), images()
    with torch.no_grad():
        found = ExactJacobian()(model, x, noise=noise())
    assert not found.requires_grad
    torch.testing.assert_close(found, autograd_norm(model, x), rtol=1e-4, atol=1e-6)


def test_the_closed_form_refuses_a_deep_encoder():
    with pytest.raises(TypeError, match="LinearEncoder"):
        OneLayerJacobian()(deep(), images(), noise=noise())


# -------------------------------------------------------------------------------- sparsity


def test_the_sparsity_of_a_batch_is_the_closed_form_and_so_is_its_gradient():
    model, x = deep(), images()
    code = model.code(x).detach().requires_grad_(True)
    ours = KlSparsity(rho=0.1)(model, x, code, noise=noise()).mean()
    r = code.mean(0)
    closed = (0.1 * torch.log(0.1 / r) + 0.9 * torch.log(0.9 / (1 - r))).sum()
    torch.testing.assert_close(ours, closed)
    torch.testing.assert_close(*(torch.autograd.grad(v, code)[0] for v in (ours, closed)))


def test_the_divergence_is_that_of_coins_and_zero_only_at_rho():
    r = torch.tensor([0.01, 0.05, 0.5])
    found = bernoulli_kl(0.05, r)
    coins = [torch.distributions.Bernoulli(torch.tensor(p)) for p in (0.05, 0.01)]
    torch.testing.assert_close(found[0], torch.distributions.kl_divergence(*coins))
    assert found[1].abs() < 1e-7 and (found[[0, 2]] > 0).all()


def test_a_running_mean_gathers_examples_and_forgets_them():
    h = torch.rand(64, LATENT, generator=torch.Generator().manual_seed(0))
    same = RunningMean(LATENT, 10**6)
    for k in range(0, 64, 8):
        last = same(h[k : k + 8])
    torch.testing.assert_close(last, h.mean(0), rtol=1e-4, atol=1e-4)
    slow = RunningMean(LATENT, 64)
    slow(torch.zeros(64, LATENT))
    slow.commit()
    torch.testing.assert_close(slow(torch.ones(64, LATENT)), torch.full((LATENT,), 1 / (1 + math.exp(-1))))


def test_a_running_mean_remembers_in_training_only():
    mean = RunningMean(LATENT, 16)
    mean.eval()(torch.rand(8, LATENT))
    mean.commit()
    assert float(mean.count) == 0.0
    assert set(KlSparsity(mean=mean).state_dict()) == {"mean.total", "mean.count", "mean.pending"}


def test_a_running_mean_is_the_same_on_every_process_and_however_a_step_is_cut():
    h = torch.rand(8, LATENT, generator=torch.Generator().manual_seed(0))
    whole, cut, ranks = (KlSparsity(mean=RunningMean(LATENT, 16)) for _ in range(3))
    whole.mean(h), cut.mean(h[:3]), cut.mean(h[3:]), ranks.mean(h[:4])
    ranks.sums()[0].add_(torch.cat([h[4:].sum(0), torch.tensor([4.0])]))  # as the other process adds its part
    for each in (whole, cut, ranks):
        each.commit()
        torch.testing.assert_close(each.mean.total, h.sum(0))
        assert float(each.mean.count) == 8.0 and float(each.sums()[0].abs().sum()) == 0.0


def test_a_step_that_is_not_finite_is_not_remembered():
    mean = RunningMean(LATENT, 16)
    mean(torch.full((8, LATENT), 0.5))
    mean.commit()
    mean(torch.full((8, LATENT), math.nan))
    mean.commit()
    assert float(mean.count) == 8.0
    torch.testing.assert_close(mean(torch.full((8, LATENT), 0.5)), torch.full((LATENT,), 0.5))


def test_sparsity_is_for_sigmoid_units():
    model = deep(LinearUnits())
    with pytest.raises(TypeError, match="SigmoidUnits"):
        KlSparsity(mean=BatchMean())(model, images(), model.code(images()), noise=noise())


# -------------------------------------------------------------------------------- units


@pytest.mark.parametrize("k", [1, 3, LATENT])
def test_exactly_k_units_speak_and_only_they_get_a_gradient(k):
    model, x = deep(TopUnits(k)), images()
    a = model.encoder(x).detach().requires_grad_(True)
    h = model.units(a)
    assert ((h != 0).sum(1) == k).all()
    kept = h != 0
    assert torch.equal(h[kept], a[kept])
    assert (a.masked_fill(kept, -math.inf).amax(1) <= a.masked_fill(~kept, math.inf).amin(1)).all()
    (gradient,) = torch.autograd.grad((model.decoder(h) ** 2).sum(), a)
    assert torch.equal(gradient != 0, kept)
    assert torch.equal(model.eval().encode(x), model.train().encode(x))


def test_training_begins_with_many_units_and_ends_with_k():
    model, loss, batch = deep(TopUnits(1, 4)), ReconstructionLoss(), Batch(images(), None, torch.arange(8))
    loss.open(model, 100)
    speak = []
    for seen in (0, 10, 25, 40, 50, 90):
        loss(model.train(), batch, noise=noise(), seen=seen)
        speak.append(int((model.code(batch.x) != 0).sum(1).unique()))
    assert speak == [4, 3, 2, 2, 1, 1]  # 1 + 3 (1 - 2 done), rounded to even at a half
    loss(model, batch, noise=noise(), seen=0)
    assert int((model.eval().code(batch.x) != 0).sum(1).unique()) == 1
    with pytest.raises(ValueError, match="at least k = 3 units, not 2"):
        TopUnits(3, 2)


@pytest.mark.parametrize(
    "units", [LinearUnits(), SigmoidUnits(), TopUnits(2)], ids=lambda u: type(u).__name__
)
def test_a_code_is_legal_as_it_is_and_what_is_made_legal_stays_so(units):
    a = torch.randn(50, LATENT, generator=torch.Generator().manual_seed(0))
    h = units(a)
    torch.testing.assert_close(units.legal(h), h)
    once = units.legal(3 * a)
    torch.testing.assert_close(units.legal(once), once)


def test_the_nearest_k_sparse_vector_is_found():
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.tensor([[i, j] for i in range(4) for j in range(i)])
    candidates = torch.stack([z[0] * torch.zeros(4).scatter(0, m, 1.0) for m in masks])
    nearest = candidates[(candidates - z).square().sum(1).argmin()]
    torch.testing.assert_close(TopUnits(2).legal(z)[0], nearest)


def test_more_units_than_the_code_has_are_refused():
    with pytest.raises(ValueError, match="k = 6 of 5 code units"):
        deep(TopUnits(LATENT + 1))
    with pytest.raises(ValueError, match="at least one"):
        TopUnits(0)


def test_tied_weights_are_one_parameter_seen_twice():
    model = tied(1, (8, 8), LATENT, SigmoidUnits(), FixedGaussianLikelihood())
    names = [name for name, _ in model.named_parameters()]
    assert names == ["encoder.layer.weight", "encoder.layer.bias", "decoder.bias"]
    h = torch.randn(3, LATENT)
    image = model.decoder(h).flatten(1) - model.decoder.bias
    torch.testing.assert_close(image, h @ model.encoder.weight)
    torch.testing.assert_close(model.decoder.filters().flatten(1), model.encoder.weight)


# -------------------------------------------------------------------------------- corruption

MANY = 20_000


def corrupted(corruption, x=None, seed=0):
    x = torch.full((MANY, 1), 0.25) if x is None else x
    return corruption(x, noise=Noise([seed], rows=len(x)))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_masking_hides_a_share_p_and_leaves_the_rest(p):
    found = corrupted(Masking(p))
    assert set(found.unique().tolist()) <= {-1.0, 0.25}
    assert (found == -1).float().mean() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / MANY) + 1e-9)


def test_salt_and_pepper_come_alike_often():
    found = corrupted(SaltAndPepper(0.4))
    for value, share in ((-1.0, 0.2), (1.0, 0.2), (0.25, 0.6)):
        assert (found == value).float().mean() == pytest.approx(share, abs=0.015)


def test_gaussian_corruption_adds_its_variance_and_no_mean():
    change = corrupted(GaussianCorruption(0.3)) - 0.25
    assert change.std() == pytest.approx(0.3, rel=0.03) and abs(change.mean()) < 0.01


def test_corruptions_follow_each_other_and_clean_does_nothing():
    x = images()
    assert torch.equal(corrupted(Clean(), x), x)
    both = corrupted(InTurn((Masking(1.0, value=0.5), SaltAndPepper(0.0))), x)
    assert torch.equal(both, torch.full_like(x, 0.5))


def test_corruption_is_new_at_every_look_and_a_function_of_its_noise():
    first, again, other = (corrupted(Masking(), images(), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    "bad", [lambda: Masking(1.5), lambda: SaltAndPepper(-0.1), lambda: GaussianCorruption(-1)]
)
def test_impossible_corruptions_are_refused(bad):
    with pytest.raises(ValueError):
        bad()


# -------------------------------------------------------------------------------- bad data


def test_a_sigmoid_likelihood_refuses_data_outside_its_range_before_training():
    x = 3 * images()
    b = Batch(x, None, torch.arange(ROWS))
    model = deep(likelihood=BernoulliLikelihood())
    for objective in (ReconstructionLoss(), Elbo()):
        with pytest.raises(DataError, match="probabilities"):
            objective(model, b, noise=noise(), seen=0)
    assert torch.isfinite(ReconstructionLoss()(model, batch(), noise=noise(), seen=0).total).all()


@pytest.mark.parametrize(
    "bad",
    [
        lambda: KlSparsity(rho=1.0),
        lambda: KlSparsity(weight=-1.0),
        lambda: Contraction(weight=-1.0),
        lambda: ExactJacobian(0),
        lambda: JacobianTraceEstimate(0),
        lambda: RunningMean(LATENT, 0),
        lambda: FixedGaussianLikelihood(0.0),
    ],
)
def test_impossible_penalties_are_refused(bad):
    with pytest.raises(ValueError):
        bad()
