"""Plans from words: the recipe's own solver is kept, and guidance by nothing is refused."""

import json
import math
from dataclasses import replace

import pytest
import torch

import sfumato
from sfumato.app.cli import run as command
from sfumato.app.compose import compose
from sfumato.app.names import plan_line
from sfumato.app.solving import SOLVERS, solver_for, solver_words
from sfumato.core.condition import NOTHING, Condition
from sfumato.core.errors import UsageError
from sfumato.core.lazy import build
from sfumato.data.facts import Facts
from sfumato.diffusion.clocks import LinearBeta
from sfumato.diffusion.transition import (
    InterpolatedVariance,
    LargeVariance,
    MatchedVariance,
    SmallVariance,
)
from sfumato.guidance.classifier_free import ClassifierFree
from sfumato.models.generator import Generator
from sfumato.models.given import seeds_of
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.heun import Heun
from sfumato.samplers.langevin import AnnealedLangevin, PredictorCorrector
from sfumato.samplers.unipc import UniPC

FACTS = Facts(1, (8, 8), "uint8", 0.0, 255.0, classes=("a", "b"))


def made(recipe, **settings):
    torch.manual_seed(0)
    return build(compose(recipe, FACTS, {"width": 8, **settings})).model


def with_solver(generator, solver):
    plan = replace(generator.plan, solver=solver)
    return Generator(generator.codec, generator.density, generator.conditioner, plan)


# --------------------------------------------------------------------------------- solvers


def test_asking_for_the_recipe_s_own_solver_changes_nothing():
    """Bit for bit, with the learned variance; the default, small, would give other images."""
    model = made("improved-ddpm", **{"model.plan.steps": 3})
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    asked = replace(model.plan, solver=solver_for("ancestral", model))
    own, again = (model.sample(2, plan, seeds=seeds_of(0, 2)) for plan in (model.plan, asked))
    assert torch.equal(own, again)
    small = model.sample(2, replace(model.plan, solver=Ancestral()), seeds=seeds_of(0, 2))
    assert not torch.equal(own, small)
    assert plan_line(model, asked) == "3 ancestral (learned variance) steps on trailing"


@pytest.mark.parametrize("recipe", ["ddpm", "improved-ddpm", "diffusion", "ncsn"])
@pytest.mark.parametrize("word", SOLVERS)
def test_a_word_for_the_recipe_s_class_is_its_own_object(recipe, word):
    model = made(recipe)
    found = solver_for(word, model)
    assert type(found) is SOLVERS[word]
    assert (found is model.plan.solver) == (type(model.plan.solver) is SOLVERS[word])


def test_the_tuned_ladder_keeps_its_step():
    model = made("ncsn", moves=3)
    found = solver_for("langevin", model)
    assert found is model.plan.solver and found.moves == 3 and found.ratio != AnnealedLangevin().ratio
    assert f"langevin (moves 3, ratio {found.ratio:g})" in plan_line(model, model.plan)


LEARNS = [("improved-ddpm", InterpolatedVariance), ("ddpm", SmallVariance), ("diffusion", SmallVariance)]


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("recipe", "variance"), LEARNS)
def test_another_class_takes_the_variance_that_the_network_gives(recipe, variance, conditional):
    """Whether or not the recipe's own solver is ancestral, and in the predictor as well."""
    model = made(recipe, conditional=conditional)
    for generator in (model, with_solver(model, Heun())):
        assert type(solver_for("ancestral", generator).variance) is variance
        assert type(solver_for("pc", generator).predictor.variance) is variance


def test_a_predictor_is_the_recipe_s_step():
    model = made("ddpm")
    for own in (Ancestral(LargeVariance()), PredictorCorrector(Ancestral(LargeVariance()), 3)):
        generator = with_solver(model, own)
        assert type(solver_for("ancestral", generator).variance) is LargeVariance
        assert type(solver_for("pc", generator).predictor.variance) is LargeVariance
    assert solver_for("pc", generator) is own


