"""`distill` by its words: paths and names, a teacher that moved or is gone, what a table tells, refusals."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

import sfumato
from sfumato.app import student_curve
from sfumato.app.cli import run as command
from sfumato.app.compose import describe
from sfumato.app.console import Console
from sfumato.app.distill import distill
from sfumato.app.guiding import guide_of
from sfumato.app.step_table import MORE, Row, StepTable, doubts, read_steps
from sfumato.app.student_curve import PICTURE, compare_steps, kept, least
from sfumato.app.train import Budget, train
from sfumato.core.errors import UsageError
from sfumato.recipes.few_steps import METHODS
from sfumato.training.rundir import RunDir

QUIET = Console(silent=True)
WORDS = {"budget": Budget(examples=128), "precision": "fp32", "console": QUIET, "looks": 1, "judged": 0}
ASKED = ["--examples", "128", "--precision", "fp32"]


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A tiny diffusion run and its student, with a table of ten samples; for reading only."""
    folder = tmp_path_factory.mktemp("taught")
    words = {"precision": "fp32", "console": QUIET, "looks": 1}
    settings = {"width": 16, "conditional": True}
    teacher = folder / "teacher"
    train("diffusion", "digits", out=teacher, budget=Budget(examples=1280), settings=settings, **words)
    distill(teacher, out=folder / "student", **WORDS | {"judged": 10})
    return folder


@pytest.fixture
def here(taught, tmp_path):
    """A copy to write to, whose student says that its teacher is beside it."""
    folder = shutil.copytree(taught, tmp_path / "here")
    about = RunDir(folder / "student").read("run.json")
    RunDir(folder / "student").tell(teacher=about["teacher"] | {"run": str(folder / "teacher")})
    return folder


# ------------------------------------------------------------------------------- names


@pytest.mark.parametrize(("inside", "word"), [("", "."), ("samples", "..")])
def test_a_teacher_by_dots_gives_its_name_to_its_student(here, inside, word, monkeypatch):
    monkeypatch.chdir(here / "teacher" / inside)
    assert command(["distill", word, *ASKED, "--judged", "0"]) == 0
    assert sfumato.open(here / "teacher-easy").about["teacher"]["run"] == str(here / "teacher")


