"""A run made by an earlier form of the code: refused by what differs, where, and what to do about it."""

import json
import shutil

import pytest
import torch

from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.train import Budget, train
from sfumato.training.rundir import RunDir
from sfumato.training.state import pack, unpack

MODEL = "model.safetensors"
DIALS = {"width": 8, "latent": 2, "components": 1}
WORDS = ["--examples", "64", *(w for k, v in DIALS.items() for w in ("--set", f"{k}={v}"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny vae."""
    folder = tmp_path_factory.mktemp("made") / "run"
    console = Console(silent=True)
    train("vae", "digits", out=folder, budget=Budget(examples=64), settings=DIALS, console=console, looks=1)
    return folder


@pytest.fixture
def old(made, tmp_path):
    return shutil.copytree(made, tmp_path / "old")


def refused(words, capsys):
    code = command([*words, "--json"])
    return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_weights_that_fit_no_network_of_today_are_refused_by_every_verb(old, capsys):
    run = RunDir(old)
    files = dict(run.newest().files)
    tensors = unpack(files[MODEL], None, MODEL)
    name = next(n for n in sorted(tensors) if tensors[n].ndim == 4)
    shape = tuple(tensors[name].shape)
    tensors[name] = torch.zeros(shape[0] + 1, *shape[1:])
    run.save(run.next_name("done", 64), files | {MODEL: pack(tensors)})
    for words in (["sample", old], ["evaluate", old], ["train", "vae", "digits", "--out", old, *WORDS]):
        code, told = refused(map(str, words), capsys)
        assert code == 4 and told["where"] == str(old), told
        assert f"'{name}' is {tuple(tensors[name].shape)} float32 there and {shape} float32" in told["error"]
        assert "earlier" in told["error"] and "--out" in told["remedy"] and "run.json" in told["remedy"]


def test_the_same_words_that_make_another_recipe_today_are_told_so(old, capsys):
    path = old / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["stages"][0]["batch"] += 1
    path.write_text(json.dumps(recipe))
    code, told = refused(["train", "vae", "digits", "--out", str(old), *WORDS], capsys)
    assert code == 2 and "an earlier form of the recipe vae: stages.0.batch" in told["error"]
    assert "--out" in told["remedy"]
    # other words are another matter
    code, told = refused(["train", "vae", "digits", "--out", str(old), *WORDS, "--set", "batch=9"], capsys)
    assert code == 2 and "recipe.json of this run differs" in told["error"]


@pytest.mark.parametrize("change", [{"height": 3}, {"make": "Gone"}])
def test_a_recipe_of_parts_that_are_gone_is_named_and_refused(change, old, capsys):
    path = old / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["model"] |= change
    path.write_text(json.dumps(recipe))
    code, told = refused(["sample", str(old)], capsys)
    assert code == 4 and "an earlier form" in told["error"] and "recipe.model" in told["error"]
    assert str(*(change.keys() - {"make"} or change.values())) in told["error"]
    assert told["where"] == str(old)
