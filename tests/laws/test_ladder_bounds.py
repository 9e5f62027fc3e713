"""The bounds of a two-level ladder against the evidence of a linear-Gaussian one, and its coordinates."""

import pytest
import torch
from linear_ladder import linear_ladder

from sfumato.core.noise import Noise
from sfumato.distributions.gaussian import Gaussian, StandardNormal
from sfumato.evaluation.bits import bounds
from sfumato.models.trace import Latent, importance_bound


def noise(x, seed=0):
    return Noise([seed], rows=len(x))


def test_at_the_exact_posterior_every_draw_of_a_ladder_gives_the_evidence():
    model, exact, x = linear_ladder()
    torch.testing.assert_close(model.trace(x, noise=noise(x)).log_weight(), exact)


def test_the_elbo_of_a_ladder_meets_the_evidence_and_stays_below_it_elsewhere():
    for spoil, tight in ((0.0, True), (0.3, False)):
        model, exact, x = linear_ladder(spoil)
        elbo = torch.stack([model.trace(x, noise=noise(x, k)).elbo() for k in range(200)]).mean(0)
        gap = (exact - elbo).mean().item()
        assert abs(gap) < 0.02 if tight else gap > 0.1


def test_importance_weighting_closes_the_gap_of_a_ladder():
    model, exact, x = linear_ladder(0.3)
    gaps = [(exact - importance_bound(model, x, k, noise=noise(x, k))).mean().item() for k in (1, 8, 512)]
    assert gaps[0] > gaps[1] > gaps[2] - 0.005
    assert gaps[0] > 0.1 and abs(gaps[-1]) < 0.02


def test_five_thousand_draws_stream_through_the_memory_of_one():
    model, exact, x = linear_ladder(0.3, count=6)
    bits = bounds(model, [x], None, draws=5000)[-1]
    assert bits.name == "IWAE-5000" and bits.nats == pytest.approx(exact.mean().item(), abs=0.03)


def test_the_kls_of_the_levels_sum_to_the_gap_between_likelihood_and_elbo():
    model, _, x = linear_ladder(0.2)
    trace = model.trace(x, noise=noise(x))
    total = sum(latent.kl() for latent in trace.latents)
    torch.testing.assert_close(total, trace.log_likelihood() - trace.elbo())


def test_the_closed_form_kl_is_the_mean_log_ratio():
    model, _, x = linear_ladder(0.3)
    traces = [model.trace(x, noise=noise(x, k)) for k in range(400)]
    for level in range(2):
        exact = torch.stack([t.latents[level].kl() for t in traces]).mean()
        drawn = torch.stack([-t.latents[level].log_ratio() for t in traces]).mean()
        assert drawn.item() == pytest.approx(exact.item(), abs=0.02)


def test_in_standardised_coordinates_the_prior_is_standard_normal_and_the_kl_the_same():
    model, _, x = linear_ladder(0.2)
    for latent in model.trace(x, noise=noise(x)).latents:
        std = latent.prior.log_std.exp()
        shift, log_ratio = (latent.posterior.mean - latent.prior.mean) / std, latent.posterior.log_std
        e = (latent.z - latent.prior.mean) / std
        same = Latent(e, Gaussian(shift, log_ratio - latent.prior.log_std), StandardNormal(e))
        torch.testing.assert_close(same.kl(), latent.kl())
        torch.testing.assert_close(same.log_ratio(), latent.log_ratio())


def test_a_code_is_decoded_to_the_draw_it_stands_for():
    """encode(noise) is the trace's own draw in standardised coordinates: both give the same likelihood."""
    model, _, x = linear_ladder(0.2)
    code = model.encode(x, noise=noise(x))
    torch.testing.assert_close(model.likelihood_of(code).mean, model.trace(x, noise=noise(x)).likelihood.mean)


def test_samples_of_the_ladder_have_the_marginal_moments():
    model, _, _ = linear_ladder()
    n = 40_000
    mean = model.likelihood_of(torch.randn(n, 2, dtype=torch.float64)).mean
    ladder = model.decoder
    torch.testing.assert_close(mean.mean(0), ladder.b + ladder.w @ ladder.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(mean.T.cov(), ladder.w @ ladder.cov @ ladder.w.T, atol=0.15, rtol=0)
