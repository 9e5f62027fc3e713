"""What a user does with a run: everything from the folder alone, each image a function of its seed."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.app.begin import lasting
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.looking import quick
from sfumato.app.train import Budget, add_notes, finish, train
from sfumato.core.errors import BusyError, DataError, RefusedError, UsageError
from sfumato.models.density import Plan
from sfumato.models.given import seeds_of
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Trailing
from sfumato.training.rundir import RunDir

QUIET = Console(silent=True)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_training_leaves_everything_a_run_promises(trained):
    run = trained / "model"
    names = {p.name for p in run.iterdir()}
    expected = {"recipe.json", "data.json", "run.json", "metrics.jsonl", "data-preview.png", "report.html"}
    assert expected | {"checkpoints", "ema", "samples"} <= names
    stages = {p.stem.split("-")[0] for p in (run / "samples").glob("*-0000000000.png")}
    assert stages == {"vae", "refiner"}
    assert json.loads((run / "run.json").read_text())["stages_done"] == ["vae", "prior", "refiner"]


def test_the_first_stage_is_stored_with_the_second(trained):
    model = sfumato.open(trained / "model").model
    names = set(model.state_dict())
    assert any(n.startswith("conditioner.first.codec.encoder") for n in names)
    assert any(n.startswith("conditioner.first.density") for n in names)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_an_image_depends_on_its_seed_and_not_on_its_batch(trained, batch):
    run = sfumato.open(trained / "model")
    whole = run.sample(8, seed=3)
    assert whole.dtype == np.uint8 and whole.shape == (8, 8, 8)
    assert np.array_equal(run.sample(8, seed=3, batch=batch), whole)
    assert np.array_equal(run.sample(5, seed=3), whole[:5])
    assert not np.array_equal(run.sample(8, seed=4), whole)


def test_a_moved_run_draws_the_same(trained, runs):
    here = sfumato.open(trained / "model").sample(4, seed=1)
    assert np.array_equal(sfumato.open(runs / "model").sample(4, seed=1), here)


def test_sample_writes_images_a_grid_and_how(runs, capsys):
    assert command(["sample", str(runs / "model"), "-n", "5", "--seed", "2", "--class", "7", "--json"]) == 0
    told = answer(capsys)
    folder = runs / "model" / "samples"
    files = sorted(p for p in folder.rglob("[0-9]*.png") if p.parent != folder)
    images = np.stack([pixels(p) for p in files])
    assert np.array_equal(images, sfumato.open(runs / "model").sample(5, seed=2, class_name="7"))
    assert told["count"] == 5 and told["seed"] == 2
    kept = json.loads((files[0].parent / "samples.json").read_text())
    assert kept["labels"] == ["7"] * 5 and kept["seeds"] == seeds_of(2, 5)


def test_the_labels_told_are_those_of_the_samples(trained):
    run = sfumato.open(trained / "model")
    label = run.origin(4, seed=5)["labels"][3]
    assert np.array_equal(run.sample(4, seed=5)[3], run.sample(4, seed=5, class_name=label)[3])


def test_every_verb_answers(runs, capsys):
    model = str(runs / "model")
    for words in (["reconstruct", model, "-n", "4"], ["interpolate", model, "-n", "3"]):
        assert command([*words, "--json"]) == 0
        with Image.open(answer(capsys)["grid"]) as grid:
            assert grid.size[0] > 8
    assert command(["traverse", model, "--latents", "2", "-n", "3", "--json"]) == 0
    assert len(answer(capsys)["kl"]) == 2


def test_traversals_are_ordered_by_kl(trained):
    kl = [value for _, value in sfumato.open(trained / "model").traverse(5, 2).carried]
    assert kl == sorted(kl, reverse=True) and kl[-1] >= 0


def test_paths_begin_and_end_at_the_samples(trained):
    run = sfumato.open(trained / "model")
    rows = run.interpolate(3, seed=0, to_seed=1)
    assert set(rows) == {"x_T", "z", "x_T and z"}
    first = run.interpolate(2, between="z", seed=0, to_seed=0)["z"]
    assert np.array_equal(first[0], rows["z"][0]) and np.array_equal(first[0], first[1])


def test_evaluate_and_compare_carry_protocols(runs, capsys):
    model, other = str(runs / "model"), str(runs / "again")
    shutil.copytree(model, other)
    assert command(["evaluate", model, "-n", "200", "--json"]) == 0
    first = answer(capsys)
    assert command(["evaluate", other, "-n", "200", "--seed", "1", "--json"]) == 0
    capsys.readouterr()
    by_features = {m["protocol"]["features"].split("@")[0] for m in first["metrics"]}
    assert {"classifier", "statistics"} <= by_features
    assert all(m["protocol"]["samples"] and m["protocol"]["data"] for m in first["metrics"])
    assert any(m["unit"] == "bits/dim" for m in first["metrics"])
    assert command(["compare", model, other, "--json"]) == 0
    ranked = answer(capsys)["rankings"]
    assert all(len(r["entries"]) == 2 for r in ranked if "Frechet" in r["title"])
    assert command(["evaluate", other, "-n", "150", "--json"]) == 0
    capsys.readouterr()
    assert command(["compare", model, other, "--json"]) == 0
    frechet = [r for r in answer(capsys)["rankings"] if "Frechet" in r["title"]]
    assert frechet and all(r["unlike"] for r in frechet), "unlike counts must not be ranked"


def test_a_judge_cannot_be_sampled(trained):
    with pytest.raises(UsageError, match="makes no images"):
        sfumato.open(trained / "judge").sample(1)


def test_the_same_command_again_changes_nothing(runs, small):
    before = sfumato.open(runs / "model").sample(2)
    out = runs / "model"
    same = {"budget": Budget(examples=2560), "settings": small, "precision": "fp32", "looks": 2}
    run = train("diffusevae", "digits", out=out, console=QUIET, **same)
    assert np.array_equal(run.sample(2), before)


def test_another_recipe_in_the_same_folder_is_refused_and_nothing_is_lost(runs):
    before = {p: p.read_bytes() for p in (runs / "model").rglob("*.safetensors")}
    with pytest.raises(UsageError, match=r"recipe.json of this run differs"):
        train("vae", "digits", out=runs / "model", console=QUIET)
    assert {p: p.read_bytes() for p in (runs / "model").rglob("*.safetensors")} == before


def test_fresh_keeps_the_old_run_aside(runs):
    train(
        "vae",
        "digits",
        out=runs / "model",
        budget=Budget(examples=256),
        settings={"width": 8},
        console=QUIET,
        fresh=True,
        looks=1,
    )
    assert (runs / "model-old1" / "recipe.json").exists()


def test_fresh_does_not_move_a_run_in_use(tmp_path):
    folder = tmp_path / "run"
    with RunDir(folder).lock(), pytest.raises(BusyError):
        train("vae", "digits", out=folder, settings={"width": 8}, console=QUIET, fresh=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_refused_by_name(runs, damage):
    checkpoints = sorted((runs / "model" / "checkpoints").iterdir())
    for folder in checkpoints:
        victim = folder / "model.safetensors"
        raw = bytearray(victim.read_bytes())
        if damage == "flip":
            raw[len(raw) // 2] ^= 1
            victim.write_bytes(raw)
        elif damage == "cut":
            victim.write_bytes(raw[: len(raw) // 2])
        else:
            victim.unlink()
    with pytest.raises(RefusedError, match="no valid checkpoint"):
        sfumato.open(runs / "model")


def test_images_of_another_shape_are_refused(runs, tmp_path):
    np.save(tmp_path / "big.npy", np.random.default_rng(0).integers(0, 255, (30, 9, 9, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="9 x 9"):
        sfumato.open(runs / "model").reconstruct(str(tmp_path / "big.npy"))


def test_the_python_of_the_readme_runs(trained):
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        exec(block.replace("runs/demo", str(trained / "model")), {})


def again(runs, small, **changes):
    words = {"budget": Budget(examples=2560), "settings": small, "precision": "fp32", "looks": 2}
    said = []

    class Heard(Console):
        def say(self, *sentences):
            said.extend(sentences)

    train("diffusevae", "digits", out=runs / "model", console=Heard(), **(words | changes))
    return " ".join(said)


def test_other_words_for_the_same_run_are_refused_by_name(runs, small):
    with pytest.raises(UsageError, match=r"--test: None -> .*digits"):
        again(runs, small, test="digits")


def test_a_larger_budget_on_a_finished_run_says_how_to_train_longer(runs, small):
    told = again(runs, small, budget=Budget(examples=9999))
    assert "it is finished" in told and "going on" not in told
    assert "finished (--examples 2560)" in told and "--out NEW_FOLDER --examples 9999" in told


def test_notes_of_an_earlier_session_stay(runs):
    folder = RunDir(runs / "model")
    folder.tell(notes=["first"])
    add_notes(folder, ["second", "first"])
    assert folder.read("run.json")["notes"] == ["first", "second"]


def test_data_are_found_again_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lasting("photos") == str(tmp_path / "photos")
    assert [lasting(name) for name in ("digits", "hub:a/b", None)] == ["digits", "hub:a/b", None]


def test_a_look_at_a_long_plan_takes_few_steps():
    long, short = Plan(steps=1000, solver=Ancestral(), grid=Trailing()), Plan(steps=18)
    assert quick(short) is short
    assert quick(long).steps == 20 and isinstance(quick(long).solver, Ddim)


def test_finishing_proves_the_tensors_and_only_says_that_samples_differ(runs, monkeypatch):
    run, said = sfumato.open(runs / "model"), []
    monkeypatch.setattr(Console, "say", lambda self, *words: said.extend(words))
    other = sfumato.open(runs / "model").model
    sample = type(other).sample
    monkeypatch.setattr(
        type(other), "sample", lambda self, *a, **k: sample(self, *a, **k) + 0.01 * (self is other)
    )
    finish(run, other, Console())
    assert any("differ by 0.01" in text for text in said)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    with pytest.raises(RefusedError, match="not the one in memory"):
        finish(run, other, Console())
