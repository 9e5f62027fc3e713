"""`distill`: a diffusion run becomes a few-step run that every other verb takes; it resumes, and refuses."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sfumato
from sfumato.app import distill as module
from sfumato.app import student_curve
from sfumato.app.catalog import NAMES
from sfumato.app.cli import run as command
from sfumato.app.compose import compose
from sfumato.app.console import Console
from sfumato.app.curve import Counting
from sfumato.app.distill import distill
from sfumato.app.names import plan_line
from sfumato.app.step_table import lines, read_steps
from sfumato.app.student import check_student
from sfumato.app.student_curve import evaluations, students, teachers
from sfumato.app.teacher import check_teacher
from sfumato.app.train import Budget, train
from sfumato.core.errors import DivergedError, Interrupted, RefusedError, UsageError
from sfumato.core.lazy import build, dump
from sfumato.models.density import Plan
from sfumato.models.generator import CPU_ROWS
from sfumato.models.given import seeds_of
from sfumato.objectives.denoising import diffusion_of
from sfumato.objectives.progressive import Progressive
from sfumato.recipes.few_steps import METHODS
from sfumato.recipes.taught import taught
from sfumato.samplers.consistency import Consistency
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.leap import Leap
from sfumato.training.rundir import RunDir
from sfumato.training.signals import Stop

QUIET = Console(silent=True)
BUDGET = Budget(examples=192)
WORDS = {"budget": BUDGET, "precision": "fp32", "console": QUIET, "looks": 1, "judged": 0}


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def pixel(tmp_path_factory):
    """A tiny pixel diffusion run, for reading only."""
    out = tmp_path_factory.mktemp("pixel") / "pixel"
    words = {"precision": "fp32", "console": QUIET, "looks": 1}
    train("diffusion", "digits", out=out, budget=Budget(examples=1920), settings={"width": 16}, **words)
    return out


@pytest.fixture(scope="module")
def student(trained, tmp_path_factory):
    """The DiffuseVAE's student with guidance built in, with its table; for reading only."""
    out = tmp_path_factory.mktemp("student") / "student"
    words = WORDS | {"judged": 30, "judge": trained / "judge", "settings": {"guidance": 2.0}}
    return distill(trained / "model", "easy", out=out, **words).path


# ------------------------------------------------------------------------------- what comes out


def test_every_verb_takes_a_student(student, trained, tmp_path, capsys):
    folder = shutil.copytree(student, tmp_path / "student")
    teacher = shutil.copytree(trained / "model", tmp_path / "teacher")
    for words in (
        ["sample", folder, "-n", "4", "--class", "3"],
        ["interpolate", folder, "-n", "3"],
        ["traverse", folder, "-n", "3", "--latents", "2"],
        ["reconstruct", folder, "-n", "3"],
        ["evaluate", folder, "-n", "20"],
        ["evaluate", teacher, "-n", "20"],
        ["compare", teacher, folder],
        ["likelihood", folder, "--bound", "elbo", "--against", "5"],
        ["sample", folder, "-n", "2", "--start", "0.8", "--steps", "1"],
    ):
        assert command([*map(str, words), "--json"]) == 0
    assert "Fr" in (folder / "report.html").read_text()
    of_student, of_teacher = (
        json.loads((path / "evaluation.json").read_text()) for path in (folder, teacher)
    )
    assert any(m["name"] == "VLB" for m in of_teacher["metrics"])
    assert not any("VLB" in m["name"] for m in of_student["metrics"])
    assert any("student has no likelihood" in note for note in of_student["notes"])


@pytest.mark.parametrize(
    "words", [["likelihood"], ["likelihood", "--bound", "ode"], ["evaluate", "--bound", "vlb"]]
)
def test_the_likelihood_of_a_student_is_its_teachers(student, trained, capsys, words):
    assert command([words[0], str(student), *words[1:], "--json"]) == 2
    told = answer(capsys)
    assert "no likelihood" in told["error"] and told["where"] == str(student)
    assert told["remedy"].endswith(f"sfumato likelihood {trained / 'model'}")


