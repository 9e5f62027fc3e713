"""Great circles keep the norm on which a diffusion model was trained; straight lines do not."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.models.interpolate import slerp

A = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(0))
B = torch.randn(200, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_norm_of_noise_is_kept_by_slerp_and_lost_by_lerp():
    shell = A.flatten(1).norm(dim=1)
    halfway = slerp(A, B, 0.5).flatten(1).norm(dim=1)
    assert abs(halfway.mean() / shell.mean() - 1) < 0.01
    assert abs(halfway.std() / shell.std() - 1) < 0.35
    straight = torch.lerp(A, B, 0.5).flatten(1).norm(dim=1)
    assert straight.mean() / shell.mean() == pytest.approx(math.sqrt(0.5), abs=0.02)


def test_every_element_stays_standard_normal_on_the_way():
    for w in (0.1, 0.37, 0.5, 0.9):
        x = slerp(A, B, w)
        assert abs(x.mean()) < 0.02 and abs(x.std() - 1) < 0.02


@given(w=st.floats(0, 1))
def test_the_angle_grows_evenly(w):
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    x = slerp(a, b, w)[0].double()
    # components in the frame of a and b / 2 are the sines of the parts of the right angle
    assert x[0].item() == pytest.approx(math.sin((1 - w) * math.pi / 2), abs=1e-6)
    assert x[1].item() / 2 == pytest.approx(math.sin(w * math.pi / 2), abs=1e-6)


def test_the_ends_are_the_points():
    torch.testing.assert_close(slerp(A, B, 0.0), A)
    torch.testing.assert_close(slerp(A, B, 1.0), B)


def test_the_way_back_is_the_way():
    torch.testing.assert_close(slerp(A, B, 0.3), slerp(B, A, 0.7))


def test_parallel_points_go_straight():
    torch.testing.assert_close(slerp(A, 2 * A, 0.5), 1.5 * A)
    torch.testing.assert_close(slerp(A, A, 0.3), A)
    assert torch.isfinite(slerp(A, -A, 0.5)).all()
    assert torch.isfinite(slerp(A, 0 * A, 0.5)).all()
