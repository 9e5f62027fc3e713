"""One loss in six disguises: every parametrisation's squared error is a weight times the x_0 error."""

import pytest
import torch
from exact_worlds import F64, PATHS
from hypothesis import given
from hypothesis import strategies as st

from sfumato.diffusion.level import Level
from sfumato.diffusion.scaling import EdmScaling, EpsScaling, FlowScaling, ScoreScaling, VScaling, X0Scaling
from sfumato.diffusion.weighting import Edm, Flow, MinSnr, Sigmoid, Simple, Snr, Unweighted, V

PAIRS = [
    (EpsScaling(), Simple()),
    (X0Scaling(), Unweighted()),
    (VScaling(), V()),
    (FlowScaling(), Flow()),
    (EdmScaling(0.5), Edm(0.5)),
    (EdmScaling(1.0), V()),
]


@pytest.mark.parametrize(("row", "weight"), PAIRS, ids=lambda v: type(v).__name__)
@given(log_snr=st.floats(-8, 8), which=st.integers(0, 3))
def test_output_error_is_the_weighted_clean_error(row, weight, log_snr, which):
    """|F - F*|^2 = w |mean - x|^2 at every level of every path."""
    level = PATHS[which].level(log_snr)
    g = torch.Generator().manual_seed(3)
    x, eps, guess = (torch.randn(50, dtype=F64, generator=g) for _ in range(3))
    x_t = level.mix(x, eps)
    output_error = ((row.target(guess, x_t, level) - row.target(x, x_t, level)) ** 2).mean()
    clean_error = weight(level) * ((guess - x) ** 2).mean()
    assert float(output_error) == pytest.approx(float(clean_error), rel=1e-9)


def test_score_matching_is_the_noise_loss_over_the_variance():
    level = PATHS[2].level(0.5)
    x, eps, guess = (torch.randn(50, dtype=F64) for _ in range(3))
    x_t, row = level.mix(x, eps), ScoreScaling()
    error = ((row.target(guess, x_t, level) - row.target(x, x_t, level)) ** 2).mean()
    expected = Simple()(level) * ((guess - x) ** 2).mean() / level.sigma**2
    assert float(error) == pytest.approx(float(expected), rel=1e-9)


@given(st.floats(-12, 12))
def test_bounds_and_limits_of_the_weights(log_snr):
    level = PATHS[0].level(log_snr)
    snr = Simple()(level)
    assert MinSnr(5.0)(level) == pytest.approx(min(snr, 5.0))
    assert Snr(1.0)(level) == pytest.approx(max(snr, 1.0)) and Snr(0.0)(level) == snr
    assert Sigmoid(2.0)(level) == pytest.approx(snr / (1 + snr * 2.718281828459045**-2), rel=1e-9)


@pytest.mark.parametrize("weight", [Simple(), Unweighted(), V(), Flow(), Edm(), MinSnr(), Snr(), Sigmoid()])
def test_weights_per_sample_equal_floats(weight):
    levels = [PATHS[3].level(v) for v in (-5.0, 0.3, 6.0)]
    batch = Level(*torch.tensor([[v.alpha, v.sigma] for v in levels], dtype=F64).T)
    expected = torch.tensor([weight(level) for level in levels], dtype=F64)
    assert torch.allclose(weight(batch), expected, rtol=1e-12)


def test_weights_of_pure_noise_and_clean_data():
    """At pure noise the eps weights vanish, v and edm keep theirs; sigmoid stays finite at clean data."""
    noise, clean = Level(0.0, 1.0), Level(1.0, 0.0)
    assert (Simple()(noise), MinSnr()(noise), V()(noise), Edm(0.5)(noise)) == (0.0, 0.0, 1.0, 4.0)
    assert Sigmoid(1.0)(clean) == pytest.approx(2.718281828459045)
