"""Runs with a latent through the verbs: a ladder by levels, and agreement with known factors."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sfumato.app import latents
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.latents import agreement
from sfumato.app.report import remarks
from sfumato.app.train import Budget, read_data, train
from sfumato.core.errors import DataError
from sfumato.data.shapes import draw_factors, render
from sfumato.data.sources import open_data
from sfumato.evaluation.scene import About
from sfumato.evaluation.spread import Estimate
from sfumato.evaluation.units import LevelUnits
from sfumato.report.summary import Remark
from sfumato.training.watch import empty_levels, exploding, finding, inactive

QUIET = Console(silent=True)


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def pictures(path, count=160, rows=None, **more):
    """An .npz of shapes with their factors."""
    factors = draw_factors(count)
    arrays = {"images": render(factors, 16), "factors": factors if rows is None else factors[:rows]}
    np.savez(path, **arrays, **more)
    return path


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    """A small ladder on digits, hardly trained."""
    folder = tmp_path_factory.mktemp("ladder") / "run"
    dials = {"levels": 5, "latent": 2, "width": 16, "components": 2, "batch": 32}
    train("hvae", "digits", out=folder, budget=Budget(examples=640), settings=dials, console=QUIET, looks=1)
    return folder


@pytest.fixture(scope="module")
def factored(tmp_path_factory):
    """A small beta-VAE on pictures with factors in a file."""
    folder = tmp_path_factory.mktemp("factored")
    dials = {"latent": 3, "width": 8, "components": 1}
    source = str(pictures(folder / "shapes.npz"))
    train(
        "beta-vae",
        source,
        out=folder / "run",
        budget=Budget(examples=320),
        settings=dials,
        console=QUIET,
        looks=1,
    )
    return folder / "run"


def test_a_ladder_is_judged_by_levels_in_true_bits(ladder, capsys):
    assert command(["evaluate", str(ladder), "-n", "20", "--draws", "3", "--json"]) == 0
    metrics = {m["name"]: m for m in answer(capsys)["metrics"]}
    assert metrics["ELBO (VAE)"]["unit"] == "bits/dim"
    assert metrics["IWAE-3 (VAE)"]["value"] <= metrics["ELBO (VAE)"]["value"] + 0.05
    assert {"KL of level 1 (1 x 1)", "KL of level 5 (8 x 8)", "active units", "SSIM"} <= metrics.keys()
    assert metrics["reconstruction error"]["protocol"]["split"] == "held-out"
    assert "MIG" not in metrics
    top = metrics["KL of level 1 (1 x 1)"]
    assert top["parts"] and sum(top["parts"]) == pytest.approx(top["value"], rel=1e-2, abs=1e-3)


def test_a_ladder_is_traversed_level_by_level_and_drawn_from_coarse_to_fine(ladder, tmp_path, capsys):
    assert command(["traverse", str(ladder), "-n", "4", "--out", str(tmp_path), "--json"]) == 0
    said = answer(capsys)
    assert set(said["kl"]) == set("01234")
    assert said["grid"] == str(tmp_path / "traverse.png") and (tmp_path / "traverse.png").exists()
    assert said["levels"] == str(tmp_path / "levels.png") and (tmp_path / "levels.png").exists()


def test_the_other_verbs_know_a_ladder(ladder, tmp_path, capsys):
    for words in (
        ["sample", "-n", "3", "--temperature", "0.7"],
        ["reconstruct", "-n", "3"],
        ["interpolate", "-n", "3"],
    ):
        assert command([words[0], str(ladder), *words[1:], "--out", str(tmp_path), "--json"]) == 0
    assert command(["sample", str(ladder), "--steps", "3", "--json"]) == 2
    assert "changes nothing" in capsys.readouterr().out


def test_data_with_factors_are_judged_by_their_agreement_with_the_code(factored, capsys):
    assert command(["evaluate", str(factored), "-n", "20", "--json"]) == 0
    said = answer(capsys)
    metrics = {m["name"]: m for m in said["metrics"]}
    wanted = {"MIG", "SAP", "modularity", "FactorVAE score", "DCI disentanglement", "DCI completeness"}
    assert wanted <= metrics.keys()
    assert metrics["MIG"]["protocol"]["features"].startswith("3 posterior means")
    assert metrics["MIG"]["protocol"]["samples"] == 160
    assert any("cross-entropy" in note for note in said["notes"])


def test_draws_of_a_bound_are_refused_where_there_is_no_bound(trained, capsys):
    assert command(["evaluate", str(trained / "judge"), "--draws", "5", "--json"]) == 2


def test_factors_of_a_part_of_the_pictures_stop_nothing_but_their_scores(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(render(draw_factors(12), 16)):
        Image.fromarray(image.squeeze()).save(folder / f"{i}.png")
    (folder / "factors.csv").write_text("file,shade\n" + "".join(f"{i}.png,{i}\n" for i in range(9)))
    said = []
    console = SimpleNamespace(say=lambda *lines: said.extend(lines))
    whole, parts = read_data(str(folder), None, None, {}, console)
    assert len(parts.train) + len(parts.held_out) == 12
    assert (
        sum("shade for 9 of 12 pictures and has no line for 9.png and 2 more" in line for line in said) == 1
    )
    metrics, (note,) = agreement(SimpleNamespace(whole=whole), None, None, 0)
    assert metrics == [] and note.startswith(
        "No scores of disentanglement: the table gives shade for 9 of 12"
    )
    assert note.endswith("the columns of numbers.")


@pytest.mark.parametrize(("units", "word"), [(8, "unused"), (5, "inactive"), (4, ""), (0, "")])
def test_an_evaluation_says_when_most_units_are_inactive(units, word, monkeypatch):
    kl = (0.0,) * units + (1.0,) * (8 - units)
    level = LevelUnits((8, 8), Estimate(1.0, 0.0), kl, 8 - units, kl)
    run = SimpleNamespace(facts=None, device=None, recipe=SimpleNamespace(stages=()))
    part = range(10)
    found = {}
    for name, levels in (("vae", (level,)), ("ladder", (level, level))):
        monkeypatch.setattr(latents, "units", lambda *_, levels=levels: levels)
        monkeypatch.setattr(latents, "_images", lambda *_: ())
        found[name] = latents.carried(run, None, part, About("x"))[1]
    assert len(found["vae"]) == 1 + bool(word)
    assert len(found["ladder"]) == 1  # which need not use all of its units
    assert f"{units} of 8 latents are {word}" in found["vae"][-1] or not word


def judged(monkeypatch, *levels):
    """What is said of levels, each the KL of its units; all of them are inactive."""
    made = tuple(LevelUnits((len(kl),), Estimate(sum(kl), 0.0), kl, 0, kl) for kl in levels)
    monkeypatch.setattr(latents, "units", lambda *_: made)
    monkeypatch.setattr(latents, "_images", lambda *_: ())
    run = SimpleNamespace(facts=None, device=None, recipe=SimpleNamespace(stages=()))
    return latents.carried(run, None, range(10), About("x"))[1][1:]


def test_an_evaluation_says_that_a_ladder_is_empty_and_that_a_kl_explodes(monkeypatch):
    """As the training does: the same sentences, of the same numbers."""
    silent, loud = (0.0, 0.001), (2.0, 90.0)
    assert judged(monkeypatch, silent, silent, silent) == empty_levels([0.001] * 3, 1.0)
    assert judged(monkeypatch, (1.0, 2.0), (0.5, 0.0)) == []
    assert judged(monkeypatch, (1.0, 2.0), loud) == exploding([1.0, 2.0, 2.0, 90.0])
    assert judged(monkeypatch, (2.0, 2.0, 2.0, 90.0))[-1:] == exploding([2.0, 2.0, 2.0, 90.0])
    assert len(judged(monkeypatch, silent, loud)) == 2


def test_what_training_and_evaluation_both_say_is_reported_once():
    told, judged = inactive(9, 16), inactive(10, 16)
    assert remarks([*told, "one"], ["two", *judged]) == (
        Remark("one", warning=True),
        Remark("two"),
        Remark(judged[0], warning=True),
    )
    assert finding(told[0]) == finding(judged[0]) != finding("9 of 16 latents")


def test_factors_that_do_not_fit_are_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="150 factors for 160 examples"):
        open_data(str(pictures(tmp_path / "short.npz", rows=150)))
    with pytest.raises(DataError, match="2 names for 6 factors"):
        open_data(str(pictures(tmp_path / "names.npz", factor_names=np.array(["a", "b"]))))
    tables = draw_factors(20)[:, :4].reshape(20, 2, 2)
    np.savez(tmp_path / "tables.npz", images=render(draw_factors(20), 16), factors=tables)
    with pytest.raises(DataError, match=r"factors of shape \(20, 2, 2\)[\s\S]*one column for each"):
        open_data(str(tmp_path / "tables.npz"))
    np.savez(tmp_path / "one.npz", images=render(draw_factors(20), 16), factors=tables[:, 0, 0])
    assert open_data(str(tmp_path / "one.npz")).factors.shape == (20, 1)
    broken = draw_factors(20)
    broken[3, 2] = np.nan
    np.savez(tmp_path / "nan.npz", images=render(draw_factors(20), 16), factors=broken)
    with pytest.raises(DataError, match="NaN"):
        open_data(str(tmp_path / "nan.npz"))
