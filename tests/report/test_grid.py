"""A sheet holds the exact pixels of every example, of any depth and channel count, where its layout says."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.data.facts import Facts
from sfumato.data.pixels import to_model
from sfumato.report.grid import grid, layout, over, png, sheet, side_by_side, stack, titled
from sfumato.report.plots import scatter
from sfumato.report.tiles import beside, image, signal, tiles


def pixels(picture, plan, index, shape):
    """The tile number `index` of a sheet, read back at its own resolution; every block must be constant."""
    left, top = plan.corner(index)
    array = np.asarray(picture)[top : top + shape[0] * plan.zoom, left : left + shape[1] * plan.zoom]
    assert (array[..., 3] == 255).all()
    blocks = array[..., :3].reshape(shape[0], plan.zoom, shape[1], plan.zoom, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    return blocks[:, 0, :, 0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 13),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    columns=st.none() | st.integers(1, 6),
    zoom=st.integers(1, 4),
)
def test_a_sheet_holds_every_pixel_unchanged(seed, count, height, width, columns, zoom):
    stored = np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    facts = Facts(3, (height, width))
    picture = grid(to_model(stored, facts), facts, columns=columns, zoom=zoom)
    plan = layout(tiles(to_model(stored, facts), facts), columns=columns, zoom=zoom)
    assert picture.size == plan.size
    for i in range(count):
        np.testing.assert_array_equal(pixels(picture, plan, i, (height, width)), stored[i].transpose(1, 2, 0))


def test_png_bytes_keep_the_pixels():
    picture = sheet([np.arange(48, dtype=np.uint8).reshape(4, 4, 3)])
    again = Image.open(io.BytesIO(png(picture)))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(picture))


def test_paper_is_transparent_and_rows_are_filled_where_possible():
    shown = [np.zeros((8, 8, 3), np.uint8)] * 64
    plan = layout(shown)
    assert 64 % plan.columns == 0
    picture = np.asarray(sheet(shown))
    assert picture[0, plan.cell[1], 3] == 0  # between two tiles
    assert layout(shown[:7]).columns == 7 or layout(shown[:7]).columns <= 4
    with pytest.raises(ValueError, match="at least one"):
        layout([])


def test_sixteen_bits_and_floats_are_spread_by_the_range_of_the_data():
    deep = Facts(1, (1, 3), kind="uint16", low=1000.0, high=5000.0)
    stored = np.array([[[[1000, 3000, 5000]]]], np.uint16)
    assert tiles(to_model(stored, deep), deep)[0][0, :, 0].tolist() == [0, 128, 255]
    real = Facts(1, (1, 4), kind="float32", low=-2.0, high=2.0)
    x = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 1, 4)
    assert tiles(x, real)[0][0, :, 0].tolist() == [0, 128, 255, 255]
    x[0, 0, 0, 0] = float("nan")
    assert tiles(x, real)[0][0, 0, 0] == 0  # what is no number is seen as dark, and breaks nothing


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_other_channel_counts_stand_side_by_side(channels):
    stored = np.random.default_rng(0).integers(0, 256, (channels, 6, 7), dtype=np.uint8)
    tile = image(stored)
    assert tile.shape == (6, channels * 8 - 1, 3)
    for c in range(channels):
        for rgb in range(3):
            np.testing.assert_array_equal(tile[:, c * 8 : c * 8 + 7, rgb], stored[c])


def test_transparency_shows_the_board_where_nothing_is():
    gone, there = np.zeros((4, 8, 8), np.uint8), np.full((4, 8, 8), 77, np.uint8)
    there[3] = 255
    assert sorted(np.unique(image(gone, alpha=True))) == [224, 255]
    assert (image(there, alpha=True) == 77).all()


def test_padding_is_not_shown():
    facts = Facts(1, (4, 4), pad=((1, 1), (0, 1)))
    assert tiles(torch.zeros(2, 1, 4, 4), facts)[0].shape == (2, 3, 3)


def test_volumes_show_slices_in_order():
    facts = Facts(1, (20, 3, 3))
    x = (torch.arange(20) / 255 * 2 - 1).reshape(1, 1, 20, 1, 1).expand(1, 1, 20, 3, 3)
    row = tiles(x, facts)[0]
    seen = row[0, ::4, 0]
    assert len(seen) == 8 and seen[0] == 0 and seen[-1] == 19 and (np.diff(seen.astype(int)) > 0).all()


def test_signals_go_up_where_the_values_do():
    rising = np.arange(0, 256, dtype=np.uint8)[None]
    tile = signal(rising).astype(int)
    ink = (tile.sum(axis=2) < 600).argmax(axis=0)  # the first inked row of each column
    inked = (tile.sum(axis=2) < 600).any(axis=0)
    assert np.corrcoef(np.flatnonzero(inked), ink[inked])[0, 1] < -0.99
    two = signal(np.stack([rising[0], rising[0][::-1]]))
    assert len(np.unique(two.reshape(-1, 3), axis=0)) > len(np.unique(tile.reshape(-1, 3), axis=0))
    facts = Facts(2, (256,))
    assert grid(torch.zeros(3, 2, 256), facts).size[0] >= 168


def test_pairs_stand_one_over_the_other():
    facts = Facts(1, (8, 8))
    upper, lower = -torch.ones(5, 1, 8, 8), torch.ones(5, 1, 8, 8)
    picture = np.asarray(over(upper, lower, facts, columns=3))
    column = picture[:, 4]
    runs = column[column[:, 3] == 255][:, 0]
    assert [int(v) for v in runs[::56]] == [0, 255, 0, 255]
    with pytest.raises(ValueError, match="cannot stand"):
        over(upper, lower[:2], facts)


def test_side_by_side_and_stack_keep_their_parts():
    red = Image.new("RGBA", (10, 6), (255, 0, 0, 255))
    blue = Image.new("RGBA", (4, 9), (0, 0, 255, 255))
    both = side_by_side([red, blue], ["raw", "EMA"], gap=5)
    assert both.size == (19, 20 + 9)
    assert both.getpixel((0, 20)) == (255, 0, 0, 255) and both.getpixel((15, 28)) == (0, 0, 255, 255)
    down = stack([red, blue], gaps=[3, 99])
    assert down.size == (10, 6 + 3 + 9) and down.getpixel((0, 17)) == (0, 0, 255, 255)
    assert titled(red, "a title").size == (10, 26)


def test_captions_of_any_text_fit_and_hurt_no_pixel():
    shown = [np.full((56, 56, 3), 9, np.uint8)] * 3
    words = ["a very long caption indeed <b>", "", "数字 𝔘 \n tab\t"]
    with_words, without = sheet(shown, columns=3, captions=words), sheet(shown, columns=3)
    np.testing.assert_array_equal(np.asarray(with_words)[:56], np.asarray(without)[:56])
    assert (np.asarray(with_words)[57:, :, 3] > 0).any()


def test_points_are_one_scatter_plot():
    facts = Facts(2, (), kind="float32", low=-3.0, high=3.0)
    x = torch.rand(50, 2) * 2 - 1
    empty, full = scatter(x[:1] * 0 + 9, facts), grid(x, facts)
    assert full.size == empty.size
    assert (np.asarray(full)[..., 3] > 0).sum() > (np.asarray(empty)[..., 3] > 0).sum()
    assert over(x, x, facts).size == full.size
    with pytest.raises(ValueError, match="no picture of their own"):
        tiles(x, facts)


def test_beside_of_one_is_itself():
    tile = np.zeros((2, 2, 3), np.uint8)
    assert beside([tile]) is tile
