"""TD-VAE: its loss written out, its ELBO against an exactly solvable world, jumps and roll-outs."""

import math

import pytest
import torch

from sfumato.core.errors import DataError, UsageError
from sfumato.core.lazy import build
from sfumato.core.noise import Noise
from sfumato.data.clips import moving_digits
from sfumato.data.dataset import Batch
from sfumato.data.facts import Facts
from sfumato.distributions.base import kl
from sfumato.distributions.gaussian import Gaussian
from sfumato.models.likelihood import GaussianLikelihood
from sfumato.models.tdvae import TdVae
from sfumato.models.trace import Latent
from sfumato.nets.plain import ConvDecoder, ConvEncoder, MlpDecoder, MlpEncoder
from sfumato.objectives.elbo import Elbo
from sfumato.recipes import RECIPES

FRAMES, JUMP, LATENT, PAIRS, ROWS = 7, 3, 5, 4, 6


def clips(rows=ROWS, frames=FRAMES, channels=1, seed=0):
    shape = (rows, channels, frames, 8, 8)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def model(channels=1, scales=1, pairs=PAIRS, past=0):
    torch.manual_seed(0)
    made = TdVae(
        ConvEncoder(channels, (8, 8), 12, width=8),
        ConvDecoder(LATENT, channels, (8, 8), width=8),
        GaussianLikelihood(scales),
        LATENT,
        12,
        FRAMES,
        JUMP,
        16,
        pairs,
        past,
    )
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return made


def noise(rows=ROWS, seed=0):
    return Noise([seed], rows=rows)


def log_normal(x, p):
    return torch.distributions.Normal(p.mean, p.std).log_prob(x).flatten(1).sum(1)


def test_the_loss_is_the_papers_written_out():
    """-log p_D + log p_B(z2) - log p_T(z2) + KL(p_S || p_B(z1)), pair by pair."""
    m, x = model(), clips()
    first, steps = m._times(x, noise())
    trace = m.trace(x, noise=noise())
    z_1, z_2 = (latent.z for latent in trace.latents)
    b = m.beliefs(x)
    rows = torch.arange(ROWS)
    total = torch.zeros(ROWS)
    for pair in range(PAIRS):
        t_1, k = first[:, pair], steps[:, pair]
        t_2 = t_1 + k
        before, after = b[rows, t_1], b[rows, t_2]
        one, two = z_1[:, pair], z_2[:, pair]
        told = torch.stack([2 * k / JUMP - 1, 1 / k], 1)
        now, then = (
            torch.distributions.Normal(p.mean, p.std) for p in (m.believed(after), m.believed(before))
        )
        mean, log_std = m.move(one, told)
        predicted = torch.distributions.Normal(one + mean, log_std.clamp(-6, 2).exp())
        mean, log_std = m.smooth(two, before, after, told)
        smoothed = torch.distributions.Normal(mean, log_std.clamp(-6, 2).exp())
        frame = torch.distributions.Normal(m.decoder(two), m.likelihood.log_scale(x).exp())
        total -= frame.log_prob(x[rows, :, t_2]).flatten(1).sum(1)
        total += (now.log_prob(two) - predicted.log_prob(two)).sum(1)
        total += torch.distributions.kl_divergence(smoothed, then).sum(1)
    torch.testing.assert_close(-trace.elbo(), total)
    loss = Elbo()(m, Batch(x, None, rows), noise=noise(), seen=1)
    torch.testing.assert_close(loss.total, total)


def test_a_state_explains_the_frame_before_in_training_and_otherwise_the_bound_is_the_papers():
    """loss' = loss - log p_D(x_3 | z_2 + r(z_2, j)), t_3 = t_2 - j, j = min(past, t_2)."""
    m, paper, x = model(past=2), model(), clips()
    paper.load_state_dict({k: v for k, v in m.state_dict().items() if not k.startswith("recall")})
    first, steps = m._times(x, noise())
    trace = m.trace(x, noise=noise())
    z_2, rows = trace.latents[1].z, torch.arange(ROWS)
    more = torch.zeros(ROWS)
    for pair in range(PAIRS):
        t_2 = (first + steps)[:, pair]
        j = torch.where(t_2 < 2, t_2, 2)
        z_3 = z_2[:, pair] + m.recall(torch.cat([z_2[:, pair], torch.stack([2 * j / JUMP - 1, 1 / j], 1)], 1))
        frame = torch.distributions.Normal(m.decoder(z_3), m.likelihood.log_scale(x).exp())
        more += frame.log_prob(x[rows, :, t_2 - j]).flatten(1).sum(1)
    torch.testing.assert_close(trace.elbo(), paper.trace(x, noise=noise()).elbo() + more)
    torch.testing.assert_close(m.eval().trace(x, noise=noise()).elbo(), paper.trace(x, noise=noise()).elbo())


