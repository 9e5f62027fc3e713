"""The doctor's estimate: counted, not guessed."""

import json

import pytest
import torch

from sfumato.app import estimate as module
from sfumato.app.cli import run
from sfumato.app.estimate import FEW, FORECAST, NUMBERS, Steps, estimate
from sfumato.core.lazy import build
from sfumato.data.sources import open_data
from sfumato.recipes import RECIPES


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def waiting(found):
    """Bytes that wait for the backward pass."""
    return found.bytes - 4 * NUMBERS * found.parameters


@pytest.mark.parametrize("name", ["vae", "diffusion", "diffusevae"])
def test_parameters_are_those_that_are_trained(digits, name):
    recipe = build(RECIPES[name](digits.facts))
    stage = max((s for s in recipe.stages if hasattr(s, "share")), key=lambda s: s.share)
    trained = sum(p.numel() for p in stage.trained(recipe.model).parameters())
    assert estimate(digits, name).parameters == trained


@pytest.mark.parametrize("name", FORECAST)
def test_memory_is_a_line_over_the_batch(digits, name):
    """Weights cast for the step are there once, maps for every example: a few of them tell of a batch."""
    steps = Steps(digits, name, {}, torch.device("cpu"))
    told = waiting(estimate(digits, name, {"batch": 40}))
    assert told == pytest.approx(steps.waiting(40), rel=0.02)
    assert (
        told - waiting(estimate(digits, name, {"batch": 16})) > 24 * told / 56
    )  # and most of it is the maps


def test_large_examples_are_tried_few_at_a_time_on_the_best_device(digits, monkeypatch):
    counts, asked = [], []
    step = Steps.step
    monkeypatch.setattr(module, "ROOM", 1)
    monkeypatch.setattr(module, "best_device", lambda name: asked.append(name) or torch.device("cpu"))
    monkeypatch.setattr(Steps, "step", lambda self, n, seed=0: counts.append(n) or step(self, n, seed))
    assert estimate(digits, "vae").batch > max(FEW) == max(counts) and asked == [None]


def test_a_training_begins_with_its_estimate(tmp_path, capsys):
    words = ["train", "vae", "digits", "--examples", "64", "--set", "width=8", "--out", str(tmp_path / "run")]
    for times in (1, 0):
        assert run([*words, "--held-out", "200"]) == 0
        assert capsys.readouterr().out.count("Estimate for vae:") == times, "going on needs none"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["held_out"] == 200


def test_nothing_is_kept(digits):
    """The same estimate twice: no gradient, weight or hook of the first stays."""
    one, two = estimate(digits, "vae"), estimate(digits, "vae")
    assert (one.bytes, one.parameters) == (two.bytes, two.parameters)


def test_the_sentence_counts_passes(digits):
    found = estimate(digits, "vae")
    assert f"{found.speed * 1800 / len(digits):,.0f} passes" in found.line()