def test_the_dials_of_a_method_are_shown_like_a_recipes(capsys):
    for name, method in METHODS.items():
        assert command(["recipes", name]) == 0
        told = capsys.readouterr().out
        assert f"a method of `sfumato distill RUN --method {name}`" in told
        entry = describe(name)
        assert entry["about"] in told and entry["text"] in told
        assert {dial["name"] for dial in entry["dials"]} == set(method.__kwdefaults__)
        assert all(f"--set {dial}=" in told for dial in method.__kwdefaults__)
    assert command(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert listed.index("classifier") < listed.index("Methods of") < listed.index("\neasy")
    assert command(["recipes", "--json"]) == 0
    told = answer(capsys)
    assert [m["name"] for m in told["methods"]] == list(METHODS)
    assert not set(METHODS) & {r["name"] for r in told["recipes"]}
    assert command(["recipes", "shortcat", "--json"]) == 2
    assert "'shortcut'" in answer(capsys)["remedy"]
    assert command(["train", "easy", "digits", "--json"]) == 2  # no recipe


# ------------------------------------------------------------------------------- the teacher elsewhere


def test_a_teacher_that_moved_is_known_by_its_weights(here, capsys):
    moved = (here / "teacher").rename(here / "moved")
    words = ["--out", str(here / "student"), *ASKED, "--judged", "0", "--json"]
    assert command(["distill", str(moved), *words]) == 0
    capsys.readouterr()
    assert RunDir(here / "student").read("run.json")["teacher"]["run"] == str(moved)
    RunDir(here / "student").tell(teacher={"run": str(here / "teacher"), "weights": "0" * 12})
    assert command(["distill", str(moved), *words]) == 2  # other weights from another place
    assert "other words: teacher" in answer(capsys)["error"]
    assert command(["distill", str(here / "nowhere"), *words]) == 2
    assert "other words: teacher" in answer(capsys)["error"]


def test_rows_of_a_teacher_that_is_gone_are_kept(here, capsys):
    """The same command again draws as many samples, keeps its rows and the picture, and names it no more."""
    student = here / "student"
    before, shown = read_steps(student), (student / "samples" / f"{PICTURE}.png")
    pixels = shown.read_bytes()
    shutil.rmtree(here / "teacher")
    assert command(["distill", str(here / "teacher"), "--out", str(student), *ASKED]) == 0
    told, after = capsys.readouterr().out, read_steps(student)
    assert "Measuring the student: 10 samples" in told and "Comparing with" not in told
    assert "its rows are those that were measured before" in told
    assert f"evaluate {here / 'teacher'}" not in told and "sfumato compare" not in told
    assert after.protocol == before.protocol
    assert {r for r in after.rows if r.who == "teacher"} == {r for r in before.rows if r.who == "teacher"}
    assert [r.frechet for r in after.rows if r.who == "student"] == [
        r.frechet for r in before.rows if r.who == "student"
    ]
    assert shown.read_bytes() == pixels and "teacher, DDIM" in (student / "report.html").read_text()


def test_rows_of_another_protocol_are_not_put_beside(capsys):
    row = Row("teacher", "ddim", 2, 3.0, 0.1, 0.01, "2 steps")
    before = StepTable(
        {"samples": 200, "features": "f"}, (row, replace(row, who="student", sampler="student"))
    )
    assert kept(before, dict(before.protocol), Console()) == (row,)
    assert kept(before, {"samples": 300, "features": "f"}, Console()) == ()
    told = capsys.readouterr().out
    assert "measured before" in told and "(200 samples by f) cannot stand beside" in told
    assert kept(StepTable(), {"samples": 300}, Console()) == () == least(())


# ------------------------------------------------------------------------------- what a table can tell


def rows_of(mine, ddim, best, spread=0.3):
    return (
        Row("student", "student", 2, mine, spread, 0.0, ""),
        Row("teacher", "ddim", 2, ddim, spread, 0.0, ""),
        Row("teacher", "heun", 8, best, spread, 0.0, ""),
        Row("teacher", "ddim", 8, mine, spread, 0.0, ""),  # no rival
    )


@pytest.mark.parametrize(
    ("mine", "ddim", "best", "told"),
    [
        (2.0, 9.0, 2.5, "the teacher's best solver at 8; more"),
        (2.0, 2.1, 9.0, "the teacher's DDIM of as many; more"),
        (2.0, 2.1, 1.9, "the teacher's DDIM of as many or from its best solver at 8; more"),
        (2.0, 9.0, 1.0, ""),  # clearly worse than the solver: that is told by the numbers
        (2.0, 9.0, 3.0, ""),
        (2.0, 9.0, 2.0 + 0.6 * 2**0.5 - 1e-9, "best solver"),  # two joint errors of 0.3 each
        (2.0, 9.0, 2.0 + 0.6 * 2**0.5 + 1e-9, ""),
    ],
)
def test_distances_that_cannot_be_told_apart_are_named(mine, ddim, best, told):
    table = StepTable({"samples": 200}, rows_of(mine, ddim, best))
    found = " ".join(doubts(table, 10_000))
    assert (told in found and f"--judged {200 * MORE}" in found) if told else not found


def test_no_more_samples_are_proposed_than_can_be_drawn():
    table = StepTable({"samples": 200}, rows_of(2.0, 2.0, 2.0))
    assert "--judged 900" in doubts(table, 900)[0]
    assert "--judged" not in doubts(table, 200)[0] and "cannot tell" in doubts(table, 200)[0]
    alone = StepTable({"samples": 200}, rows_of(2.0, 2.0, 2.0)[:1])
    assert doubts(alone, 900) == [] == doubts(StepTable(), 900)


def test_more_samples_than_training_images_are_cut_and_that_is_said(taught, monkeypatch, capsys):
    run, asked = sfumato.open(taught / "student"), []
    row = Row("student", "student", 1, 1.0, 0.1, 0.0, "")
    monkeypatch.setattr(student_curve, "measured", lambda *words: asked.append(words[5]) or row)
    monkeypatch.setattr(student_curve, "picture", lambda *words: b"")
    monkeypatch.setattr(run.folder, "disk", SimpleNamespace(replace=lambda *words: None))
    compare_steps(run, None, count=10**6, console=Console())
    count = len(run.training)
    assert set(asked) == {count}
    assert f"1,000,000 samples are more than there are training images: {count:,}" in capsys.readouterr().out


# ------------------------------------------------------------------------------- what is refused


def test_a_strength_that_is_none_is_refused_before_anything_is_written(taught, tmp_path, capsys):
    words = ["distill", str(taught / "teacher"), "--out", str(tmp_path / "s"), "--json"]
    assert command([*words, "--set", "guidance=-1"]) == 2
    assert answer(capsys)["remedy"] == "For example: --set guidance=2"
    assert command([*words, "--set", "stages.consistency.objective.teaching.scale=-1"]) == 2
    assert "guidance scale" in answer(capsys)["error"] and not (tmp_path / "s" / "run.json").exists()


def test_no_guidance_is_built_in_from_a_teacher_that_never_left_its_condition_out(tmp_path, capsys):
    settings = {"width": 16, "conditional": True, "stages.diffusion.objective.dropout": 0.0}
    words = {"precision": "fp32", "console": QUIET, "looks": 1, "settings": settings}
    teacher = train("diffusion", "digits", out=tmp_path / "teacher", budget=Budget(examples=64), **words).path
    words = ["distill", str(teacher), "--out", str(tmp_path / "s"), *ASKED, "--judged", "0", "--json"]
    for scale in ("2", "0"):
        assert command([*words, "--set", f"guidance={scale}"]) == 2
        told = answer(capsys)
        assert "no unconditional answer to guide away from" in told["error"]
        assert told["remedy"].startswith("Distil it without: --set guidance=1")
    assert command(["sample", str(teacher), "-n", "1", "--guidance", "2", "--json"]) == 2
    assert answer(capsys)["error"] == told["error"]
    assert command([*words, "--set", "guidance=1"]) == 2  # that is no reason, a training so short is one
    assert "learned nothing" in answer(capsys)["error"] and not (tmp_path / "s" / "run.json").exists()


def test_a_student_is_no_worse_self_of_autoguidance(taught):
    teacher = sfumato.open(taught / "teacher")
    with pytest.raises(UsageError, match="ends of trajectories, not means"):
        guide_of(teacher, None, taught / "student")
    guide_of(teacher, None, taught / "teacher")


def test_the_curve_of_a_student_is_refused_in_words_of_its_own(here, capsys):
    assert command(["curve", str(here / "student"), "-n", "10", "--json"]) == 2
    told = answer(capsys)
    assert "has no curve" in told["error"] and "Leave" not in told["remedy"]
    assert told["remedy"].endswith(f"sfumato curve {here / 'teacher'}")
    capsys.readouterr()
    assert command(["distill", "--help"]) == 0
    assert "curve and likelihood" in " ".join(capsys.readouterr().out.split())


def test_a_judge_of_nothing_is_refused(taught, tmp_path, capsys):
    words = ["--out", str(tmp_path / "s"), "--judge", str(tmp_path / "none"), "--judged", "0", "--json"]
    assert command(["distill", str(taught / "teacher"), *words]) == 2
    assert "--judge changes nothing" in answer(capsys)["error"] and not (tmp_path / "s").exists()