def test_a_fresh_model_stands_still():
    torch.manual_seed(0)
    m = TdVae(
        MlpEncoder(1, (), 4), MlpDecoder(LATENT, 1, ()), GaussianLikelihood(), LATENT, 4, FRAMES, JUMP, past=1
    )
    z = torch.randn(ROWS, LATENT)
    assert torch.equal(m.rollout(z, 4)[:, -1], z) and not m.recall(torch.randn(ROWS, LATENT + 2)).any()


def test_the_weight_of_a_sample_is_the_same_loss_with_the_smoothing_term_at_the_sample():
    m, x = model(), clips()
    trace = m.trace(x, noise=noise())
    one, two = trace.latents
    written = trace.log_likelihood() + log_normal(two.z, two.prior) - log_normal(two.z, two.posterior)
    written = written + log_normal(one.z, one.prior) - log_normal(one.z, one.posterior)
    torch.testing.assert_close(trace.log_weight(), written)


def test_a_sampled_divergence_is_unbiased_where_the_prior_ignores_the_sample():
    q, p = (Gaussian(torch.full((1, 2), m), torch.full((1, 2), s)) for m, s in ((0.5, -0.5), (0.0, 0.0)))
    draws = [Latent(q.sample(Noise([k])), q, p, sampled=True) for k in range(4000)]
    found = torch.stack([latent.kl() for latent in draws])
    exact = kl(q, p)
    assert abs(found.mean() - exact.item()) < 4 * found.std() / math.sqrt(len(draws))
    torch.testing.assert_close(draws[0].kl_per_unit().sum(1), draws[0].kl())


def test_times_are_uniform_within_the_clip():
    m = model(pairs=4000)
    first, steps = m._times(clips(), noise())
    assert steps.min() == 1 and steps.max() == JUMP and first.min() == 0
    assert ((first + steps) <= FRAMES - 1).all() and (first + steps).max() == FRAMES - 1
    for k in range(1, JUMP + 1):
        assert (steps == k).float().mean() == pytest.approx(1 / JUMP, abs=0.02)
        starts = first[steps == k].bincount(minlength=FRAMES - k).float()
        assert (starts / starts.sum() - 1 / (FRAMES - k)).abs().max() < 0.02


def test_a_belief_knows_the_past_and_not_the_future():
    m, x = model(), clips()
    changed = x.clone()
    changed[:, :, 4:] += 1.0
    one, two = m.beliefs(x), m.beliefs(changed)
    assert torch.equal(one[:, :4], two[:, :4])
    assert (one[:, 4:] != two[:, 4:]).any(2).all()
    torch.testing.assert_close(m.state(x[:, :, :4]), m.believed(one[:, 3]).mean)


