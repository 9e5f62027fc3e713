"""Permutations that undo each other, resizing that undoes strides, and frequencies that fit both inputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.nets.attention import CrossAttention, SelfAttention
from sfumato.nets.blocks import (
    ResidualBlock,
    conv,
    crop_to,
    depth_to_space,
    pad_to,
    resize_to,
    space_to_depth,
)
from sfumato.nets.embed import Fourier
from sfumato.nets.fused import NormSilu, modulated
from sfumato.nets.unet import _Join


@given(space=st.lists(st.integers(1, 9), min_size=1, max_size=3), patch=st.integers(1, 3))
def test_space_to_depth_is_a_permutation_and_pad_and_crop_undo_each_other(space, patch):
    x = torch.arange(float(2 * 3 * torch.Size(space).numel())).reshape(2, 3, *space)
    padded = pad_to(x, patch)
    assert all(n % patch == 0 and n - m < patch for n, m in zip(padded.shape[2:], space, strict=True))
    folded = space_to_depth(padded, patch)
    assert torch.equal(folded.flatten().sort().values, padded.flatten().sort().values)
    assert torch.equal(crop_to(depth_to_space(folded, patch), space), x)


def test_space_to_depth_agrees_with_pixel_unshuffle():
    x = torch.randn(2, 3, 6, 4)
    assert torch.equal(space_to_depth(x, 2), torch.nn.functional.pixel_unshuffle(x, 2))
    assert torch.equal(depth_to_space(space_to_depth(x, 2), 2), x)
    with pytest.raises(ValueError, match="not divisible"):
        space_to_depth(x, 5)


@pytest.mark.parametrize("n", range(1, 40))
def test_resizing_returns_every_size_a_stride_came_from_and_repeats_neighbours(n):
    strided = conv(1, 1, 1, stride=2)(torch.zeros(1, 1, n))
    assert strided.shape[-1] == (n + 1) // 2
    back = resize_to(torch.arange(float(strided.shape[-1]))[None, None], (n,))
    assert torch.equal(back[0, 0], torch.arange(n).div(2, rounding_mode="floor").float())


def test_joining_is_the_pointwise_convolution_of_the_concatenation():
    join = _Join(2, 3, 5).double()
    below, skip = torch.randn(2, 5, 4, 3, dtype=torch.float64), torch.randn(2, 3, 7, 5, dtype=torch.float64)
    weight = torch.cat([join.below.weight, join.skip.weight], dim=1)
    whole = torch.cat([resize_to(below, (7, 5)), skip], dim=1)
    torch.testing.assert_close(join(below, skip), torch.nn.functional.conv2d(whole, weight, join.below.bias))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_new_residual_block_is_the_identity(dims):
    x = torch.randn(2, 16, *[4] * dims)
    assert torch.equal(ResidualBlock(dims, 16)(x, torch.randn(2, 32)), x)


def test_modulation_scales_and_shifts_per_sample_and_channel():
    h, m = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    torch.testing.assert_close(modulated(h, m), h * (1 + m[:, :3, None]) + m[:, 3:, None])


@pytest.mark.parametrize("channels", [1, 7, 12, 16, 24, 32, 96])
def test_groups_divide_the_channels_and_are_normalised(channels):
    norm = NormSilu(channels)
    x = 5 + 3 * torch.randn(2, channels, 50)
    grouped = x.reshape(2, norm.groups, -1)
    u = (grouped - grouped.mean(2, keepdim=True)) / grouped.std(2, keepdim=True, correction=0)
    torch.testing.assert_close(norm(x), torch.nn.functional.silu(u).reshape(x.shape), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("space", [(6,), (3, 5), (2, 3, 2)])
def test_attention_does_not_know_the_order_of_positions_or_of_tokens(space):
    attention, cross = SelfAttention(16, head_dim=8).double(), CrossAttention(16, 5, head_dim=8).double()
    for module in (attention, cross):
        torch.nn.init.normal_(module.out.weight)
    x = torch.randn(2, 16, *space, dtype=torch.float64)
    tokens = torch.randn(2, 4, 5, dtype=torch.float64)
    flipped = list(range(2, x.ndim))
    torch.testing.assert_close(attention(x.flip(flipped)), attention(x).flip(flipped))
    torch.testing.assert_close(cross(x, tokens.flip(1)), cross(x, tokens))
    # equal tokens attend like one
    torch.testing.assert_close(cross(x, tokens[:, :1].expand(-1, 9, -1)), cross(x, tokens[:, :1]))


def test_fourier_features_tell_levels_apart_and_do_not_repeat():
    embed = Fourier(64)
    for grid in (torch.linspace(-20, 20, 401), torch.linspace(-1.6, 1.1, 109)):
        features = embed(grid)
        distance = torch.cdist(features, features) + 100 * torch.eye(len(grid))
        assert distance.min() > 0.1
        # neighbours are nearer than strangers: the embedding varies smoothly enough to interpolate
        assert distance.diagonal(1).max() < distance[0, len(grid) // 2]
    torch.testing.assert_close(features.square().sum(1), torch.full((109,), 32.0))
    with pytest.raises(ValueError, match="even"):
        Fourier(7)
