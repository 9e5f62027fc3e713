"""Autoencoders through the front door: every verb answers, and no number is called a likelihood unduly."""

import json

import numpy as np
import pytest
import torch

import sfumato
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.train import Budget, train
from sfumato.app.units import ranked
from sfumato.core.errors import UsageError

QUIET = Console(silent=True)
KINDS = {
    "ae": {"width": 8},
    "denoising-ae": {"width": 8, "salt_and_pepper": 0.1},
    "sparse-ae": {},
    "k-sparse-ae": {"shallow": True, "k": 3, "latent": 16},
    "contractive-ae": {"latent": 16},
}


@pytest.fixture(scope="module")
def coders(tmp_path_factory):
    """One tiny run of every kind."""
    folder = tmp_path_factory.mktemp("coders")
    for recipe, settings in KINDS.items():
        budget = Budget(examples=512)
        train(recipe, "digits", out=folder / recipe, budget=budget, settings=settings, console=QUIET, looks=1)
    return folder


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.mark.parametrize("recipe", KINDS)
def test_every_verb_answers(coders, recipe, capsys):
    run = str(coders / recipe)
    for words in (
        ["sample", run, "-n", "4"],
        ["reconstruct", run, "-n", "4"],
        ["interpolate", run, "-n", "3"],
    ):
        assert command([*words, "--json"]) == 0
        answer(capsys)
    assert command(["traverse", run, "--latents", "2", "-n", "3", "--json"]) == 0
    assert len(answer(capsys)["spread"]) == 2


def test_no_bits_are_reported_of_a_code_without_a_distribution(coders, capsys):
    assert command(["evaluate", str(coders / "ae"), "-n", "100", "--json"]) == 0
    told = answer(capsys)
    assert not any("bits" in m["unit"] for m in told["metrics"])
    assert any("no distribution" in note for note in told["notes"])
    assert command(["likelihood", str(coders / "ae"), "--against", "4", "--json"]) == 2
    refused = answer(capsys)
    assert refused["error"].startswith("this model has no distribution over codes")
    assert refused["remedy"] == "Use a vae or a diffusion run."


def test_samples_are_legal_codes_and_functions_of_their_seeds(coders):
    run = sfumato.open(coders / "k-sparse-ae")
    z = run.generator.draw(list(range(8))).z
    legal = run.model.codec.units.legal(z)
    assert ((legal != 0).sum(1) == 3).all()
    assert torch.equal(run.model.codec.decode(z), run.model.codec.decode(legal))
    assert np.array_equal(run.sample(6, seed=2)[:3], run.sample(3, seed=2))


def test_units_are_ranked_by_their_spread(coders):
    run = sfumato.open(coders / "sparse-ae")
    ranking = ranked(run.model.codec, [run.data.held_out.batch(range(100))])
    with torch.no_grad():
        z = run.model.codec.encode(run.data.held_out.batch(range(100)).x)
    first = ranking.units[0]
    assert first.index == int(z.std(0).argmax())
    assert (first.middle, first.spread) == pytest.approx(
        (float(z[:, first.index].mean()), float(z[:, first.index].std(correction=0))), rel=1e-4
    )


def test_a_k_above_the_code_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="k = 20 of 16"):
        train("k-sparse-ae", "digits", out=tmp_path / "run", settings={"k": 20, "latent": 16}, console=QUIET)
    assert not (tmp_path / "run" / "recipe.json").exists()
