"""Laws of turning a decoded picture into a stored example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from odd_images import picture
from sfumato.core.errors import UsageError
from sfumato.data.decode import Header, Unreadable
from sfumato.data.fitting import fit, prepare, resize
from sfumato.data.options import Alpha, Fit, Plan, options
from sfumato.data.survey import make_plan


def header(pixels: np.ndarray, alpha: bool = False) -> Header:
    height, width, channels = pixels.shape
    return Header("PNG", "made", height, width, channels - alpha, pixels.dtype.name, alpha)


def plan_of(pixels: np.ndarray, **changes) -> Plan:
    height, width, channels = pixels.shape
    return Plan(**({"kind": pixels.dtype.name, "colours": channels, "size": (height, width)} | changes))


@given(
    pixels=hnp.arrays(
        st.sampled_from([np.dtype(np.uint8), np.dtype(np.uint16)]),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 5])),
    )
)
def test_a_picture_that_fits_is_stored_unchanged(pixels):
    stored = prepare(header(pixels), pixels, plan_of(pixels))
    assert stored.dtype == pixels.dtype and np.array_equal(stored.transpose(1, 2, 0), pixels)


# ---------------------------------------------------------------------------------- transparency


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3])
def test_transparency_is_laid_on_the_chosen_ground(kind, colours):
    full = np.iinfo(kind).max
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, full + 1, (5, 4, colours + 1)).astype(kind)
    colour, share = pixels[..., :-1].astype(float), pixels[..., -1:] / full
    grounds = {Alpha.WHITE: full, Alpha.BLACK: 0.0}
    for alpha, ground in grounds.items():
        stored = prepare(header(pixels, True), pixels, plan_of(pixels[..., :-1], alpha=alpha))
        expected = np.round(colour * share + ground * (1 - share))
        assert np.array_equal(stored.transpose(1, 2, 0), expected.astype(kind))
    dropped = prepare(header(pixels, True), pixels, plan_of(pixels[..., :-1], alpha=Alpha.DROP))
    assert np.array_equal(dropped.transpose(1, 2, 0), pixels[..., :-1])
    kept = plan_of(pixels[..., :-1], alpha=Alpha.KEEP, keeps_alpha=True)
    assert np.array_equal(prepare(header(pixels, True), pixels, kept).transpose(1, 2, 0), pixels)
    opaque = prepare(header(pixels[..., :-1]), pixels[..., :-1], kept)
    assert kept.channels == colours + 1 and (opaque[-1] == full).all()


def test_hidden_colours_do_not_bleed_when_shrinking():
    """A red disc on transparent green: shrunk with alpha kept, no visible green may appear."""
    y, x = np.mgrid[0:64, 0:64] - 31.5
    inside = (x**2 + y**2 < 20**2)[..., None]
    pixels = np.where(inside, [255, 0, 0, 255], [0, 255, 0, 0]).astype(np.uint8)
    small = resize(pixels, (16, 16), alpha=True)
    assert small[..., 1][small[..., 3] > 25].max() <= 2
    assert small[..., 0][small[..., 3] > 25].min() >= 250


# ------------------------------------------------------------------------------ channels and depth


def test_colour_becomes_gray_as_pillow_does_it_and_gray_becomes_colour():
    pixels = picture(1)
    gray = prepare(header(pixels), pixels, plan_of(pixels, colours=1))[0]
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.abs(gray.astype(int) - expected).max() <= 1  # Pillow rounds in fixed point
    back = prepare(header(gray[..., None]), gray[..., None], plan_of(pixels))
    assert all(np.array_equal(channel, gray) for channel in back)


def test_depths_convert_exactly_and_reversibly():
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    deep = prepare(header(eight), eight, plan_of(eight, kind="uint16")).transpose(1, 2, 0)
    assert deep.min() == 0 and deep.max() == 65535
    again = prepare(header(deep), deep, plan_of(eight)).transpose(1, 2, 0)
    assert np.array_equal(again, eight)


def test_what_has_no_common_scale_is_refused():
    floats, many = np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 5), np.uint8)
    with pytest.raises(Unreadable, match="float values among 8-bit"):
        prepare(header(floats), floats, plan_of(floats, kind="uint8"))
    with pytest.raises(Unreadable, match="5 channel"):
        prepare(header(many), many, plan_of(many, colours=3))
    for bad in (np.nan, np.inf):
        with pytest.raises(Unreadable, match="NaN or infinite"):
            prepare(header(floats), floats + np.float32(bad), plan_of(floats))


# ------------------------------------------------------------------------------------------- size

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
kinds = st.sampled_from([np.uint8, np.uint16, np.float32])


@settings(max_examples=150)
@given(
    source=sizes,
    target=sizes,
    way=st.sampled_from(Fit),
    kind=kinds,
    value=st.integers(0, 255),
    seed=st.integers(0, 9),
)
def test_every_way_of_fitting_gives_the_size_and_stays_in_range(source, target, way, kind, value, seed):
    flat = np.full((*source, 3), value, kind)
    plan = plan_of(flat, size=target, fit=way)
    assert np.array_equal(fit(flat, plan), np.full((*target, 3), value, kind))  # constants stay constant
    rough = np.random.default_rng(seed).integers(0, 256, (*source, 3)).astype(kind)
    out = fit(rough, plan)
    assert out.shape == (*target, 3) and out.dtype == kind
    assert rough.min() <= out.min() and out.max() <= rough.max()  # no ringing beyond the range


def test_cropping_without_scaling_only_cuts():
    pixels = picture(2, 30, 40)
    assert np.array_equal(fit(pixels, plan_of(pixels, size=(30, 30))), pixels[:, 5:35])


def test_padding_without_scaling_only_repeats_the_edge():
    pixels = picture(2, 30, 40)
    out = fit(pixels, plan_of(pixels, size=(40, 40), fit=Fit.PAD))
    assert np.array_equal(out[5:35], pixels)
    assert (out[:5] == pixels[0]).all() and (out[35:] == pixels[-1]).all()


def test_crop_and_pad_keep_the_aspect_and_stretch_does_not():
    """A centred disc stays a disc: its height and width agree within a pixel or two."""
    y, x = np.mgrid[0:120, 0:60].astype(float)
    disc = (((y - 59.5) ** 2 + (x - 29.5) ** 2 < 24**2) * 255).astype(np.uint8)[..., None]
    extents = {}
    for way in Fit:
        out = fit(disc, plan_of(disc, size=(48, 48), fit=way))[..., 0] > 127
        extents[way] = out.any(1).sum(), out.any(0).sum()
    assert abs(extents[Fit.CROP][0] - extents[Fit.CROP][1]) <= 1
    assert abs(extents[Fit.PAD][0] - extents[Fit.PAD][1]) <= 1
    assert extents[Fit.STRETCH][1] == pytest.approx(2 * extents[Fit.STRETCH][0], abs=2)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_shrinking_is_antialiased(kind):
    """A fine chequerboard becomes its mean, not a moire."""
    board = ((np.indices((64, 64)).sum(0) % 2) * 200).astype(kind)[..., None]
    small = resize(board, (8, 8)).astype(float)
    assert np.abs(small - 100).max() < 2.5


# ------------------------------------------------------------------------------------ the choices


def test_the_plan_follows_most_files():
    gray16 = Header("PNG", "I;16", 40, 30, 1, "uint16", False)
    rgb = Header("PNG", "RGB", 40, 30, 3, "uint8", True)
    plan = make_plan([gray16] * 5 + [rgb] * 2, options())
    assert (plan.kind, plan.colours, plan.size, plan.channels) == ("uint16", 1, (40, 30), 1)
    assert make_plan([gray16, rgb], options()).colours == 3  # colour and depth win a tie
    assert make_plan([gray16, rgb], options()).kind == "uint16"
    kept = make_plan([rgb] * 3, options(alpha="keep", channels=1, size="16x8"))
    assert (kept.colours, kept.channels, kept.size) == (1, 2, (16, 8))


def test_sizes_without_a_majority_give_a_square_and_large_ones_are_reduced():
    def of(height: int, width: int) -> Header:
        return Header("PNG", "RGB", height, width, 3, "uint8", False)

    mixed = [of(20 + i, 60 - i) for i in range(9)]
    assert make_plan(mixed, options()).size == (24, 24)
    height, width = make_plan([of(3000, 4000)] * 4, options()).size
    assert height * width <= 128 * 128 and width / height == pytest.approx(4 / 3, rel=0.1)
    assert make_plan([of(3000, 4000)], options(size=256)).size == (256, 256)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fit": "squash"}, "fit 'squash'"),
        ({"alpha": "blak"}, "Did you mean 'black'"),
        ({"size": "0"}, "out of reach"),
        ({"size": "64by64"}, "is no size"),
        ({"size": -5}, "out of reach"),
        ({"size": (1, 2, 3)}, "is no size|out of reach"),
        ({"channels": 2}, "1 \\(gray\\) or 3"),
    ],
)
def test_wrong_choices_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        options(**wrong)


def test_plans_travel_between_processes_as_json():
    import json

    plan = Plan("uint16", 3, (4, 5), Fit.PAD, Alpha.KEEP, True)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