def test_solvers_that_sample_differently_have_different_words():
    variances = (SmallVariance, LargeVariance, InterpolatedVariance, MatchedVariance)
    steps = [Ancestral(v()) for v in variances]
    pairs = [PredictorCorrector(s, *a) for s in (*steps, Heun()) for a in ((1, 0.16), (2, 0.16), (1, 0.2))]
    others = [*(make() for make in SOLVERS.values() if make not in (Ancestral, PredictorCorrector))]
    more = [Ddim(0.5), Ddim(1.0), UniPC(1), UniPC(2), AnnealedLangevin(5, 0.2), AnnealedLangevin(4, 0.3)]
    told = [solver_words(s) for s in (*steps, *pairs, *others, *more)]
    assert len(set(told)) == len(told)
    assert {"heun", "unipc", "ddim", "ancestral (small variance)"} <= set(told)


# --------------------------------------------------------------------------------- guidance of nothing


@pytest.mark.parametrize("scale", [0.0, 5.0])
def test_guidance_without_a_condition_is_refused_where_it_is_built_and_where_it_is_used(scale):
    settings = {"model.plan.scale": scale}
    with pytest.raises(UsageError, match="no condition to be guided by") as caught:
        made("diffusion", **settings)
    assert "conditional=true" in caught.value.remedy
    model = made("diffusion")
    plan = replace(model.plan, scale=scale)
    with pytest.raises(UsageError, match="no condition to be guided by"):
        model.sample(1, plan, seeds=[0])
    with pytest.raises(UsageError, match="no condition to be guided by"):
        model.density.wrapped(plan, NOTHING)
    assert plan_line(model, plan).endswith(f", guidance {scale:g}")
    told = made("diffusion", conditional=True, **settings)
    denoiser, _ = told.density.wrapped(replace(told.plan, clip=False), Condition(label=torch.tensor([0])))
    assert isinstance(denoiser, ClassifierFree)


def test_training_with_guidance_of_nothing_is_a_usage_error(tmp_path, capsys):
    words = ["train", "diffusion", "digits", "--out", str(tmp_path / "run"), "--examples", "64"]
    assert command([*words, "--set", "model.plan.scale=5", "--json"]) == 2
    assert "no condition to be guided by" in capsys.readouterr().out


# --------------------------------------------------------------------------------- parts by name


def test_song_s_sub_vp_sde_is_trained_and_sampled_by_command(tmp_path, capsys):
    """Two steps of training on sigma = 1 - alpha^2 with a continuous clock, then its reverse SDE."""
    run, words = str(tmp_path / "run"), ["train", "ddpm", "digits", "--examples", "256", "--set", "width=8"]
    for setting in (
        "steps=4",
        "model.density.schedule=LinearBeta",
        "model.density.schedule.path=SubVariancePreserving",
        "model.plan.solver.variance=LargeVariance",
        "stages.diffusion.objective.times=UniformTime",
    ):
        words += ["--set", setting]
    assert command([*words, "--out", run, "--json"]) == 0
    opened = sfumato.open(run)
    schedule = opened.generator.density.schedule
    assert type(schedule) is LinearBeta
    for t in (0.01, 0.5, 1.0):
        level = schedule.level(t)
        assert level.sigma == pytest.approx(1.0 - level.alpha**2, rel=1e-12)
        assert level.alpha**2 == pytest.approx(math.exp(-(0.1 * t + 9.95 * t * t)))
    assert opened.describe_plan() == "4 ancestral (large variance) steps on trailing"
    capsys.readouterr()
    assert command(["sample", run, "-n", "3", "--solver", "sde", "--steps", "12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"] == "12 sde steps on trailing"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.density.schedule=LogSnrLine", "rows of a table cannot be drawn from LogSnrLine"),
        ("model.plan.solver.variance=foo", "'foo' is no known part"),
        ("model.plan.solver.variance=Ancestral", "Ancestral is no ReverseVariance"),
        ("model.plan.solver.variance=InterpolatedVariance", "without a reverse variance"),
        ("model.density.schedule.path=VarianceExploding", "VarianceExploding is no ShrinkingPath"),
    ],
)
def test_parts_that_do_not_fit_are_usage_errors(setting, told, tmp_path, capsys):
    words = ["train", "ddpm", "digits", "--examples", "256", "--set", "width=8", "--set", setting]
    assert command([*words, "--out", str(tmp_path / "run"), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert told in answer["error"] and answer["remedy"]
