"""Clips: moving digits by their law of motion, frames cut out of strips, layouts with time."""

import json

import numpy as np
import pytest
from PIL import Image

from sfumato.core.errors import DataError, UsageError
from sfumato.data.clips import DIGIT, cut_into_frames, draw_motions, moving_digits, positions, render
from sfumato.data.dataset import Dataset
from sfumato.data.facts import Facts
from sfumato.data.pixels import from_model
from sfumato.data.sources import open_data

CLIPS = moving_digits(60)


def test_clips_are_a_volume_whose_first_axis_is_time():
    facts = CLIPS.facts
    assert (facts.channels, facts.space, facts.time, facts.frames) == (1, (20, 20, 20), True, 20)
    assert facts.frame.space == (20, 20) and facts.frame.frames == 0
    assert facts.words == "20 frames of 20 x 20, 1 channel, 8-bit"
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    with pytest.raises(ValueError, match="no frames"):
        _ = facts.frame.frame


def test_clip_i_is_the_same_in_every_data_set_that_holds_it():
    assert np.array_equal(moving_digits(30).stored, CLIPS.stored[:30])


def test_digits_glide_and_bounce_within_the_frame():
    where = positions(CLIPS.factors, 200, 20)
    assert where.min() >= 0 and where.max() <= 20 - DIGIT
    speed = np.abs(CLIPS.factors[:, None, 3:5])
    moved = np.abs(np.diff(where, axis=1))
    assert (moved <= speed + 1e-4).all()
    assert np.isclose(moved, speed, atol=1e-4).mean() > 0.8  # all but the steps with a bounce
    straight = positions(np.array([[0, 3.0, 4.0, 0.5, -0.25]]), 5, 20)[0]
    assert np.allclose(straight, [[3 + 0.5 * t, 4 - 0.25 * t] for t in range(5)])


def test_the_smallest_frame_has_room_and_a_smaller_one_is_refused():
    where = positions(moving_digits(20, size=DIGIT + 1).factors, 50, DIGIT + 1)
    assert np.isfinite(where).all() and where.min() >= 0 and where.max() <= 1
    for size in (DIGIT, 0):
        with pytest.raises(UsageError, match=f"cannot move in frames of {size} x {size}"):
            moving_digits(20, size=size)


def test_the_centre_of_light_moves_as_the_digit_does():
    """Linear interpolation keeps the first moment: the centroid is the position and a constant."""
    light = CLIPS.stored[:, 0].astype(float)
    axis = np.arange(20)
    total = light.sum((2, 3))
    across = (light.sum(2) * axis).sum(2) / total
    down = (light.sum(3) * axis).sum(2) / total
    offset = np.stack([across, down], -1) - positions(CLIPS.factors, 20, 20)
    assert np.abs(offset - offset.mean(1, keepdims=True)).max() < 0.03  # rounding to 8 bits


def test_a_digit_at_a_whole_position_is_the_scan_itself():
    scan = np.random.default_rng(0).random((1, DIGIT, DIGIT))
    frame = render(scan, np.array([[[3.0, 5.0]]]), 20)[0, 0]
    assert np.array_equal(frame[5:13, 3:11], np.round(255 * scan[0].astype(np.float32)))
    assert frame.sum() == frame[5:13, 3:11].sum()


def test_motions_are_uniform():
    factors, which = draw_motions(20_000, 12.0, 1797)
    assert np.allclose(factors[:, 1:].mean(0), [6, 6, 0, 0], atol=0.08)
    assert np.allclose(factors[:, 1:].std(0), np.array([12, 12, 3, 3]) / 12**0.5, rtol=0.02)
    assert which.min() == 0 and which.max() == 1796


def strips(clips):
    """(N, T, H, W, C) as pictures with the frames side by side."""
    n, t, h, w, c = clips.shape
    return np.moveaxis(clips, 1, 2).reshape(n, h, t * w, c)


def random_clips(n=12, t=3, h=4, w=5):
    return np.random.default_rng(0).integers(0, 255, (n, t, h, w, 3), dtype=np.uint8)


def test_frames_come_out_of_a_strip_in_order():
    clips = random_clips()
    data = cut_into_frames(Dataset.of(strips(clips), layout="NHWC"), 3)
    assert data.facts.space == (3, 4, 5) and data.facts.time
    assert np.array_equal(data.stored, np.moveaxis(clips, 4, 1))
    x = data.batch([0, 5]).x
    assert np.array_equal(from_model(x, data.facts), data.rows_of([0, 5]))
    with pytest.raises(DataError, match="do not hold 4 frames"):
        cut_into_frames(Dataset.of(strips(clips), layout="NHWC"), 4)


@pytest.mark.parametrize("layout", ["NTHWC", "NCTHW", "NHWTC"])
def test_time_is_an_axis_by_letter(layout):
    clips = random_clips()
    order = ["NTHWC".index(letter) for letter in layout]
    data = Dataset.of(clips.transpose(order), layout=layout)
    assert data.facts.frames == 3
    assert np.array_equal(data.stored, np.moveaxis(clips, 4, 1))
    assert Dataset.of(clips[..., 0], layout="NTHW").facts.shape == (1, 3, 4, 5)
    assert not Dataset.of(clips, layout="NDHWC").facts.time


def parquet(path, clips, frames):
    pa = pytest.importorskip("pyarrow")
    from io import BytesIO

    import pyarrow.parquet as pq

    def encoded(picture):
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = [encoded(picture) for picture in strips(clips)]
    pq.write_table(pa.table({"image": rows, "n_frames": frames}), path)
    return str(path)


def test_parquet_with_a_number_of_frames_holds_clips_of_their_own_size(tmp_path):
    clips = random_clips(t=8, h=64, w=64)
    data = open_data(parquet(tmp_path / "a.parquet", clips, [8] * 12))
    assert data.facts.space == (8, 64, 64) and data.facts.frames == 8
    assert np.array_equal(data.stored, np.moveaxis(clips, 4, 1))
    with pytest.raises(UsageError, match="size of their frames"):
        open_data(tmp_path / "a.parquet", size=32)


def test_clips_of_different_lengths_are_refused(tmp_path):
    path = parquet(tmp_path / "b.parquet", random_clips(t=4), [4] * 11 + [2])
    with pytest.raises(DataError, match=r"different numbers of frames \(2, 4\)"):
        open_data(path)
