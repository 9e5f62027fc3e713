"""The doctor says what is there, in words, and nothing that is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from odd_images import make_odd_folder, picture, save
from sfumato.data.inspect import examine
from sfumato.data.loader import Dataset
from sfumato.data.sources import open_data
from sfumato.data.survey import CONSTANT


def test_every_oddity_of_the_mixed_folder_is_in_the_words(tmp_path):
    odd = make_odd_folder(tmp_path / "mixed")
    report = examine(odd.path)
    text = "\n".join(report.lines())
    for name, why in odd.bad.items():
        assert f"{name}: " in text and why in text
    for name, word in odd.odd.items():
        assert word in text and any(name in names for names in report.odd.values())
    assert "5 files cannot be used" in text
    assert "Exact copies of other examples: 1, e.g. copy.png = img000.png" in text
    for words in (
        "EXIF rotation applied",
        "transparency on white",
        "cropped in the middle to 24 x 24",
        "no augmentation",
    ):
        assert words in report.pipeline
    assert "gray 16-bit" in text and "900 x 1200" in text
    assert json.loads(json.dumps(report.to_json()))["count"] == report.count == len(open_data(odd.path))


def test_every_bad_and_every_odd_file_is_in_the_values(tmp_path):
    """The words show the first few and say where all are."""
    for i in range(12):
        save(tmp_path / f"{i}.png", picture(i, 8, 8))
        save(tmp_path / f"flat{i}.png", np.full((8, 8, 3), i, np.uint8))
        (tmp_path / f"bad{i}.png").write_bytes(b"")
    report = examine(tmp_path)
    assert [name for name, _ in report.to_json()["bad"]] == [f"bad{i}.png" for i in range(12)]
    assert report.to_json()["odd"][CONSTANT] == [f"flat{i}.png" for i in range(12)]
    text = "\n".join(report.lines())
    assert "bad7.png" in text and "bad8.png" not in text and "4 more: `sfumato doctor DATA --json`" in text


def test_counts_agree_with_the_data(tmp_path):
    for name, n in (("a", 40), ("b", 3)):
        (tmp_path / name).mkdir()
        for i in range(n):
            save(tmp_path / name / f"{i}.png", picture(hash(name) % 1000 + i, 8, 8))
    report = examine(tmp_path)
    assert report.classes == {"a": 40, "b": 3} and sum(report.classes.values()) == report.count
    assert any("unequal (3 to 40)" in advice for advice in report.advice)
    assert report.stored_bytes == 43 * 3 * 8 * 8 and report.batch_bytes == 4 * 64 * 3 * 8 * 8
    assert report.held_out == len(open_data(tmp_path).split().held_out)


def test_copies_are_counted_exactly():
    base = np.random.default_rng(0).integers(0, 256, (50, 4, 4), dtype=np.uint8)
    report = examine(Dataset.of(np.concatenate([base, base[:7], base[:2]])))
    assert report.duplicates == 9
    assert report.duplicate_names[0] == ["#0", "#50", "#57"]
    assert any("exact copies" in advice for advice in report.advice)
    assert examine(Dataset.of(base)).duplicates == 0


def test_constant_examples_are_found_in_any_depth():
    for kind in (np.uint8, np.uint16, np.float32):
        array = np.random.default_rng(0).random((9, 5, 5)) * 200
        array[[2, 6]] = 7
        report = examine(Dataset.of(array.astype(kind)))
        assert report.constant == 2 and report.odd["constant: every pixel is the same"] == ["#2", "#6"]


@pytest.mark.parametrize(
    ("count", "words"), [(1, "One example"), (90, "by heart"), (900, "near-copies"), (4000, "enough")]
)
def test_advice_follows_the_size(count, words):
    array = np.random.default_rng(0).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    assert words in examine(Dataset.of(array)).advice[0]
    assert not examine(open_data("swiss-roll")).advice


def test_gray_stored_as_colour_is_advised_to_be_gray(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", picture(i, 8, 8, channels=1).repeat(3, axis=2))
    assert any("--channels 1" in advice for advice in examine(tmp_path).advice)
    assert examine(tmp_path, channels=1).shape == (1, 8, 8)


def test_a_part_is_examined_as_itself():
    data = open_data("digits")
    report = examine(data.take(np.flatnonzero(data.labels == 3)))
    assert report.count == 183 and report.classes["3"] == 183 and report.classes["4"] == 0
    assert any("No example of 0, 1" in advice for advice in report.advice)
