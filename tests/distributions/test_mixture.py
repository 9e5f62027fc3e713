"""The mixture of discretised logistics is a probability, and one component of it is a single logistic."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core.noise import Noise
from sfumato.distributions.discretized import DiscretizedLogistic
from sfumato.distributions.mixture import DiscretizedLogisticMixture
from sfumato.models.likelihood import LogisticMixtureLikelihood

F64 = torch.float64


def mixture(channels, components, levels, seed=0, coupled=True, rows=1, space=(1,)):
    """A random mixture over `rows` pixels."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return scale * torch.randn(rows, components, *shape, *space, generator=g, dtype=F64)

    pairs = channels * (channels - 1) // 2
    return DiscretizedLogisticMixture(
        draw(),
        draw(channels, scale=0.5),
        draw(channels) - 1.5,
        draw(pairs, scale=0.7) if coupled and pairs else None,
        levels,
    )


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 3),
    components=st.integers(1, 4),
    levels=st.sampled_from([2, 3, 6]),
    seed=st.integers(0, 99),
)
def test_all_pixels_of_all_levels_sum_to_one(channels, components, levels, seed):
    grey = torch.linspace(-1, 1, levels, dtype=F64)
    pixels = torch.tensor(list(itertools.product(grey.tolist(), repeat=channels)), dtype=F64)[:, :, None]
    one = mixture(channels, components, levels, seed)
    many = DiscretizedLogisticMixture(
        *(t.expand(len(pixels), *t.shape[1:]) for t in (one.log_weights, one.locations, one.log_scales)),
        None if one.couplings is None else one.couplings.expand(len(pixels), *one.couplings.shape[1:]),
        levels,
    )
    assert many.log_prob(pixels).exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_one_uncoupled_component_is_the_discretised_logistic():
    x = torch.randint(0, 17, (4, 3, 5), generator=torch.Generator().manual_seed(1)).to(F64) / 8 - 1
    one = mixture(3, 1, 17, coupled=False, rows=4, space=(5,))
    plain = DiscretizedLogistic(one.locations[:, 0], one.log_scales[:, 0], 17)
    torch.testing.assert_close(one.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(one.mean, plain.mean)


def test_equal_components_are_one():
    x = torch.zeros(2, 3, 5, dtype=F64)
    one = mixture(3, 1, 17, rows=2, space=(5,))
    three = DiscretizedLogisticMixture(
        torch.randn(2, 3, 5, dtype=F64),
        *(t.expand(2, 3, *t.shape[2:]) for t in (one.locations, one.log_scales, one.couplings)),
        17,
    )
    torch.testing.assert_close(three.log_prob(x), one.log_prob(x))
    torch.testing.assert_close(three.mean, one.mean)


def test_a_coupling_moves_the_location_by_the_channel_before():
    """With one component, P(x_2 given x_1) is the logistic at m_2 + a x_1."""
    a, m, s = 0.8, torch.tensor([0.1, -0.2], dtype=F64), torch.tensor([-1.0, -2.0], dtype=F64)
    shaped = [t.reshape(1, 1, 2, 1) for t in (m, s)]
    law = DiscretizedLogisticMixture(
        torch.zeros(1, 1, 1, dtype=F64), *shaped, torch.full((1, 1, 1, 1), a, dtype=F64), 9
    )
    x = torch.tensor([[[0.5], [-0.25]]], dtype=F64)
    first = DiscretizedLogistic(m[None, :1, None], s[None, :1, None], 9).log_prob(x[:, :1])
    second = DiscretizedLogistic(m[None, 1:, None] + a * 0.5, s[None, 1:, None], 9).log_prob(x[:, 1:])
    torch.testing.assert_close(law.log_prob(x), first + second)


def enumerated(one, levels):
    """E[x] (C,) of a mixture over one pixel: the sum over all its colours."""
    grey = torch.linspace(-1, 1, levels, dtype=F64)
    pixels = torch.tensor(list(itertools.product(grey.tolist(), repeat=one.locations.shape[2])), dtype=F64)
    parts = (one.log_weights, one.locations, one.log_scales, one.couplings)
    many = (None if t is None else t.expand(len(pixels), *t.shape[1:]) for t in parts)
    return (DiscretizedLogisticMixture(*many, levels).log_mass(pixels[:, :, None]).exp() * pixels).sum(0)


@pytest.mark.parametrize("levels", [2, 5, 26, 27, 256, 3000])
def test_the_mean_is_that_of_all_levels_however_far_out_and_narrow_the_components(levels):
    g = torch.Generator().manual_seed(levels)
    logits, m = (torch.randn(60, 4, *one, generator=g, dtype=F64) for one in ((1,), (1, 1)))
    log_s = 12 * torch.rand(60, 4, 1, 1, generator=g, dtype=F64) - 9
    law = DiscretizedLogisticMixture(logits, 1.5 * m, log_s, None, levels)
    for row in range(60):
        one = DiscretizedLogisticMixture(*(t[row : row + 1] for t in (logits, 1.5 * m, log_s)), None, levels)
        assert law.mean[row, 0, 0].item() == pytest.approx(enumerated(one, levels).item(), abs=2e-7)
    single = DiscretizedLogistic(law.locations[:, 0], law.log_scales[:, 0], levels)
    parts = (t[:, :1] for t in (logits, law.locations, law.log_scales))
    torch.testing.assert_close(DiscretizedLogisticMixture(*parts, None, levels).mean, single.mean)
    assert law.mean.abs().max() <= 1.0


@pytest.mark.parametrize(("channels", "levels"), [(2, 6), (2, 128), (3, 12)])
def test_coupled_channels_keep_the_mean_near_that_of_all_colours(channels, levels):
    """Exact for the first channel; on the average over mixtures within 0.01 for those after it."""
    laws = [mixture(channels, 3, levels, seed) for seed in range(12)]
    off = torch.stack([law.mean[0, :, 0] - enumerated(law, levels) for law in laws]).abs()
    assert off[:, 0].max() < 1e-6 and off.mean() < 0.01 and off.max() < 0.08


def test_a_coupled_mean_is_exact_where_the_channel_before_is_sure_of_itself():
    law = mixture(2, 1, 256)
    narrow = torch.stack([torch.full_like(law.log_scales[:, :, 0], -12.0), law.log_scales[:, :, 1]], 2)
    shifted = law.locations + torch.tensor([0.0, 1.0], dtype=F64)[:, None]
    sure = DiscretizedLogisticMixture(law.log_weights, shifted, narrow, law.couplings, 256)
    torch.testing.assert_close(sure.mean[0, :, 0], enumerated(sure, 256), atol=1e-6, rtol=0)


def test_draws_have_the_probabilities_and_lie_on_the_grid():
    levels, rows = 4, 20_000
    one = mixture(2, 3, levels, seed=4)
    parts = (one.log_weights, one.locations, one.log_scales, one.couplings)
    many = DiscretizedLogisticMixture(*(t.expand(rows, *t.shape[1:]) for t in parts), levels)
    drawn = many.sample(Noise([0], rows=rows))
    k = (drawn + 1) * (levels - 1) / 2
    torch.testing.assert_close(k, k.round())
    grey = torch.linspace(-1, 1, levels, dtype=F64)
    for a, b in itertools.product(range(levels), repeat=2):
        pixel = torch.stack([grey[a], grey[b]]).reshape(1, 2, 1)
        share = ((k[:, 0, 0].round() == a) & (k[:, 1, 0].round() == b)).double().mean().item()
        assert share == pytest.approx(one.log_prob(pixel).exp().item(), abs=0.012)


def test_a_draw_is_a_function_of_its_own_seed():
    law = mixture(3, 4, 256, rows=6, space=(2, 2))
    together = law.sample(Noise(range(6)))
    parts = (law.log_weights, law.locations, law.log_scales, law.couplings)
    for i in range(6):
        alone = DiscretizedLogisticMixture(*(t[i : i + 1] for t in parts), 256).sample(Noise([i]))
        torch.testing.assert_close(alone[0], together[i])


def test_the_head_reads_every_output_once_and_starts_with_components_apart():
    head = LogisticMixtureLikelihood(levels=256, channels=3, components=4)
    decoded = torch.zeros(2, head.outputs, 5, 6, requires_grad=True)
    law = head(decoded)
    assert law.locations.shape == (2, 4, 3, 5, 6) and law.couplings.shape == (2, 4, 3, 5, 6)
    assert (law.locations[0, :, 0, 0, 0].diff() > 0.1).all()
    law.log_prob(torch.rand(2, 3, 5, 6) * 2 - 1).sum().backward()
    assert (decoded.grad != 0).flatten(2).any(2).all()


def test_the_scale_has_a_floor_so_that_constant_images_have_a_bounded_density():
    head = LogisticMixtureLikelihood(levels=256, components=2)
    law = head(torch.full((1, head.outputs, 2), -1e4))
    assert law.log_scales.min() >= -7.0 and torch.isfinite(law.log_prob(torch.ones(1, 1, 2))).all()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no mixture"):
        LogisticMixtureLikelihood(components=0)
    with pytest.raises(ValueError, match="couplings"):
        z = torch.zeros(1, 2, 3, 1)
        DiscretizedLogisticMixture(torch.zeros(1, 2, 1), z, z, torch.zeros(1, 2, 2, 1), 256)