def test_a_student_samples_without_its_teacher_and_as_its_plan_says(student, trained):
    run = sfumato.open(student)
    assert isinstance(run.generator.plan.solver, Consistency) and run.generator.plan.steps == 2
    assert run.about["teacher"]["run"] == str(trained / "model") and run.about["method"] == "easy"
    images = run.sample(5, seed=3, class_name="7")
    assert np.array_equal(run.sample(3, seed=3, class_name="7", batch=2), images[:3])
    assert not np.array_equal(run.sample(5, seed=4, class_name="7"), images)


def test_what_is_not_trained_is_the_teachers_to_the_bit(student, trained):
    mine, theirs = (sfumato.open(p).model.state_dict() for p in (student, trained / "model"))
    assert mine.keys() == theirs.keys()
    same = {name for name in mine if torch.equal(mine[name], theirs[name])}
    assert {n for n in mine if n.startswith("conditioner")} <= same
    assert not {n for n in mine if n.startswith("density.denoiser.net.first")} & same


def test_the_table_stands_beside_the_teacher_and_in_the_report(student):
    table = read_steps(student)
    by = table.by_sampler()
    assert [row.calls for row in by["student"]] == [1, 2, 4]
    for name in ("teacher, DDIM", "teacher, best solver"):  # guided: no row at a single call
        assert [row.calls for row in by[name]] == [2, 4, 8, 10, 50]
        assert all("guidance 2" in row.plan for row in by[name])
    assert by["teacher, DDIM"][-1].plan.startswith("25 ")
    assert table.protocol["samples"] == 30 and table.protocol["features"].startswith("classifier")
    assert all(np.isfinite([row.frechet, row.seconds]).all() for row in table.rows)
    assert len(lines(table)) == len(table.rows)
    page = (student / "report.html").read_text()
    assert "Quality by network calls" in page and "Teacher and student" in page
    assert (student / "samples" / "teacher-student.png").exists()


@pytest.mark.parametrize(
    ("method", "solver", "settings"),
    [
        ("consistency", Consistency, {"average": 0.9}),
        ("continuous", Consistency, {}),
        ("shortcut", Leap, {"first": 4}),
        ("progressive", Ddim, {"first": 8}),
    ],
)
def test_every_method_distils_a_pixel_model_by_its_command(pixel, tmp_path, capsys, method, solver, settings):
    words = ["distill", str(pixel), "--method", method, "--out", str(tmp_path / "student")]
    judged = "20" if method == "progressive" else "0"
    words += ["--examples", "192", "--precision", "fp32", "--judged", judged, "--json"]
    assert command([*words, *(f"--set={k}={v}" for k, v in settings.items())]) == 0
    told = answer(capsys)
    run = sfumato.open(tmp_path / "student")
    assert isinstance(run.generator.plan.solver, solver)
    assert run.sample(2).shape == (2, 8, 8)
    if method == "shortcut":
        assert [way.calls for way in students(run)] == [1, 2, 4]
        with pytest.raises(UsageError, match=r"1, 2, 4, \.\.\. 4 steps, not 8"):
            run.sample(2, steps=8)
    if method == "progressive":
        assert [s.name for s in run.recipe.stages] == ["round-4", "round-2", "round-1"]
        assert {row["who"] for row in told["steps"]["rows"]} == {"student", "teacher"}
        assert [r["calls"] for r in told["steps"]["rows"] if r["who"] == "student"] == [1, 2, 4]


