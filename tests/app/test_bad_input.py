"""Bad input of every kind ends in one message and its own exit code, and leaves nothing half-written."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odd_images import make_odd_folder
from sfumato.app.cli import run as command


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def pictures(folder, count=30, size=(9, 9)):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(noise((*size, 3), i)).save(folder / f"{i}.png")
    return folder


def empty(place):
    (place / "data").mkdir()
    return place / "data"


def other_files(place):
    folder = empty(place)
    for i in range(3):
        (folder / f"{i}.heic").write_bytes(b"x" * 100)
    return folder


def broken(place):
    folder = empty(place)
    for i in range(20):
        (folder / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    return folder


def zero_bytes(place):
    folder = empty(place)
    (folder / "a.png").write_bytes(b"")
    return folder


def objects(place):
    path = place / "data.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return path


def not_numbers(place):
    path = place / "data.npy"
    np.save(path, np.full((30, 8, 8), np.nan, dtype=np.float32))
    return path


def climbing(place):
    path = place / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.png", b"x")
    return path


def giant(place):
    path = place / "data.npy"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return path


def text(place):
    path = place / "data.csv"
    path.write_text("file,label\n")
    return path


def one_picture(place):
    return pictures(place / "data", 1)


def constant(place):
    path = place / "data.npy"
    np.save(path, np.full((30, 8, 8), 7, dtype=np.uint8))
    return path


def constant_pictures(place):
    folder = empty(place)
    for i in range(12):
        Image.new("RGB", (8, 8), (10, 20, 30)).save(folder / f"{i}.png")
    return folder


CASES = [
    (constant, 3),
    (constant_pictures, 3),
    (empty, 3),
    (other_files, 3),
    (broken, 3),
    (zero_bytes, 3),
    (not_numbers, 3),
    (text, 3),
    (one_picture, 3),
    (objects, 4),
    (climbing, 4),
    (giant, 4),
]


def by_name(lines):
    return [line.split(": ", 1) for line in lines]


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.mark.parametrize(("make", "code"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_data_that_cannot_be_used_end_before_anything_is_written(make, code, tmp_path, capsys):
    data, out = make(tmp_path), tmp_path / "run"
    words = ["train", "vae", str(data), "--out", str(out), "--examples", "64", "--json"]
    assert command(words) == code
    told = answer(capsys)
    assert told["error"] and told["remedy"], told
    assert not out.exists(), "a refused run must leave nothing behind"


def test_the_folder_of_a_user_one_level_up_is_pointed_down(tmp_path, capsys):
    pictures(tmp_path / "data" / "train" / "images", 12)
    (tmp_path / "data" / "notes.txt").write_text("hello")
    assert command(["doctor", str(tmp_path / "data"), "--preview", str(tmp_path / "p.png"), "--json"]) == 0
    assert answer(capsys)["count"] == 12


@pytest.mark.parametrize(
    "words",
    [
        ["--size", "0"],
        ["--size", "-3"],
        ["--size", "many"],
        ["--fit", "squeeze"],
        ["--alpha", "grey"],
        ["--channels", "0"],
        ["--held-out", "nan"],
        ["--held-out", "1.5"],
        ["--held-out", "0.2", "--test", "elsewhere"],
        ["--examples", "0"],
        ["--examples", "-5"],
        ["--examples", "1" + 400 * "0"],
        ["--seed", "-5"],
        ["--seed", str(2**63)],
        ["--set", "batch=0"],
        ["--set", "batch=1000000000"],
        ["--set", "stages.vae.betas=[0.9]"],
        ["--set", "stages.vae.train=nowhere"],
        ["--set", "latent=-2"],
        ["--set", "stages.vae.rate.peak=fast"],
        ["--set", "stages.vae.rate.peek=1"],
        ["--set", "stages.judge.batch=3"],
    ],
    ids=" ".join,
)
def test_absurd_options_are_refused_by_name(words, tmp_path, capsys):
    data, out = pictures(tmp_path / "data"), tmp_path / "run"
    budget = [] if "--examples" in words else ["--examples", "64"]
    assert command(["train", "vae", str(data), "--out", str(out), *budget, *words, "--json"]) == 2
    assert answer(capsys)["error"]
    assert not out.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_place_is_a_storage_error(tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    out = tmp_path / "locked" / "run"
    assert command(["train", "vae", "digits", "--out", str(out), "--examples", "64", "--json"]) == 5
    assert str(out) in answer(capsys)["where"]


def test_a_file_in_the_way_is_a_storage_error(tmp_path, capsys):
    (tmp_path / "run").write_text("not a folder")
    assert (
        command(["train", "vae", "digits", "--out", str(tmp_path / "run"), "--examples", "64", "--json"]) == 5
    )
    assert answer(capsys)["code"] == 5


def test_a_folder_that_is_no_run_says_what_one_is(tmp_path, capsys):
    for verb in ("sample", "reconstruct", "interpolate", "traverse", "evaluate"):
        assert command([verb, str(tmp_path), "--json"]) == 4
        assert "no run folder" in answer(capsys)["error"]


@pytest.mark.parametrize(
    ("about", "facts", "recipe", "words"),
    [
        ({}, 3, 3, "no entry 'recipe'"),
        (3, 3, 3, "no entry 'recipe'"),
        ({"recipe": "vae", "data": "digits", "fingerprint": "0"}, 3, 3, "named entries"),
        (
            {"recipe": "vae", "data": "digits", "fingerprint": "0"},
            {"channels": 1, "space": [8, 8]},
            3,
            "no recipe",
        ),
    ],
)
def test_a_run_whose_description_is_none_is_refused(about, facts, recipe, words, tmp_path, capsys):
    for name, value in (("run", about), ("data", facts), ("recipe", recipe)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    assert command(["sample", str(tmp_path), "--json"]) == 4
    assert words in answer(capsys)["error"]


def test_the_doctors_next_command_is_the_one_that_works(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sfumato.app.estimate.estimate", lambda *_: 1 / 0)
    folder, preview = pictures(tmp_path / "my data", 12), str(tmp_path / "p.png")
    (folder / "bad.png").write_bytes(b"")
    assert command(["doctor", str(folder), "--size", "8", "--channels", "1", "--preview", preview]) == 0
    said = capsys.readouterr().out
    assert f"train diffusevae '{folder}' --size 8 --channels 1 --quarantine\n" in said
    assert said.count(": division by zero.") == 2, "an estimate that fails is one sentence"
    assert said.index("bad.png") < said.index("division"), "the report comes first"
    few = pictures(tmp_path / "few", 3)
    assert command(["doctor", str(few), "--preview", preview]) == 0
    said = capsys.readouterr().out
    assert "Next" not in said and "Training would refuse" in said


def test_a_place_that_cannot_be_written_is_told_before_anything_is_drawn(tmp_path, capsys):
    run, taken = tmp_path / "run", tmp_path / "taken"
    words = ["train", "vae", str(pictures(tmp_path / "data")), "--examples", "64", "--out", str(run)]
    assert command([*words, "--json"]) == 0
    taken.write_text("a file")
    for verb in ("sample", "interpolate", "traverse", "reconstruct"):
        assert command([verb, str(run), "--out", str(taken), "--json"]) == 5
        assert "a file is where a folder should be" in answer(capsys)["error"]
    for reach in ("nan", "inf", "-1", "0"):
        assert command(["traverse", str(run), "--reach", reach, "--json"]) == 2


def test_constant_images_are_named_before_training(tmp_path, capsys):
    assert command(["doctor", str(constant(tmp_path)), "--preview", str(tmp_path / "p.png")]) in (0, 3)
    said = capsys.readouterr()
    assert "constant" in (said.out + said.err).lower() or "same" in (said.out + said.err).lower()


def test_the_odd_folder_is_named_file_by_file_and_trains(tmp_path, capsys):
    odd = make_odd_folder(tmp_path / "odd", ordinary=300)
    assert command(["doctor", str(odd.path), "--preview", str(tmp_path / "p.png"), "--json"]) == 0
    report = answer(capsys)
    bad = {Path(name).name for name, _ in report["bad"]}
    assert bad == {Path(name).name for name in odd.bad}
    out = tmp_path / "run"
    small = ["--size", "16", "--set", "width=8", "--set", "latent=4", "--examples", "128"]
    unseen = make_odd_folder(tmp_path / "unseen", ordinary=100)
    words = ["train", "vae", str(odd.path), "--test", str(unseen.path), "--out", str(out), *small]
    words += ["--quarantine", "--json"]
    assert command(words) == 0
    capsys.readouterr()
    lines = (out / "left-out.txt").read_text().splitlines()
    other = [line.removeprefix("--test ") for line in lines if line.startswith("--test ")]
    own = [line for line in lines if not line.startswith("--test ")]
    for found, made in ((own, odd), (other, unseen)):
        assert len(found) == len(made.bad) and all(made.bad[name] in why for name, why in by_name(found))
    assert f"{len(lines)} files, named in left-out.txt" in (out / "report.html").read_text()
    assert command(["sample", str(out), "-n", "2", "--json"]) == 0
    first = next(p for p in (out / "samples").rglob("0000.*"))
    with Image.open(first) as image:
        assert image.size == (16, 16)