def test_a_clip_does_not_meet_the_others_of_its_batch():
    m, x = model().double(), clips().double()
    together = m.trace(x, noise=Noise(range(ROWS))).elbo()
    alone = [m.trace(x[i : i + 1], noise=Noise([i])).elbo() for i in range(ROWS)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_roll_out_of_one_step_is_a_jump_of_one():
    m, z = model(), torch.randn(ROWS, LATENT)
    torch.testing.assert_close(m.rollout(z, 1), m.jumped(z, torch.tensor([1])))
    twice = m.rollout(m.rollout(z, 1)[:, 0], 1)
    torch.testing.assert_close(m.rollout(z, 2)[:, 1:], twice)
    jumps = m.jumped(z, torch.tensor([3, 1, 3]))
    torch.testing.assert_close(jumps[:, 0], jumps[:, 2])
    with pytest.raises(ValueError, match="1 to 3"):
        m.jumped(z, torch.tensor([JUMP + 1]))


def test_draws_of_the_future_have_the_distribution_of_the_transition():
    m, z = model(), torch.randn(1, LATENT).repeat(3000, 1)
    drawn = m.jumped(z, torch.tensor([2]), noise=Noise([0], rows=3000))[:, 0]
    p = m.moved(z[:1], torch.tensor(2))
    torch.testing.assert_close(drawn.mean(0), p.mean[0], atol=0.1, rtol=0.05)
    torch.testing.assert_close(drawn.std(0), p.std[0], atol=0.02, rtol=0.05)


@pytest.mark.parametrize("scales", [1, 2])
def test_scales_belong_to_channels_whatever_the_number_of_pairs(scales):
    m, x = model(2, scales), clips(channels=2)
    likelihood = m.trace(x, noise=noise()).likelihood
    assert likelihood.mean.shape == (ROWS, 2, PAIRS, 8, 8)
    assert torch.isfinite(likelihood.log_prob(likelihood.mean)).all()
    assert tuple(likelihood.std.shape) == (scales, 1, 1, 1)


def test_a_code_is_a_clip_and_a_clip_a_code():
    m, x = model(), clips()
    z = m.encode(x)
    assert torch.equal(z, m.encode(x)) and z.shape == (ROWS, LATENT)
    clip = m.decode(z)
    assert clip.shape == x.shape and clip.abs().max() <= 1
    torch.testing.assert_close(clip[:, :, :1], m.images(z[:, None]))


def test_clips_shorter_than_a_jump_are_refused_before_training():
    m = model()
    with pytest.raises(DataError, match="clips of 3 frames are too short for jumps of 3"):
        m.trace(clips(frames=JUMP), noise=noise())
    assert torch.isfinite(m.trace(clips(frames=JUMP + 1), noise=noise()).elbo()).all()
    assert torch.isfinite(m.encode(clips(frames=2))).all()
    with pytest.raises(DataError, match=r"clips of 1 frames are too short[\s\S]*longer clips\.$"):
        m.encode(clips(frames=1))
    with pytest.raises(UsageError, match=r"jump of 20 frames[\s\S]*from 1 to 19"):
        RECIPES["td-vae"](moving_digits(10).facts, jump=20)
    with pytest.raises(DataError, match="no time"):
        RECIPES["td-vae"](Facts(1, (20, 20, 20)))
    with pytest.raises(ValueError, match="does not fit"):
        TdVae(torch.nn.Identity(), torch.nn.Identity(), GaussianLikelihood(), 2, 2, 5, 5)
    with pytest.raises(ValueError, match="5 back"):
        TdVae(torch.nn.Identity(), torch.nn.Identity(), GaussianLikelihood(), 2, 2, 5, 3, past=5)


@pytest.mark.parametrize(
    "facts",
    [
        Facts(1, (6, 8, 8), time=True),
        Facts(3, (5, 24, 20), time=True),
        Facts(2, (7,), "float32", -1.0, 1.0, time=True),
        Facts(1, (4, 30), "uint16", 0, 65535, time=True),
    ],
    ids=lambda f: f.words,
)
def test_the_recipe_fits_frames_of_every_kind(facts):
    torch.manual_seed(0)
    recipe = build(RECIPES["td-vae"](facts, latent=3, width=8, belief=8))
    x = torch.linspace(-1, 1, 4).view(-1, *(1,) * len(facts.shape)).expand(4, *facts.shape)
    objective, codec = recipe.stages[0].objective, recipe.model.codec
    loss = objective(codec, Batch(x, None, torch.arange(4)), noise=Noise([0], rows=4), seen=0)
    loss.total.mean().backward()
    assert torch.isfinite(loss.total).all()
    assert all(p.grad is not None for p in codec.parameters())
    made = recipe.model.sample(2, seeds=[0, 1])
    assert made.shape == (2, *facts.shape) and made.abs().max() <= 1


def walk(rows, frames, generator, std=0.5):
    """A random walk that is seen without noise: x_{t+k} given x_t is N(x_t, k std^2)."""
    return (std * torch.randn(rows, 1, frames, generator=generator)).cumsum(2)


def test_on_a_random_walk_the_bound_comes_near_the_exact_log_likelihood_and_jumps_know_their_spread():
    torch.manual_seed(0)
    m = TdVae(
        MlpEncoder(1, (), 16, width=32),
        MlpDecoder(2, 1, (), width=32),
        GaussianLikelihood(start=-1.0, floor=-5.0),
        2,
        16,
        8,
        2,
        32,
        4,
    )
    g = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(m.parameters(), 4e-3)
    steps = 500
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for k in range(steps):
        loss = -m.trace(walk(64, 8, g), noise=Noise([k], rows=64)).elbo().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()
        falling.step()
    m.eval()
    x = walk(500, 8, g)
    with torch.no_grad():
        found = (
            torch.stack([m.trace(x, noise=Noise([k], rows=500)).elbo() for k in range(4)]).mean() / m.pairs
        )
        exact = -sum(0.5 * math.log(2 * math.pi * math.e * k * 0.25) for k in (1, 2)) / 2
        assert exact - 0.6 < float(found) < exact + 0.1
        z = m.state(x[:, :, :4])
        one, two = (m.moved(z, torch.tensor(k)) for k in (1, 2))
        assert (two.std.prod(1) > one.std.prod(1)).float().mean() > 0.9
