"""Folders: labels by place or by table, and errors that say what was seen."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from odd_images import exif, make_odd_folder, picture, save
from sfumato.core.errors import DataError, UsageError
from sfumato.data import pool
from sfumato.data.folder import Folder
from sfumato.data.listing import classes_from_folders, natural, outside_runs, rows_from_table, unread
from sfumato.data.sources import open_data, open_like


def fill(folder, count=4, start=0, **how):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        save(folder / f"{i}.png", picture(start + i, 8, 8, **how))


# ------------------------------------------------------------------------------ the mixed folder


def test_the_mixed_folder_is_used_and_every_oddity_is_named(tmp_path):
    odd = make_odd_folder(tmp_path / "mixed")
    data = open_data(odd.path)
    survey = data.survey
    assert dict(survey.bad).keys() == odd.bad.keys()
    for name, why in survey.bad:
        assert odd.bad[name] in why
    for name, word in odd.odd.items():
        assert any(word in what and name in names for what, names in survey.odd.items()), (name, survey.odd)
    assert data.facts.shape == (3, 24, 24) and data.facts.kind == "uint8"
    assert len(data) + len(odd.bad) == survey.found
    stored = dict(zip(data.names, data.stored, strict=True))
    assert np.array_equal(stored["img007.png"].transpose(1, 2, 0), picture(7))
    assert np.array_equal(stored["UPPER.PNG"].transpose(1, 2, 0), picture(207))
    assert np.array_equal(stored["colour16.png"].transpose(1, 2, 0), picture(211))  # x 257 and back
    gray = picture(200, channels=1)[..., 0]
    assert all(np.array_equal(channel, gray) for channel in stored["gray.png"])
    white = np.round(picture(201) * (100 / 255) + 255 * (155 / 255))
    assert np.array_equal(stored["rgba.png"].transpose(1, 2, 0), white)


def test_too_many_bad_files_stop_the_work_unless_quarantined(tmp_path):
    fill(tmp_path / "d", 10)
    for i in range(15):
        (tmp_path / "d" / f"broken{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="15 of 25 files cannot be used") as caught:
        open_data(tmp_path / "d")
    assert "broken0.png: damaged" in str(caught.value) and "and 5 more" in str(caught.value)
    assert "--quarantine" in caught.value.remedy and caught.value.code == 3
    assert len(open_data(tmp_path / "d", quarantine=True)) == 10
    with pytest.raises(DataError):  # also when the decoded data come from the cache
        open_data(tmp_path / "d")


def test_nothing_usable_at_all(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 1 files"):
        open_data(tmp_path, quarantine=True)


def test_one_picture_and_constant_pictures(tmp_path):
    fill(tmp_path / "one", 1)
    assert len(open_data(tmp_path / "one")) == 1
    save(tmp_path / "one" / "0.png", np.full((8, 8, 3), 9, np.uint8))
    data = open_data(tmp_path / "one")
    assert data.survey.odd["constant: every pixel is the same"] == ["0.png"]


# ----------------------------------------------------------------------------------------- labels


def test_sub_folders_are_classes_in_natural_order(tmp_path):
    for i, name in enumerate(("class 10", "class 9", "Class 1")):
        fill(tmp_path / "d" / name / "deeper", 2, 10 * i)
    data = open_data(tmp_path / "d")
    assert data.facts.classes == ("Class 1", "class 9", "class 10")
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(data.name_of(i).startswith(data.facts.classes[data.labels[i]]) for i in range(6))


@pytest.mark.parametrize(
    ("names", "classes", "note"),
    [
        (["a.png", "b.png"], (), False),
        (["x/a.png", "x/b.png"], (), False),
        (["x/a.png", "y/b.png"], ("x", "y"), False),
        (["top/x/a.png", "top/y/b.png"], ("x", "y"), False),
        (["a.png", "x/a.png", "y/b.png"], (), True),
        (["train/a.png", "other/b.png"], ("other", "train"), False),
    ],
)
def test_what_places_mean(names, classes, note):
    rows = classes_from_folders(names, "d")
    assert rows.classes == classes and bool(rows.notes) == note


def test_a_split_is_not_taken_for_classes():
    with pytest.raises(DataError, match="parts of a split") as caught:
        classes_from_folders(["Train/a.png", "test/b.png", "val/c.png"], "d")
    assert "d/Train" in caught.value.remedy and "--test" in caught.value.remedy


def test_a_table_gives_labels_captions_and_factors(tmp_path):
    fill(tmp_path, 4)
    (tmp_path / "labels.csv").write_text(
        "\ufefffile;label;caption;angle\n0.png;cat;a cat;0.5\n./2.png;dog;a dog, wet;-1\nx.png;cat;gone;3\n"
    )
    data = open_data(tmp_path)
    assert data.names == ("0.png", "2.png") and data.facts.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1] and data.captions == ("a cat", "a dog, wet")
    assert data.facts.factors == ("angle",) and data.factors.tolist() == [[0.5], [-1.0]]
    assert any("1 lines of the table name no picture" in n for n in data.survey.notes)
    assert any("2 pictures have no label" in n for n in data.survey.notes)


def test_factors_of_some_pictures_only_are_refused_by_the_first_without(tmp_path):
    """The pictures are data all the same; only who asks for the factors is refused."""
    fill(tmp_path, 4)
    table = tmp_path / "factors.csv"
    table.write_text("file,angle,size\n0.png,1,2\n3.png,0,1\n")
    for data in (open_data(tmp_path), open_data(tmp_path)):  # decoded now, then from the cache
        assert len(data) == 4 and data.facts.factors == ("angle", "size")
        assert data.survey.notes == [
            "The table gives angle, size for 2 of 4 pictures and has no line for 1.png and 1 more: "
            "these known factors are left out."
        ]
        with pytest.raises(
            DataError, match=r"angle, size for 2 of 4 pictures and has no line for 1\.png"
        ) as caught:
            data.factor_values  # noqa: B018
        assert "Add a line for every picture" in caught.value.remedy and caught.value.code == 3
        assert data.take([3, 0]).factor_values.tolist() == [[0, 1], [1, 2]]  # told of all of these
        with pytest.raises(DataError, match=r"for 1 of 2 pictures and has no line for 2\.png"):
            data.take([3, 2]).factor_values  # noqa: B018
    described = data.facts.to_json()
    table.write_text("file,caption\n0.png,one\n3.png,two\n")  # captions may be of some only
    assert open_data(tmp_path).captions == ("one", "", "", "two")
    table.write_text("file,angle,size\n" + "".join(f"{i}.png,{i / 2},1\n" for i in range(4)))
    whole = open_data(tmp_path)
    assert whole.factor_values[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5] and whole.survey.notes == []
    # a run begun with the part goes on with the whole table, and the other way round
    assert whole.facts.to_json() == described


def test_a_changed_table_is_noticed_and_a_chosen_one_wins(tmp_path):
    fill(tmp_path / "d", 2)
    (tmp_path / "d" / "a.csv").write_text("0.png,x\n1.png,y\n")
    assert open_data(tmp_path / "d").facts.classes == ("x", "y")
    (tmp_path / "d" / "a.csv").write_text("0.png,x\n1.png,z\n")
    assert open_data(tmp_path / "d").facts.classes == ("x", "z")
    (tmp_path / "other.csv").write_text("file,label\n0.png,p\n1.png,q\n")
    assert open_data(tmp_path / "d", labels=str(tmp_path / "other.csv")).facts.classes == ("p", "q")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("file,label\n", "no line but its head"),
        ("who,what\na.png,cat\n", "no column with the files"),
        ("file,label\nb.png,cat\n", "none of the 1 files in the table is here, e.g. 'b.png'"),
        ("file,label\na.png,cat\na.png,cat,7\n", "line 3 has 3 columns"),
    ],
)
def test_tables_with_mistakes(text, words):
    with pytest.raises(DataError, match=words) as caught:
        rows_from_table(text, ["a.png"], "labels.csv")
    assert caught.value.remedy


cell = (
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)


@given(
    labels=st.lists(cell, min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t"),
    head=st.booleans(),
    numbers=st.booleans(),
)
def test_any_table_written_by_csv_is_read_back(labels, delimiter, head, numbers):
    import csv
    import io

    names = [f"dir/{i} picture.png" for i in range(len(labels))]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    if head:
        writer.writerow(["file", "label"] + ["angle"] * numbers)
    for i, (name, label) in enumerate(zip(names, labels, strict=True)):
        writer.writerow([name, label] + [i / 8] * (numbers and head))
    rows = rows_from_table(out.getvalue(), names, "t.csv")
    assert rows.labels == dict(zip(names, labels, strict=True))
    if numbers and head:
        assert rows.factors == {name: (i / 8,) for i, name in enumerate(names)}


@given(text=st.text(max_size=200))
def test_any_text_as_table_is_read_or_refused_with_our_error(text):
    try:
        rows_from_table(text, ["a.png", "b/a.png"], "t.csv")
    except DataError as error:
        assert error.where == "t.csv" and error.remedy


@given(names=st.lists(st.text(max_size=12), max_size=10))
def test_natural_order_does_not_depend_on_the_order_before(names):
    assert sorted(names, key=natural) == sorted(sorted(names), key=natural)
    assert sorted(["img10", "img9", "img1"], key=natural) == ["img1", "img9", "img10"]


# ---------------------------------------------------------------------------- what is not read


def test_every_kind_of_file_that_is_not_read_is_named_with_its_count(tmp_path):
    fill(tmp_path, 3)
    Image.fromarray(picture(9, 8, 8)).save(tmp_path / "a.jfif", format="JPEG")
    Image.fromarray(picture(10, 8, 8)).save(tmp_path / "b.JPE", format="JPEG")
    (tmp_path / "deep").mkdir()
    for name in ("x.heic", "deep/y.HEIC", "readme", "one.csv", "two.csv", "deep/three.csv", ".hidden.txt"):
        (tmp_path / name).write_text("file,label\n0.png,cat\n")
    data = open_data(tmp_path)
    assert len(data) == 5 and data.facts.classes == ()
    assert data.survey.notes == [
        "2 tables lie here (one.csv, two.csv); none is taken for labels. Name it: --labels one.csv",
        "2 .heic files are not read, e.g. deep/y.HEIC. Convert them to PNG or JPEG first.",
        "1 file without extension is not read: readme",
        "1 .csv file is not read: deep/three.csv",
    ]
    (tmp_path / "x.heic").unlink()  # nothing is decoded anew for it, and yet it is gone from the notes
    assert "1 .heic file is not read: deep/y.HEIC. Convert" in "\n".join(open_data(tmp_path).survey.notes)
    notes = open_data(tmp_path, labels="two.csv").survey.notes
    assert not any("tables" in n for n in notes) and "2 .csv files are not read, e.g. deep/three.csv" in notes


@given(
    names=st.lists(
        st.from_regex(r"(x/)?[a-c]{1,2}(\.(png|txt|HEIC|csv|q[a-f][a-f]))?", fullmatch=True), unique=True
    )
)
def test_notes_count_every_file_that_is_no_picture(names):
    notes = unread(names)
    counted = sum(int(note.split()[0].replace(",", "")) for note in notes)
    assert counted == sum(not n.endswith(".png") for n in names) and len(notes) <= 9
    assert unread(names, set(names)) == []


# ------------------------------------------------------------------------- what we wrote ourselves


def fill_run(folder):
    """What a training leaves that could be taken for data."""
    fill(folder / "samples", 3, 50)
    fill(folder, 1, 60)
    (folder / "checkpoints" / "00001-vae-8").mkdir(parents=True)
    for name in ("recipe.json", "run.json", "checkpoints/00001-vae-8/MANIFEST.json"):
        (folder / name).write_text("{}")


def test_runs_and_previews_in_a_folder_are_no_part_of_it(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / name, 2)
    before = open_data(tmp_path)
    fill_run(tmp_path / "runs" / "d-vae")
    fill_run(tmp_path / "runs" / "d-vae-old1")
    (tmp_path / "runs" / "d-vae-old1" / "run.json").unlink()  # a damaged run is one still
    fill_run(tmp_path / "cat" / "run")
    save(tmp_path / "data-preview.png", picture(70))
    after = open_data(tmp_path)
    assert after.names == before.names and after.facts == before.facts
    assert after.facts.classes == ("cat", "dog") and before.survey.notes == []
    (note,) = after.survey.notes
    assert note.startswith("12 pictures lie in runs and are left out, e.g. cat/run/")
    samples = tmp_path / "runs" / "d-vae" / "samples"
    assert len(open_data(samples)) == 3  # asked for by name, samples are pictures like any other


@given(
    data=st.lists(st.sampled_from(["a.png", "x/b.png", "x/run.json", "recipe.json", "run.json", "z/c"])),
    runs=st.lists(st.sampled_from(["r", "runs/m", "x/run", "recipe.json"])),
    inside=st.lists(st.sampled_from(["samples/1.png", "data.json", "x/recipe.json"])),
)
def test_runs_added_to_any_files_change_nothing(data, runs, inside):
    made = [f"{run}/{name}" for run in runs for name in ("recipe.json", "run.json", *inside)]
    assert outside_runs([*made, *data]) == outside_runs(data) == data


# ----------------------------------------------------------------------------------------- errors


def test_an_empty_folder_says_what_was_looked_for_and_seen(tmp_path):
    (tmp_path / "d").mkdir()
    for i in range(3):
        (tmp_path / "d" / f"{i}.heic").touch()
    (tmp_path / "d" / "readme").touch()
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "d")
    text = str(caught.value)
    assert "I looked for .png .jpg" in text and "3 .heic, 1 without extension" in text
    assert "Convert them" in text and caught.value.code == 3
    (tmp_path / "d" / "pictures.zip").touch()
    with pytest.raises(DataError, match=r"Did you mean the file .*pictures\.zip"):
        open_data(tmp_path / "d")


def test_wrong_names_offer_the_right_one(tmp_path, monkeypatch):
    fill(tmp_path / "cats", 1)
    with pytest.raises(DataError, match="Did you mean 'cats'"):
        open_data(tmp_path / "catz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'digits'"):
        open_data("digit")
    with pytest.raises(DataError, match="There is no folder"):
        open_data(tmp_path / "no" / "where")
    with pytest.raises(DataError, match="one picture"):
        open_data(tmp_path / "cats" / "0.png")
    (tmp_path / "x.txt").touch()
    with pytest.raises(DataError, match="no kind of data"):
        open_data(tmp_path / "x.txt")
    with pytest.raises(UsageError, match=r"takes no options[^.]*\n  Leave --size"):
        open_data("digits", size=32)
    with pytest.raises(UsageError, match=r"axes of an array[^.]*\n  Leave --layout out"):
        open_data(tmp_path / "cats", layout="NHWC")
    for text, words in ((b"\xff\xfe\x80", "not UTF-8"), (None, "cannot be read: No such file")):
        (tmp_path / "t.csv").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "t.csv").write_bytes(text)
        with pytest.raises(DataError, match=words) as caught:
            open_data(tmp_path / "cats", labels=str(tmp_path / "t.csv"))
        assert "--labels" in caught.value.remedy


def test_a_link_that_leads_nowhere_is_named_like_any_bad_file(tmp_path):
    fill(tmp_path, 30)
    (tmp_path / "gone.png").symlink_to(tmp_path / "moved away.png")
    data = open_data(tmp_path)
    assert len(data) == 30 and data.survey.bad == [("gone.png", "No such file or directory")]


def test_links_in_a_ring_and_hidden_files_do_no_harm(tmp_path):
    fill(tmp_path / "d" / "a", 2)
    (tmp_path / "d" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "d" / "a" / "ring").symlink_to(tmp_path / "d", target_is_directory=True)
    assert Folder(tmp_path / "d").names == ["a/0.png", "a/1.png"]


# ----------------------------------------------------------------------------- the decoding children


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_file_that_blocks_is_named_and_the_rest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS", 1.0)
    monkeypatch.setattr(pool, "BATCH", 3)
    fill(tmp_path, 40)
    os.mkfifo(tmp_path / "pipe.png")
    data = open_data(tmp_path)
    assert data.survey.bad == [("pipe.png", "decoding took longer than 1 s")]
    assert len(data) == 40


def test_a_child_that_dies_is_replaced_and_nothing_is_lost(tmp_path):
    fill(tmp_path, 5)
    child = pool.Child()
    items = [pool.Item(f"{i}.png", path=str(tmp_path / f"{i}.png")) for i in range(5)]
    child._start().kill()
    assert [r.error for r in child.ask(items, None)] == [None] * 5
    child.close()


def test_the_child_starts_without_torch():
    code = "import sys, sfumato.data.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_results_keep_the_order_of_the_items(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "BATCH", 2)
    fill(tmp_path, 30)
    names = [f"{i}.png" for i in range(30)] + ["missing.png"]
    items = [pool.Item(n, path=str(tmp_path / n)) for n in names]
    with pool.Decoders(3) as decoders:
        results = list(decoders.results(items, None))
    assert [r.item.name for r in results] == names
    assert results[-1].error == "No such file or directory"


# --------------------------------------------------------------------------- as another run sees it


def test_other_pictures_are_brought_to_the_facts_of_a_run(tmp_path):
    for i, name in enumerate(("ant", "bee", "cow")):
        fill(tmp_path / "train" / name, 3, 10 * i, channels=1)
    facts = open_data(tmp_path / "train").facts.padded_to(5)
    for name in ("cow", "ant"):
        (tmp_path / "test" / name).mkdir(parents=True)
        save(tmp_path / "test" / name / "t.png", picture(99, 16, 12))
    seen = open_like(tmp_path / "test", facts)
    assert seen.facts.shape == facts.shape == (1, 10, 10)
    assert [seen.facts.classes[i] for i in seen.batch([0, 1]).label] == ["ant", "cow"]
    one = open_like(tmp_path / "test" / "cow" / "t.png", facts)
    assert len(one) == 1 and one.batch([0]).label is None
    fill(tmp_path / "test" / "yak", 1)
    with pytest.raises(DataError, match="the class 'yak' is unknown"):
        open_like(tmp_path / "test", facts)
    with pytest.raises(
        DataError, match=r"trained on 8 x 8, 1 channel, 8-bit and these are 32 x 32, 3 channels"
    ):
        open_like("shapes", facts)


def test_sixteen_bit_data_are_seen_in_the_range_of_the_training(tmp_path):
    for part, top in (("train", 4000), ("test", 900)):
        (tmp_path / part).mkdir()
        for i in range(3):
            deep = np.linspace(i, top, 64).astype(np.uint16).reshape(8, 8)
            Image.fromarray(deep).save(tmp_path / part / f"{i}.png")
    save(tmp_path / "test" / "turned.jpg", picture(1, 8, 9), exif=exif(6))
    facts = open_data(tmp_path / "train").facts
    assert (facts.kind, facts.low, facts.high) == ("uint16", 0.0, 4000.0)
    seen = open_like(tmp_path / "test", facts)
    assert seen.batch([0]).x.max() == pytest.approx(-1 + 2 * 900 / 4000)
    assert seen.facts.kind == "uint16" and len(seen) == 4


def test_a_folder_of_samples_is_its_images_without_their_sheet(tmp_path):
    fill(tmp_path / "drawn", 4)
    save(tmp_path / "drawn" / "grid.png", picture(9, 34, 34))
    assert "grid.png" in Folder(tmp_path / "drawn").names  # a picture of that name like any other
    (tmp_path / "drawn" / "samples.json").write_text("{}")
    assert Folder(tmp_path / "drawn").names == ["0.png", "1.png", "2.png", "3.png"]
    assert open_data(str(tmp_path / "drawn")).facts.shape == (3, 8, 8)
