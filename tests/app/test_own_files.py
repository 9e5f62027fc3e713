"""What the program writes is no data, and takes the place of nobody's files."""

import json
from pathlib import Path

import pytest
from PIL import Image

import sfumato
from odd_images import picture
from sfumato.app.begin import start_again
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.core.errors import RefusedError
from sfumato.training.rundir import RunDir

SMALL = ["--set", "width=8", "--set", "latent=4", "--set", "components=0", "--examples", "64", "--json"]


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder of two classes, to stand in."""
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(picture(100 * k + i, 8, 8)).save(tmp_path / "photos" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path / "photos")
    return tmp_path / "photos"


def test_training_and_looking_inside_the_data_leave_the_data_as_they_are(photos, capsys, monkeypatch):
    monkeypatch.setattr("sfumato.app.estimate.estimate", lambda *_: 1 / 0)  # its steps are not the question
    words = ["train", "vae", ".", *SMALL]
    assert command(words) == 0
    run = Path(answer(capsys)["run"])
    assert run.resolve().is_relative_to(photos)
    weights = {p: p.read_bytes() for p in run.rglob("*.safetensors")}
    assert command(["doctor", ".", "--json"]) == 0  # writes data-preview.png beside the classes
    seen = answer(capsys)
    assert (photos / "data-preview.png").exists() and seen["count"] == 24
    (note,) = seen["notes"]
    assert seen["classes"] == {"cat": 12, "dog": 12} and "pictures lie in runs and are left out" in note
    assert command(words) == 0, "the same command goes on with the run"
    opened = sfumato.open(run)
    assert len(opened.whole) == 24 and opened.about["fingerprint"] == seen["fingerprint"]
    assert {p: p.read_bytes() for p in run.rglob("*.safetensors")} == weights
    (photos / "cat" / "0.png").unlink()
    with pytest.raises(RefusedError, match=r"data have changed.*since 0\.1\.0.*\.jfif"):
        len(sfumato.open(run).whole)
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"options": {"layout": "NHWC"}}))
    with pytest.raises(RefusedError, match="data have changed"):  # an option once ignored is so still
        len(sfumato.open(run).whole)
    assert command(["train", "vae", ".", "--layout", "NHWC", "--out", "new", *SMALL]) == 2
    assert "names the axes of an array" in answer(capsys)["error"]
    assert command(["train", "vae", ".", "--layout", "NHWC", "--out", str(run), *SMALL]) == 2
    assert "axes" not in answer(capsys)["error"], "what differs is the data alone"


@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_files_of_others_stay_where_they_are(tmp_path, capsys, more):
    """Another program's run.json and the like, and a whole folder of images given as --out by mistake."""
    out = tmp_path / "project"
    for name in ("data.json", "run.json", "recipe.json", "data-preview.png", "src/main.py"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text('{"mine": 1}')
    assert command(["train", "vae", "digits", "--out", str(out), *SMALL, *more]) == 2
    told = answer(capsys)
    assert (
        "data-preview.png, data.json, recipe.json and 1 more" in told["error"] and "--out" in told["remedy"]
    )
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 5 and {p.read_text() for p in files} == {'{"mine": 1}'}


def test_a_run_moves_aside_without_the_files_of_others(tmp_path):
    """--fresh beside a log: what others have stays, what the run has goes; cut short it is refused."""
    run = RunDir(tmp_path / "run")
    run.begin({"lr": 1}, {}, {})
    run.save("00001-main-0", {"state.json": b"{}"})
    mine = {p.relative_to(run.path): p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    for name in ("train.log", ".git/HEAD"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text(name)
    start_again(run, Console(silent=True))
    aside = tmp_path / "run-old1"
    assert {p.relative_to(aside): p.read_bytes() for p in aside.rglob("*") if p.is_file()} == mine
    left = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert left == {"train.log", ".git/HEAD", ".lock"} and (run.path / "train.log").read_text() == "train.log"
    start_again(run, Console(silent=True))  # nothing of a run: nothing moves
    assert not (tmp_path / "run-old2").exists() and run.begin({"lr": 2}, {}, {})
    run.save("00001-main-0", {"state.json": b"{}"})
    run.own()[0].rename(tmp_path / "moved.json")
    run.own()[0].rename(tmp_path / "moved2.json")
    with pytest.raises(RefusedError, match="no recipe"):
        run.begin({"lr": 3}, {}, {})
