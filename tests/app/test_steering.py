"""Guidance, grids and the step curve from the command line: honoured and said, or refused with the reason."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.curve import Bench, Counting, curve
from sfumato.app.guiding import early
from sfumato.app.names import GRIDS, plan_line
from sfumato.app.pictures import as_model
from sfumato.app.planning import plan_origin
from sfumato.app.solving import SOLVERS
from sfumato.app.train import Budget, train
from sfumato.core.errors import DataError, RefusedError, UsageError
from sfumato.core.lazy import build
from sfumato.data.facts import Facts
from sfumato.evaluation.steps import Point
from sfumato.models.generator import CPU_ROWS
from sfumato.models.given import Given, seeds_of
from sfumato.models.guides import ByClassifier
from sfumato.recipes import RECIPES
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Angle, Karras, LogSnr
from sfumato.samplers.heun import Heun
from sfumato.samplers.optimised import Optimised
from sfumato.samplers.unipc import UniPC

QUIET = Console(silent=True)


def made(out, recipe, examples=1280, data="digits", **settings):
    budget = Budget(examples=examples)
    return train(recipe, data, out=out, budget=budget, settings=settings, console=QUIET, looks=1)


@pytest.fixture(scope="session")
def plain(tmp_path_factory, trained) -> Path:
    """An unconditional diffusion of digits, a classifier of noisy digits and one of clean ones."""
    folder = tmp_path_factory.mktemp("steering")
    made(folder / "model", "diffusion", width=16, **{"model.plan.steps": 3})
    made(folder / "noisy", "classifier", examples=5120, width=8, noisy=True)
    shutil.copytree(trained / "judge", folder / "judge")
    return folder


@pytest.fixture
def here(plain, tmp_path) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(plain, tmp_path / "here"))


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


# --------------------------------------------------------------------------------- classifier guidance


def test_a_classifier_gives_classes_to_a_run_that_has_none(here, capsys):
    words = ["sample", str(here / "model"), "-n", "6", "--class", "3", "--guidance", "2"]
    assert command([*words, "--classifier", str(here / "noisy"), "--json"]) == 0
    told = answer(capsys)
    kept = json.loads((Path(told["folder"]) / "samples.json").read_text())
    assert kept["labels"] == ["3"] * 6
    assert "guidance 2 by the classifier noisy" in kept["plan"]


def test_the_classifier_pulls_towards_its_class(plain):
    """The mean log-probability of the class rises with the scale, by the same classifier."""
    run = sfumato.open(plain / "model")
    judge = sfumato.open(plain / "noisy").model
    level = run.generator.density.schedule.path.level(6.0)
    found = []
    for scale in (0.0, 1.0, 8.0):
        plan = run.plan(guidance=scale, classifier=plain / "noisy", steps=6)
        x = as_model(run.sample(24, class_name="0", plan=plan), run.facts)
        with torch.no_grad():
            found.append(float(torch.log_softmax(judge(x, level), 1)[:, 0].mean()))
    assert found[0] < found[1] < found[2]


def test_scale_zero_is_the_run_without_guidance(plain):
    run = sfumato.open(plain / "model")
    guided = run.sample(4, guidance=0.0, classifier=plain / "noisy", class_name="1")
    assert np.array_equal(guided, run.sample(4))


@pytest.mark.parametrize("solver", sorted({"ddim", "ancestral", "heun", "unipc"} & set(SOLVERS)))
def test_guided_images_depend_on_their_seed_alone(plain, solver):
    run = sfumato.open(plain / "model")
    words = {"solver": solver, "steps": 12}
    asked = {"guidance": 4.0, "classifier": plain / "noisy", **words}
    whole = run.sample(5, seed=3, **asked)
    assert np.array_equal(run.sample(3, seed=3, batch=2, **asked), whole[:3])
    assert not np.array_equal(whole, run.sample(5, seed=3, **words))


def test_evaluation_says_what_guided(here, capsys):
    words = ["evaluate", str(here / "model"), "-n", "40", "--guidance", "2", "--json"]
    assert command([*words, "--classifier", str(here / "noisy"), "--guidance-interval=-3,4"]) == 0
    metrics = answer(capsys)["metrics"]
    plans = {m["protocol"]["plan"] for m in metrics if m["protocol"]["plan"] and "bits" not in m["unit"]}
    assert all("guidance 2 by the classifier noisy in log-SNR -3 to 4" in p for p in plans) and plans
    assert any(m["name"] == "label accuracy" for m in metrics)


def test_a_noisy_classifier_is_no_judge(here, capsys):
    words = ["evaluate", str(here / "model"), "-n", "20", "--judge", str(here / "noisy"), "--json"]
    assert command(words) == 2 and "to guide sampling and not to judge" in answer(capsys)["error"]
    assert command(["sample", str(here / "noisy"), "--json"]) == 2
    assert "--classifier" in answer(capsys)["remedy"]


# --------------------------------------------------------------------------------- autoguidance


def test_a_run_is_guided_by_its_early_self(plain):
    run, before = sfumato.open(plain / "model"), sfumato.open(plain / "model")
    early(before)
    pairs = zip(run.model.parameters(), before.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    plan = run.plan(guidance=2.0, guide=plain / "model")
    assert "guidance 2 by this run early in training" in plan_line(run.generator, plan)
    guided = run.sample(4, plan=plan)
    assert not np.array_equal(guided, run.sample(4))
    # at scale 0 the guide answers alone
    asked = {"guidance": 0.0, "guide": plain / "model"}
    assert np.array_equal(run.sample(4, **asked), before.sample(4))


def test_without_an_early_average_the_reason_is_given(here):
    shutil.rmtree(here / "model" / "ema")
    run = sfumato.open(here / "model")
    with pytest.raises(RefusedError, match="no early average"):
        run.sample(1, guidance=2.0, guide=here / "model")


# --------------------------------------------------------------------------------- refusals

REFUSED = [
    (["--guidance", "nan"], "nan"),
    (["--guidance", "inf"], "inf"),
    (["--guidance=-1"], "-1"),
    (["--guidance", "2"], "no condition to be guided by"),
    (["--class", "3"], "knows no classes"),
    (["--guidance", "2", "--classifier", "noisy", "--class", "cat"], "no class 'cat'"),
    (["--guidance", "2", "--classifier", "judge"], "clean images"),
    (["--guidance", "2", "--classifier", "model"], "no classifier"),
    (["--guidance", "2", "--guide", "judge"], "no diffusion model"),
    (["--guidance", "2", "--guide", "model", "--classifier", "noisy"], "exclude"),
    (["--guide", "model"], "changes nothing at guidance 1"),
    (["--guidance", "1", "--guide", "model"], "changes nothing at guidance 1"),
    (["--guidance", "2", "--classifier", "noisy", "--guidance-interval", "5,-2"], "low to high"),
    (["--guidance", "2", "--classifier", "noisy", "--guidance-interval", "a,b"], "no interval"),
    (["--guidance", "2", "--classifier", "noisy", "--guidance-interval", "1"], "no interval"),
    (["--classifier", "noisy", "--guidance-interval=-2,2"], "changes nothing at guidance 1"),
    (["--guidance", "2", "--classifier", "noisy", "--guidance-interval", "100,200"], "leaves no guidance"),
    (["--guidance", "2", "--guide", "model", "--guidance-interval=-99,-98"], "leaves no guidance"),
    (["--grid", "karas"], "no grid"),
    (["--solver", "heum"], "no solver"),
    (["--eta", "0.5"], "DDIM"),
    (["--solver", "ddim", "--eta", "1.5"], "not in [0, 1]"),
]


@pytest.mark.parametrize(
    ("words", "reason"), REFUSED, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_what_cannot_be_honoured_is_refused(plain, words, reason, capsys, monkeypatch):
    monkeypatch.chdir(plain)
    assert command(["sample", "model", "-n", "2", *words, "--json"]) == 2
    told = answer(capsys)
    assert reason in told["error"] and told["remedy"]


def around(log_snr, width=0.01):
    return f"{log_snr - width!r},{log_snr + width!r}"


def test_an_interval_guides_where_a_visited_level_lies_in_it_and_is_refused_where_none_does(plain, capsys):
    run = sfumato.open(plain / "model")
    asked = {"guidance": 20.0, "classifier": plain / "noisy", "steps": 4, "solver": "ddim"}
    visited = [level.log_snr for level in run.generator.density.levels(run.plan(**asked))[:-1]]
    assert len(visited) == 4
    for a, b in pairwise(visited):
        with pytest.raises(UsageError, match="leaves no guidance") as refused:
            run.plan(interval=f"{0.8 * a + 0.2 * b!r},{0.6 * a + 0.4 * b!r}", **asked)
        assert f"nearest, {a:.4g}," in refused.value.remedy
    for log_snr in visited:
        assert run.plan(interval=around(log_snr), **asked).interval is not None
    guided = run.sample(4, class_name="3", interval=around(visited[2]), **asked)
    assert not np.array_equal(guided, run.sample(4, steps=4, solver="ddim"))
    # an ancestral step to clean data has no noise that a classifier could shift
    with pytest.raises(UsageError, match="leaves no guidance"):
        run.plan(interval=around(visited[-1]), **asked | {"solver": "ancestral"})
    words = ["--guidance", "2", "--classifier", str(plain / "noisy"), "--guidance-interval", "100,200"]
    assert command(["evaluate", str(plain / "model"), *words, "--json"]) == 2
    assert "leaves no guidance" in answer(capsys)["error"]


def test_an_interval_is_held_against_the_levels_of_the_start_that_was_asked_for(trained):
    run = sfumato.open(trained / "model")
    noisiest = run.generator.density.levels(run.plan())[0].log_snr
    assert run.plan(guidance=2.0, interval=around(noisiest)).scale == 2.0
    with pytest.raises(UsageError, match="leaves no guidance"):
        run.plan(guidance=2.0, interval=around(noisiest), start=1.0)
    assert run.plan(guidance=2.0, interval=around(0.0), start=1.0).start == 1.0


def rewritten(run, file, **changes):
    path = run / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_classifier_of_other_data_is_refused(here):
    run = sfumato.open(here / "model")
    other = sfumato.open(here / "noisy")
    for change, words in (
        ({"fingerprint": "0" * 12}, "other data"),
        ({"fingerprint": "0" * 12, "data": "cats"}, "other data: cats"),
    ):
        rewritten(here / "noisy", "run.json", **change)
        with pytest.raises(UsageError, match=words):
            run.plan(guidance=2.0, classifier=here / "noisy")
    rewritten(here / "noisy", "run.json", **other.about)
    assert isinstance(run.plan(guidance=2.0, classifier=here / "noisy").guide, ByClassifier)


def test_a_guide_under_another_condition_is_refused(plain, trained):
    run = sfumato.open(plain / "model")
    with pytest.raises(UsageError, match="told the class and a reconstruction"):
        run.plan(guidance=2.0, guide=trained / "model")


def test_a_guide_that_is_told_less_gives_the_unconditional_answer(plain, trained):
    run = sfumato.open(trained / "model")
    plan = run.plan(guidance=2.0, guide=plain / "model")
    assert not plan.guide.told
    assert len(run.sample(2, plan=plan)) == 2


def test_a_conditional_run_takes_a_classifier_above_scale_one_only(plain, trained):
    run = sfumato.open(trained / "model")
    with pytest.raises(UsageError, match="changes nothing at guidance 1"):
        run.plan(classifier=plain / "noisy")
    plan = run.plan(classifier=plain / "noisy", guidance=2.0)
    assert plan.guide.told and len(run.sample(2, class_name="5", plan=plan)) == 2


def test_guidance_without_dropped_conditions_is_refused(trained):
    run = sfumato.open(trained / "model")
    run.recipe.stages[-1].objective.dropout = 0.0
    with pytest.raises(UsageError, match="without ever leaving its condition out"):
        run.plan(guidance=2.0)
    assert run.plan(guidance=1.0).scale == 1.0


def test_a_model_without_steps_refuses_every_guide(tmp_path, plain):
    run = made(tmp_path / "vae", "vae", examples=256, width=8)
    for asked in (
        {"guidance": 2.0},
        {"guide": plain / "model"},
        {"classifier": plain / "noisy"},
        {"grid": "karras"},
    ):
        with pytest.raises(UsageError, match="changes nothing here"):
            run.plan(**asked)
    with pytest.raises(UsageError, match="no curve"):
        curve(run, console=QUIET)


# --------------------------------------------------------------------------------- grids and the curve


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 3), (0.0, 3), (2.0, 6)])
def test_both_calls_of_a_guided_step_are_counted(guidance, calls):
    """Three steps of DDIM call once each; guided, the condition is dropped in a second call beside it."""
    torch.manual_seed(0)
    model = build(RECIPES["diffusion"](Facts(1, (8, 8), classes=("a", "b")), width=8, conditional=True)).model
    plan = replace(model.plan, solver=Ddim(), steps=3, scale=guidance)
    label = torch.arange(CPU_ROWS) % 2
    with Counting(model.density.get_submodule("denoiser")) as seen:
        model.sample(CPU_ROWS, plan, given=Given(label=label), seeds=seeds_of(0, CPU_ROWS))
    assert seen.per_row(CPU_ROWS) == calls


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_has_a_word(plain, grid):
    run = sfumato.open(plain / "model")
    plan = run.plan(grid=grid, steps=4)
    assert type(plan.grid) is GRIDS[grid] and len(run.sample(2, plan=plan)) == 2


def test_the_word_of_a_models_own_grid_keeps_what_its_recipe_tuned(plain, monkeypatch):
    run = sfumato.open(plain / "model")
    monkeypatch.setattr(run.generator, "plan", replace(run.generator.plan, grid=Angle(0.3)))
    assert run.plan(grid="angle", steps=2).grid.data == 0.3 != Angle().data
    assert "2 unipc steps on angle" in plan_line(run.generator, run.plan(grid="angle", steps=2))


def test_eta_reaches_ddim_and_is_said(plain):
    run = sfumato.open(plain / "model")
    plan = run.plan(solver="ddim", eta=0.5)
    assert isinstance(plan.solver, Ddim) and plan.solver.eta == 0.5
    assert "ddim (eta 0.5)" in plan_line(run.generator, plan)


def test_the_optimised_grid_is_made_once_and_kept(here, monkeypatch):
    run = sfumato.open(here / "model")
    first = run.plan(grid="optimised", steps=5).grid
    assert isinstance(first, Optimised) and (here / "model" / "grids.json").exists()
    monkeypatch.setattr("sfumato.app.planning.make_grids", lambda run: pytest.fail("made again"))
    again = sfumato.open(here / "model").plan(grid="optimised", steps=5).grid
    assert torch.equal(again.rows[5], first.rows[5])
    (here / "model" / "grids.json").write_text(json.dumps({"seen": run.weights.seen, "2": {"2": [1, 0]}}))
    with pytest.raises(RefusedError, match="no table of grids"):
        sfumato.open(here / "model").plan(grid="optimised")


def test_a_curve_goes_on_where_it_was_stopped_and_sample_takes_its_advice(here, capsys, monkeypatch):
    model = str(here / "model")
    words = ["curve", model, "--solvers", "ddim,unipc", "--steps", "2,4", "-n", "60", "--json"]
    measure, done = Bench.measure, []

    def stopping(self, *way):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(way)
        return measure(self, *way)

    monkeypatch.setattr(Bench, "measure", stopping)
    assert command(words) == 130
    monkeypatch.setattr(Bench, "measure", lambda self, *way: (done.append(way), measure(self, *way))[1])
    capsys.readouterr()
    assert command(words) == 0
    told = answer(capsys)
    assert len(done) == len(set(done)) == len(told["points"]) == 8
    calls = {(p["solver"], p["steps"]): p["calls"] for p in told["points"]}
    assert calls == {("ddim", 2): 2, ("ddim", 4): 4, ("unipc", 2): 2, ("unipc", 4): 4}
    assert all(p["seconds"] > 0 and p["metric"]["protocol"]["samples"] == 60 for p in told["points"])
    assert "How many steps it needs" in (here / "model" / "report.html").read_text()
    advice = told["recommended"]
    assert command(["sample", model, "-n", "2", "--json"]) == 0
    said = capsys.readouterr()
    assert "recommended by `sfumato curve`" in said.err
    assert json.loads(said.out)["plan"].startswith(f"{advice['steps']} {advice['solver']} steps")
    assert command(["sample", model, "-n", "2", "--steps", "7", "--json"]) == 0
    said = capsys.readouterr()
    assert "recommended" not in said.err and json.loads(said.out)["plan"].startswith("7 ")


def test_a_way_that_diverges_does_not_end_the_curve(here, monkeypatch):
    measure = Bench.measure

    def diverging(self, solver, grid, steps):
        if solver == "heun":
            raise DataError("60 of 60 images have features that are not finite numbers")
        return measure(self, solver, grid, steps)

    monkeypatch.setattr(Bench, "measure", diverging)
    run = sfumato.open(here / "model")
    found = curve(run, solvers=["heun", "ddim"], grids=["karras"], steps=[2], count=40, console=QUIET)
    assert [p.solver for p in found.points] == ["ddim"] == [found.advice.solver]
    with pytest.raises(UsageError, match="finite"):
        curve(run, solvers=["heun"], grids=["karras"], steps=[2], count=40, console=QUIET)


def test_a_later_narrower_curve_forgets_nothing_that_was_measured_alike(here, monkeypatch):
    """Each command shows its own ways and recommends from all; the same as if all were asked for at once."""
    measure, real = Bench.measure, {}
    values = {("unipc", 3): 1.0, ("unipc", 2): 3.0, ("ddim", 1): 9.0, ("heun", 2): 1.02, ("unipc", 1): 0.5}

    def known(self, solver, grid, steps):
        if self.seed not in real:
            real[self.seed] = measure(self, "ddim", grid, 1)
        metric = replace(real[self.seed].metric, value=values[solver, steps], spread=0.1)
        calls = steps if solver != "heun" else 2 * steps
        return Point(solver, grid, steps, calls, 0.001 * calls, metric)

    monkeypatch.setattr(Bench, "measure", known)
    run = sfumato.open(here / "model")

    def asked(solver, *steps, seed=0):
        return curve(run, solvers=[solver], grids=["karras"], steps=steps, count=40, seed=seed, console=QUIET)

    first = asked("unipc", 2, 3)
    assert (first.advice.solver, first.advice.steps) == ("unipc", 3)
    for number, later in enumerate((asked("ddim", 1), asked("heun", 2)), 3):  # worse, and equal but dearer
        assert later.advice.words() == first.advice.words()
        assert len(later.points) == 1 and f"the best of {number} ways" in later.advice.because
    assert sfumato.open(here / "model").plan().steps == 3
    assert asked("unipc", 1).advice.steps == 1  # a better way takes its place
    assert asked("ddim", 1, seed=1).advice.words() == "--solver ddim --grid karras --steps 1"  # alone


def test_advice_for_other_weights_is_not_taken(here):
    advice = {"solver": "ddim", "grid": "karras", "steps": 2, "seen": 1, "because": "x"}
    rewritten(here / "model", "run.json", recommended=advice)
    assert sfumato.open(here / "model").plan().steps == 3
    rewritten(here / "model", "run.json", recommended={"solver": "ddim"})
    with pytest.raises(RefusedError, match="recommended plan"):
        sfumato.open(here / "model").plan()


def test_advice_is_for_sampling_from_pure_noise(runs):
    run = sfumato.open(runs / "model")
    advice = {"solver": "ddim", "grid": "optimised", "steps": 2, "seen": run.weights.seen, "because": "x"}
    rewritten(runs / "model", "run.json", recommended=advice)
    run = sfumato.open(runs / "model")
    assert run.plan().steps == 2 and isinstance(run.plan().grid, Optimised)
    assert run.plan(start=1.0).steps == 3 and not isinstance(run.plan(start=1.0).grid, Optimised)
    with pytest.raises(UsageError, match="begins at pure noise"):
        run.plan(start=1.0, grid="optimised")


def advised(here, **changes):
    run = sfumato.open(here / "model")
    advice = {"solver": "unipc", "grid": "optimised", "steps": 9, "seen": run.weights.seen, "because": "x"}
    rewritten(here / "model", "run.json", recommended=advice | changes)
    return sfumato.open(here / "model")


TAKEN = [
    ({}, (9, UniPC, Optimised), " (recommended by `sfumato curve`: x)"),
    ({"solver": "unipc"}, (9, UniPC, Optimised), " (grid and steps by `sfumato curve`, whose plan is "),
    ({"steps": 5}, (5, UniPC, Optimised), " (solver and grid by `sfumato curve`, whose plan is "),
    ({"grid": "karras"}, (9, UniPC, Karras), " (solver and steps by `sfumato curve`, whose plan is "),
    ({"solver": "ancestral"}, (3, Ancestral, LogSnr), " (grid and steps of the recipe: the plan by "),
    (
        {"solver": "heun", "steps": 4},
        (4, Heun, LogSnr),
        " (grid of the recipe: the plan by `sfumato curve` is ",
    ),
    ({"solver": "heun", "grid": "optimised"}, (3, Heun, Optimised), " (steps of the recipe: the plan by "),
    ({"solver": "heun", "steps": 4, "grid": "karras"}, (4, Heun, Karras), ""),
]


@pytest.mark.parametrize(("asked", "expected", "origin"), TAKEN, ids=lambda v: str(v))
def test_steps_and_grid_are_recommended_for_their_solver_alone(here, asked, expected, origin):
    run = advised(here)
    plan = run.plan(**asked)
    assert (plan.steps, type(plan.solver), type(plan.grid)) == expected
    told = plan_origin(run, **asked)
    assert told.startswith(origin) and (told == "") == (origin == "")
    if origin and asked:
        assert "--solver unipc --grid optimised --steps 9" in told


def test_fresh_noise_in_ddim_is_another_solver_than_the_recommended_one(here):
    run = advised(here, solver="ddim")
    plain, noisy = run.plan(), run.plan(eta=0.5)
    assert (plain.steps, plain.solver.eta) == (9, 0.0) and isinstance(plain.grid, Optimised)
    assert (noisy.steps, noisy.solver.eta) == (3, 0.5) and isinstance(noisy.grid, LogSnr)
    assert plan_origin(run, eta=0.5).startswith(" (solver by `sfumato curve`")


def test_advice_measured_unguided_is_not_taken_for_guided_sampling(runs, monkeypatch):
    run = advised(runs)
    own = run.generator.plan
    assert (own.steps, run.plan().steps, run.plan(guidance=1.0).steps) == (3, 9, 9)
    assert plan_origin(run, guidance=1.0) == " (recommended by `sfumato curve`: x)"
    for asked in ({"guidance": 2.0}, {"guidance": 0.0}, {"guidance": 2.0, "interval": "-99,99"}):
        plan = run.plan(**asked)
        assert (plan.steps, plan.solver, plan.grid) == (own.steps, own.solver, own.grid)
        told = plan_origin(run, **asked)
        assert told.startswith(
            " (solver, grid, steps of the recipe: the plan by `sfumato curve`, --solver unipc"
        )
        assert told.endswith("was measured without this guidance)")
    assert run.plan(guidance=2.0, steps=5).steps == 5
    assert plan_origin(run, guidance=2.0, steps=5).startswith(" (solver, grid of the recipe")
    whole = {"guidance": 2.0, "solver": "unipc", "grid": "optimised", "steps": 9}
    assert run.plan(**whole).steps == 9 and plan_origin(run, **whole) == ""
    # what a recipe guides by itself is what its curve is measured with
    monkeypatch.setattr(run.generator, "plan", replace(own, scale=2.0))
    assert (run.plan().steps, run.plan(guidance=2.0).steps, run.plan(guidance=1.0).steps) == (9, 9, 3)


def test_advice_is_not_taken_where_another_model_guides(here):
    run = advised(here)
    for guide in ({"classifier": here / "noisy"}, {"guide": here / "model"}):
        assert run.plan(guidance=2.0, **guide).steps == 3
        assert "without this guidance" in plan_origin(run, guidance=2.0, **guide)


@pytest.mark.parametrize(
    "words", [["--solvers", "heum"], ["--grids", "kara"], ["--steps", "0"], ["--steps", "a"]]
)
def test_curves_of_nothing_are_refused(plain, words, capsys):
    assert command(["curve", str(plain / "model"), *words, "--json"]) == 2
    assert answer(capsys)["remedy"]
