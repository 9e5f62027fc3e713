"""`evaluate` tells the variational bound of a diffusion run with its terms, or why there is none."""

from dataclasses import replace

import pytest

from sfumato.app import evaluate as evaluation
from sfumato.app.bounds import vlb_metrics
from sfumato.app.console import Console
from sfumato.app.evaluate import evaluate
from sfumato.app.run import open_run
from sfumato.app.train import Budget, train
from sfumato.evaluation import scene
from sfumato.evaluation.scene import About

QUIET = Console(silent=True)

TERMS = ["VLB", "VLB: L_T", "VLB: sum of L_{t-1}", "VLB: L_0"]


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    """A tiny improved-ddpm of digits; its table has 20 rows."""
    folder = tmp_path_factory.mktemp("vlb") / "run"
    settings = {"width": 16, "steps": 20, "batch": 32}
    return train(
        "improved-ddpm",
        "digits",
        out=folder,
        budget=Budget(examples=640),
        settings=settings,
        console=QUIET,
        looks=1,
    )


def test_a_diffusion_is_evaluated_by_its_bound_and_its_terms(hybrid):
    found = evaluate(hybrid, count=40, steps=2)
    metrics = {m.name: m for m in found.metrics if m.name.startswith("VLB")}
    assert list(metrics) == TERMS
    whole, *parts = metrics.values()
    assert whole.value == pytest.approx(sum(m.value for m in parts))
    assert whole.unit == "bits/dim" and whole.lower and all(m.lower is None for m in parts)
    assert 0 < whole.spread < 1 and 0 < whole.value < 20
    method = "T = 20, all terms, reverse variance learned, predictions clipped"
    assert whole.protocol.plan == method and "held-out" in whole.line()
    assert evaluate(hybrid, count=40, steps=2, bound="vlb").metrics[-4:] == found.metrics[-4:]


def test_only_what_the_samples_enter_is_measured_again_at_other_steps(hybrid, monkeypatch):
    """Neither the bound nor the neighbours of held-out images; the rate of copies is of the new samples."""
    calls, neighbours, nearest = [], [], scene.nearest

    def counted(run, held_out, about, seed):
        calls.append(seed)
        return vlb_metrics(run, held_out.take(range(8)), about, seed)

    def found(*sides):
        neighbours.append(1)
        return nearest(*sides)

    monkeypatch.setattr(evaluation, "vlb_metrics", counted)
    monkeypatch.setattr(scene, "nearest", found)
    folder = hybrid.path / "features"
    for path in folder.iterdir() if folder.exists() else ():
        path.unlink()
    two, three = (evaluate(hybrid, count=40, steps=steps) for steps in (2, 3))
    assert calls == [0] and neighbours == [1] and two.metrics[-4:] == three.metrics[-4:]
    rate = [next(m for m in found.metrics if m.name == "memorisation") for found in (two, three)]
    assert rate[0].floor == rate[1].floor and rate[0].protocol.plan != rate[1].protocol.plan


def test_a_conditional_run_says_that_the_class_was_given_and_pays_for_its_first_stage(trained):
    run = open_run(trained / "model")
    metrics, notes = vlb_metrics(run, run.data.held_out, About("x"))
    assert notes == []
    assert metrics[0].name == "VLB" and "given their class" in metrics[0].note
    assert metrics[-1].name == "VLB: KL of the first stage's z"
    assert metrics[0].protocol.plan.startswith("continuous, 32 log-SNRs")


def test_what_has_no_bound_says_why_or_nothing(hybrid, tmp_path):
    run = open_run(hybrid.path)
    run.facts = replace(run.facts, kind="float32")
    metrics, notes = vlb_metrics(run, hybrid.data.held_out, About("x"))
    assert metrics == [] and "No variational bound: the data are stored as floats" in notes[0]
    vae = train(
        "vae",
        "digits",
        out=tmp_path / "vae",
        budget=Budget(examples=256),
        settings={"width": 8},
        console=QUIET,
        looks=1,
    )
    assert vlb_metrics(vae, vae.data.held_out, About("x")) == ([], [])