def test_a_round_is_sampled_with_the_weights_that_taught_the_next(pixel, tmp_path, monkeypatch):
    ends = [0.0, 0.07, 0.05, 0.10]  # raw; reconstructed, so kept nowhere else; second length; first
    taught, opened = {}, Progressive.open

    def chosen(run, progress, judge, found, poll):
        found[0.07] = [0.5 * (a + b) for a, b in zip(found[0.0], found[0.05], strict=True)]
        return ends[-run.stage.objective.steps.bit_length()]

    def seen(objective, model, target):
        opened(objective, model, target)
        taught[objective.steps] = deepcopy(objective.teacher.net.state_dict())

    monkeypatch.setattr("sfumato.training.choice._least", chosen)
    monkeypatch.setattr(Progressive, "open", seen)
    words = WORDS | {"settings": {"first": 16}, "budget": Budget(examples=512)}
    run = distill(pixel, "progressive", out=tmp_path / "s", **words)
    ways = {way.calls: way.generator.density.denoiser.net.state_dict() for way in students(run)}
    assert ways.keys() == {1, 2, 4, 8}
    for steps in (2, 4, 8):
        assert all(torch.equal(ways[steps][name], value) for name, value in taught[steps // 2].items())
    assert any(not torch.equal(ways[4][name], value) for name, value in taught[4].items())
    for folder in (run.path / "ema").iterdir():
        if folder.name.startswith("round-4-"):
            shutil.rmtree(folder)
    assert [way.calls for way in students(run)] == [1, 2, 8]  # what is gone is left out


def test_the_teacher_is_asked_for_what_its_student_was_taught(student, trained):
    mine, teacher = sfumato.open(student), sfumato.open(trained / "model")
    ways = list(teachers(teacher, mine))
    assert all("guidance 2" in plan_line(way.generator, way.plan) for way in ways)
    assert not any("guidance" in plan_line(way.generator, way.plan) for way in teachers(teacher))
    assert all(way.plan.start is None for way in ways)


@pytest.mark.parametrize("interval", [None, (-1.0, 3.0)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_a_row_costs_the_evaluations_that_it_says(trained, scale, interval):
    run = sfumato.open(trained / "model")
    run.generator.plan = replace(run.generator.plan, scale=scale, interval=interval)
    _, density = diffusion_of(run.generator)
    for way in teachers(run):
        if way.calls > 10:
            continue
        with Counting(density.denoiser) as counted:
            way.generator.sample(CPU_ROWS, way.plan, seeds=seeds_of(0, CPU_ROWS))
        cost = counted.per_row(CPU_ROWS)
        assert cost == evaluations(density, way.plan) <= way.calls
        more = replace(way.plan, steps=way.plan.steps + 1)
        assert evaluations(density, more) > way.calls  # as many steps as the calls allow
        if interval is None and way.sampler != "heun":
            assert cost == way.calls


def test_teacher_and_student_step_by_angles_of_the_same_data(pixel):
    facts = sfumato.open(pixel).facts
    tree = compose("ddpm", facts, {})  # predicts the noise: its row knows nothing of the data
    run = SimpleNamespace(facts=facts, folder=SimpleNamespace(read=lambda name: dump(tree, NAMES)))
    grid = build(METHODS["easy"](taught(tree, facts))).model.plan.grid
    assert student_curve._deviation(run) == grid.data != 0.5


def test_points_are_distilled_like_images(tmp_path):
    words = {"precision": "fp32", "console": QUIET, "looks": 1}
    swiss = tmp_path / "swiss"
    train(
        "diffusion",
        "swiss-roll",
        out=swiss,
        budget=Budget(examples=64_000),
        settings={"width": 32, "batch": 128},
        **words,
    )
    run = distill(swiss, out=tmp_path / "student", **WORDS | {"judged": 10})
    assert run.sample(3).shape == (3, 2) and len(read_steps(run.path).rows) > 10


def test_a_truncated_refiner_starts_from_the_first_guess(trained, tmp_path):
    run = distill(trained / "model", out=tmp_path / "s", settings={"start": 0.7, "steps": 1}, **WORDS)
    assert run.generator.plan.start == 0.7
    assert run.generator.plan.grid.levels(run.generator.density.schedule, 1)[0].sigma > 1
    assert "first guess" in run.describe_plan() and run.sample(2).shape == (2, 8, 8)
    assert all(way.plan.start == 0.7 for way in teachers(sfumato.open(trained / "model"), run))
    run.plan(start=0.5)  # a consistency function knows every level it was trained on, and no other
    with pytest.raises(UsageError, match=r"from 0.7 times as much noise as signal, not from 3") as caught:
        run.plan(start=3.0)
    assert caught.value.where == run.path and "--set start=3" in caught.value.remedy


# ------------------------------------------------------------------------------- going on


@pytest.fixture
def stopped(monkeypatch):
    """stopped(n): the trainer is asked to stop at its n-th poll from now on."""

    def after(polls):
        left, poll = [polls], Stop.poll

        def counted(stop):
            left[0] -= 1
            if left[0] == 0:
                stop.requested = 15
            poll(stop)

        monkeypatch.setattr(Stop, "poll", counted)

    return after


@pytest.mark.parametrize("polls", [3, 8])
def test_rounds_that_were_interrupted_resume_to_the_bit(pixel, tmp_path, stopped, polls):
    words = WORDS | {"settings": {"first": 8}, "budget": Budget(examples=384)}
    whole = distill(pixel, "progressive", out=tmp_path / "whole", **words)
    stopped(polls)
    with pytest.raises(Interrupted):
        distill(pixel, "progressive", out=tmp_path / "part", **words)
    again = distill(pixel, "progressive", out=tmp_path / "part", **words)
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_student_goes_on_without_its_teachers_folder(pixel, tmp_path, stopped):
    teacher = shutil.copytree(pixel, tmp_path / "teacher")
    words = WORDS | {"settings": {"average": 0.9}}
    whole = distill(teacher, "consistency", out=tmp_path / "whole", **words)
    stopped(3)
    with pytest.raises(Interrupted):
        distill(teacher, "consistency", out=tmp_path / "part", **words)
    shutil.rmtree(teacher)
    again = distill(teacher, "consistency", out=tmp_path / "part", **words)
    assert again.weights.finished
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_same_words_again_change_nothing_and_other_words_are_refused(pixel, tmp_path, capsys):
    out = tmp_path / "student"
    first = distill(pixel, out=out, **WORDS)
    again = distill(pixel, out=out, **WORDS)
    assert first.weights == again.weights
    for change in ({"method": "consistency"}, {"settings": {"steps": 4}}):
        with pytest.raises(UsageError, match="other words"):
            distill(pixel, **({"method": "easy", "out": out} | WORDS | change))
    with pytest.raises(UsageError, match="trained, not distilled"):
        distill(out, out=pixel, **WORDS)
    words = ["--out", out, "--examples", "192", "--precision", "fp32", "--judged", "0"]
    assert command(["distill", *map(str, [pixel, *words])]) == 0
    told = capsys.readouterr().out
    places = [told.index(f"sfumato {line}") for line in (f"evaluate {out}", f"evaluate {pixel}", "compare ")]
    assert places == sorted(places)  # what was never evaluated cannot be compared


def test_a_teacher_that_has_changed_is_told_and_what_was_stored_counts(pixel, tmp_path, capsys):
    out = tmp_path / "student"
    distill(pixel, out=out, **WORDS)
    about = RunDir(out).read("run.json")
    RunDir(out).tell(teacher=about["teacher"] | {"weights": "0" * 12})
    distill(pixel, out=out, **WORDS | {"console": Console()})
    assert "has changed since" in capsys.readouterr().out
    shutil.rmtree(out / "checkpoints")
    with pytest.raises(RefusedError, match="has changed since"):
        distill(pixel, out=out, **WORDS)


def test_the_default_budget_is_a_part_of_the_teachers(pixel):
    run = sfumato.open(pixel)
    source = module.Source(None, run.facts, {}, run)
    assert module._budget(Budget(), source).hours == pytest.approx(max(0.3 * run.weights.hours, 1e-4))
    kept = module.Source(None, run.facts, {"budget": {"examples": 7}}, None)
    assert module._budget(Budget(), kept) == Budget(examples=7)


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "method", "words"),
    [
        ({"steps": 3}, "progressive", "no power of two"),
        ({"first": 48}, "progressive", "no power of two"),
        ({"first": 2**29}, "progressive", "536,870,912 steps"),
        ({"first": 2**29}, "shortcut", "536,870,912 steps"),
        ({"steps": 128}, "shortcut", "128 steps are more than the 64"),
        ({"steps": 8, "first": 4}, "shortcut", "8 steps are more than the 4"),
        ({"warm": -1.0}, "continuous", "warms up"),
        ({"steps": 8, "first": 8}, "progressive", "cannot be halved"),
        ({"steps": 0}, "easy", "sampling steps"),
        ({"guidance": 2.0}, "easy", "no condition to be guided by"),
        ({"model.density.denoiser.net.width": 32}, "easy", "architecture"),
        ({"stepz": 2}, "easy", "no dial 'stepz'"),
        ({}, "esay", "no method 'esay'"),
    ],
)
def test_settings_no_student_can_have_are_refused_by_name(pixel, tmp_path, settings, method, words):
    with pytest.raises(UsageError, match=words) as caught:
        distill(pixel, method, out=tmp_path / "s", **WORDS | {"settings": settings})
    assert caught.value.remedy and not (tmp_path / "s" / "recipe.json").exists()


def test_runs_that_are_no_diffusion_model_are_refused(trained, student, tmp_path):
    with pytest.raises(UsageError, match="makes no images"):
        distill(trained / "judge", out=tmp_path / "a", **WORDS)
    vae = tmp_path / "vae"
    small = {"width": 16, "components": 1}
    train("vae", "digits", out=vae, budget=Budget(examples=256), settings=small, console=QUIET, looks=1)
    with pytest.raises(UsageError, match="only a diffusion model"):
        distill(vae, out=tmp_path / "b", **WORDS)
    with pytest.raises(UsageError, match="itself a few-step student"):
        distill(student, out=tmp_path / "c", **WORDS)
    with pytest.raises(RefusedError):
        distill(tmp_path / "nothing", out=tmp_path / "d", **WORDS)


def test_a_teacher_is_not_moved_aside_by_its_student_nor_judged_late(pixel, trained, tmp_path):
    with pytest.raises(UsageError, match="its teacher's place"):
        distill(pixel, out=pixel, fresh=True, **WORDS)
    with pytest.raises(UsageError, match="is no classifier"):
        distill(pixel, out=tmp_path / "s", **WORDS | {"judged": 30, "judge": trained / "model"})
    assert (pixel / "run.json").exists() and not (tmp_path / "s" / "recipe.json").exists()


def test_a_teacher_that_diverged_or_learned_nothing_is_refused(pixel):
    run = sfumato.open(pixel)
    check_teacher(run, run.training, 0.75)
    last = run.model.get_submodule("density.denoiser.net.last")
    with torch.no_grad():
        for p in last.parameters():
            p.zero_()
    with pytest.raises(UsageError, match="learned nothing"):
        check_teacher(run, run.training, 0.75)
    with torch.no_grad():
        last.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="diverged"):
        check_teacher(run, run.training, 0.75)


def test_averages_that_still_hold_the_initial_weights_are_named(pixel):
    run = sfumato.open(pixel)  # the raw weights on disk are trained; those in memory stand for the average
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with torch.no_grad():
        for p in run.model.get_submodule("density.denoiser.net.last").parameters():
            p.zero_()
    held = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.weights = type(run.weights)((), "diffusion", 64, 0.0, ())
    with pytest.raises(UsageError, match="still hold the initial ones"):
        check_teacher(run, run.training, 0.75)
    after = run.model.state_dict()
    assert all(torch.equal(after[name], held[name]) for name in held) and before.keys() == after.keys()


def test_a_student_is_not_asked_what_it_never_learned(student):
    run = sfumato.open(student)
    with pytest.raises(UsageError, match="built into"):
        run.sample(1, guidance=2.0)
    with pytest.raises(UsageError, match="solver and a grid of its own"):
        run.sample(1, solver="heun")
    run.plan(steps=4, temperature=0.9)
    halved = Plan(steps=2, solver=Ddim())
    check_student(run.about, halved, student, {"steps": 2})
    with pytest.raises(UsageError, match="learned to make 2 steps, not 4"):
        check_student(run.about, halved, student, {"steps": 4})
    leaping = Plan(steps=2, solver=Leap())
    for steps in (1, 2, 64):
        check_student(run.about, leaping, student, {"steps": steps}, 64)
    for steps in (0, 3, 128):
        with pytest.raises(UsageError, match=rf"1, 2, 4, \.\.\. 64 steps, not {steps}"):
            check_student(run.about, leaping, student, {"steps": steps}, 64)
    for plan in (halved, leaping):
        check_student(run.about, replace(plan, start=0.7), student, {"start": 0.7})
        for own, asked in ((None, 0.7), (0.7, 0.5), (0.7, 3.0)):
            with pytest.raises(UsageError, match="learned to start from"):
                check_student(run.about, replace(plan, start=own), student, {"start": asked})


def test_a_start_needs_a_first_guess(pixel, capsys):
    assert command(["sample", str(pixel), "-n", "1", "--start", "1", "--json"]) == 2
    assert "first guess" in answer(capsys)["error"]
    with pytest.raises(UsageError, match="first guess"):
        distill(pixel, out=pixel.with_name("never"), **WORDS | {"settings": {"start": 1.0}})
