"""The procedural pictures obey geometry: areas, turns and shifts in closed form; factors independent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfumato.data.shapes import FACTORS, NAMES, draw_factors, render, shapes

SIZE = 64
BACKGROUND = round(0.08 * 255)


def one(
    shape: str, scale: float = 0.25, angle: float = 0.0, x: float = 0.5, y: float = 0.5, colour: float = 0.0
):
    """One red picture, as coverage in [0, 1] from its red channel."""
    factors = np.array([[NAMES.index(shape), scale, angle, x, y, colour]])
    red = render(factors, SIZE)[0, ..., 0].astype(float)
    return (red - BACKGROUND) / (255 - BACKGROUND)


AREAS = {
    "square": 1.6**2,
    "ellipse": math.pi * 0.6,
    "triangle": 1.5 * 1.5 / 1.6,
    "heart": 0.98 + math.pi * 0.245,  # a square of side 0.7 sqrt 2 and two half discs of that diameter
}


@pytest.mark.parametrize("shape", NAMES)
@pytest.mark.parametrize("scale", [0.14, 0.2, 0.28])
@pytest.mark.parametrize("angle", [0.0, 0.07, 0.4])
def test_areas_are_those_of_the_figures(shape, scale, angle):
    area = one(shape, scale, angle).sum() / SIZE**2
    assert area == pytest.approx(AREAS[shape] * scale**2, rel=0.02)


@pytest.mark.parametrize("shape", NAMES)
def test_a_quarter_turn_turns_the_picture(shape):
    assert np.abs(np.rot90(one(shape), -1) - one(shape, angle=0.25)).max() < 0.02
    assert np.abs(one(shape, angle=1.0) - one(shape)).max() < 0.02
    if shape == "square":  # and is invisible where the figure has that symmetry
        assert np.abs(one(shape, angle=0.25) - one(shape)).max() < 0.02


@pytest.mark.parametrize("shape", NAMES)
def test_moving_by_whole_pixels_moves_the_picture(shape):
    moved = one(shape, x=0.5 + 5 / SIZE, y=0.5 - 3 / SIZE)
    assert np.abs(np.roll(one(shape), (-3, 5), (0, 1)) - moved).max() < 0.02


def test_no_figure_leaves_the_picture():
    for shape in NAMES:
        for x, y in ((0.35, 0.35), (0.65, 0.35), (0.65, 0.65)):
            for angle in np.linspace(0, 1, 16):
                cover = one(shape, 0.28, angle, x, y)
                assert max(cover[0].max(), cover[-1].max(), cover[:, 0].max(), cover[:, -1].max()) < 0.01


def test_colour_is_a_hue():
    pure = {0.0: (255, 0, 0), 1 / 3: (0, 255, 0), 2 / 3: (0, 0, 255), 0.5: (0, 255, 255)}
    for hue, rgb in pure.items():
        picture = render(np.array([[0, 0.28, 0, 0.5, 0.5, hue]]), 32)[0]
        assert np.abs(picture[16, 16].astype(int) - rgb).max() <= 1
        assert (picture[0, 0] == BACKGROUND).all()


def test_factors_are_uniform_and_independent():
    factors = draw_factors(20_000)
    correlation = np.corrcoef(factors.T) - np.eye(len(FACTORS))
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)
    ranges = [(0, 3), (0.14, 0.28), (0, 1), (0.35, 0.65), (0.35, 0.65), (0, 1)]
    for column, (low, high) in zip(factors.T, ranges, strict=True):
        assert low <= column.min() and column.max() <= high
        spread = column.std() / (high - low)
        assert spread == pytest.approx(0.2887 if (low, high) != (0, 3) else math.sqrt(1.25) / 3, rel=0.02)


def test_a_longer_set_begins_with_the_shorter_one():
    short, long = shapes(60), shapes(300)
    assert np.array_equal(short.stored, long.stored[:60])
    assert np.array_equal(short.factors, long.factors[:60])
    assert [long.facts.classes[i] for i in long.labels] == [NAMES[int(k)] for k in long.factors[:, 0]]
