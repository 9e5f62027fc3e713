"""What is written is read back as the same data: depth, channels, values."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from PIL import Image

from sfumato.core.errors import StorageError, UsageError
from sfumato.data.decode import decode
from sfumato.data.facts import Facts
from sfumato.data.pixels import from_model
from sfumato.data.sources import open_data
from sfumato.data.write import suffix_for, write_image

CASES = [
    ("uint8", 1, False, ".png"),
    ("uint8", 3, False, ".png"),
    ("uint8", 4, True, ".png"),
    ("uint8", 2, True, ".png"),
    ("uint8", 2, False, ".tif"),
    ("uint8", 4, False, ".tif"),
    ("uint16", 1, False, ".png"),
    ("uint16", 3, False, ".png"),
    ("uint16", 4, True, ".png"),
    ("float32", 1, False, ".tif"),
    ("float32", 3, False, ".tif"),
    ("uint16", 5, False, ".npy"),
    ("float32", 9, False, ".npy"),
]


@pytest.mark.parametrize(("kind", "channels", "alpha", "suffix"), CASES)
def test_a_written_example_is_read_back_unchanged(tmp_path, kind, channels, alpha, suffix):
    facts = Facts(channels, (5, 7), kind=kind, alpha=alpha, high=1.0 if kind == "float32" else 255.0)
    assert suffix_for(facts) == suffix
    rng = np.random.default_rng(0)
    image = (rng.random((5, 7, channels)) * (60_000 if kind == "uint16" else 255)).astype(kind)
    path = write_image(image, tmp_path / "guidance1.5", facts)
    assert path == tmp_path / f"guidance1.5{suffix}"
    if suffix == ".npy":
        assert np.array_equal(np.load(path, allow_pickle=False), image)
        return
    header, pixels = decode(path.read_bytes())
    assert np.array_equal(pixels, image) and pixels.dtype == kind
    assert (header.colours, header.alpha) == (channels - alpha, alpha)


def test_a_data_set_written_out_is_the_same_data_set(tmp_path):
    data = open_data("digits").take(range(40))
    rows = from_model(data.batch(range(40)).x, data.facts)
    for i, row in enumerate(rows):
        write_image(row[0], tmp_path / f"{i}", data.facts)
    again = open_data(tmp_path)
    assert np.array_equal(again.stored, data.rows_of(range(40)))
    assert again.stored.max() == 240  # looks like ink, not like sixteen shades of black


def test_a_suffix_that_would_lose_something_is_refused(tmp_path):
    deep = Facts(1, (4, 4), kind="float32", high=1.0)
    with pytest.raises(UsageError, match=r"Use \.tif"):
        write_image(np.zeros((4, 4), np.float32), tmp_path / "a.png", deep)
    with pytest.raises(UsageError, match=r"\.jpg file cannot hold"):
        write_image(np.zeros((4, 4), np.uint8), tmp_path / "a.jpg", Facts(1, (4, 4)))
    assert write_image(np.zeros((4, 4), np.uint8), tmp_path / "a.TIFF", Facts(1, (4, 4))).exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.TIFF"]


def test_signals_volumes_and_points_are_arrays(tmp_path):
    for space in ((), (9,), (3, 4, 5)):
        facts = Facts(2, space, kind="float32", high=1.0)
        image = np.random.default_rng(0).random((*space, 2)).astype(np.float32)
        assert np.array_equal(np.load(write_image(image, tmp_path / "x", facts), allow_pickle=False), image)


def test_nothing_but_pixels_is_written(tmp_path):
    path = write_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "x", Facts(3, (4, 4)))
    with Image.open(path) as image:
        assert not image.info and not image.getexif()


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write[^\n]*\n  Check that the folder"):
        write_image(np.zeros((4, 4), np.uint8), tmp_path / "file" / "x.png", Facts(1, (4, 4)))


def test_a_full_disk_leaves_nothing_and_names_the_remedy(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match=r"No space left[^\n]*\n  Free some space.*--out"):
        write_image(np.zeros((4, 4), np.uint8), tmp_path / "x.png", Facts(1, (4, 4)))
    assert not list(tmp_path.iterdir())
