"""`sfumato likelihood`: bits per dimension and ranks, by name, for the images given, or a clear refusal."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.app import dequantising
from sfumato.app.bounds import Asked, Found, default_bound, settled
from sfumato.app.cli import run as command
from sfumato.app.dequantising import FEW
from sfumato.app.likelihood import chance, likelihood, ranks
from sfumato.core.errors import DataError
from sfumato.evaluation.flow import Trial

STEP = 15  # the distance of the levels of the built-in digits


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def drawn(folder, count=3, size=(8, 8), seed=0, step=STEP, brightest=0):
    """Pictures of random ink on the levels of the digits, one corner at least so bright."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, ink in enumerate(np.random.default_rng(seed).integers(0, 17, (count, *size))):
        picture = ink * step
        picture[0, 0] = max(picture[0, 0], brightest)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_rank_is_the_share_of_held_out_images_with_fewer_bits():
    others = torch.tensor([1.0, 2.0, 2.0, 4.0], dtype=torch.float64)
    values = torch.tensor([0.0, 2.0, 3.0, 9.0], dtype=torch.float64)
    assert ranks(values, others) == (0.0, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("bound", ["ode", "vlb"])
def test_every_bound_finds_noise_stranger_than_digits(trained, tmp_path, bound, capsys):
    """Random ink costs more bits than nearly all held-out digits, whatever the bound."""
    folder = drawn(tmp_path / "noise")
    words = ["likelihood", str(trained / "model"), str(folder), "--class", "3", "--against", "12"]
    words += ["--bound", bound, "--json", *(["--tolerance", "1e-3"] if bound == "ode" else [])]
    assert command(words) == 0
    found = answer(capsys)
    assert found["bound"].startswith(bound.upper()) and found["unit"] == "bits/dim"
    assert [image["name"] for image in found["images"]] == ["0.png", "1.png", "2.png"]
    assert all(image["rank"] > 0.9 for image in found["images"])
    assert len(found["held_out"]["bits"]) == 12 and found["method"]
    assert all(0 < image["error"] < 1 for image in found["images"])


def test_an_image_has_its_bits_whatever_it_is_given_with(trained, tmp_path):
    """Alone, in a folder, in another order: the number is the image's own."""
    run = sfumato.open(trained / "model")
    folder = drawn(tmp_path / "noise")
    asked = {"class_name": "1", "against": 0, "tolerance": 1e-3}
    together = likelihood(run, [str(folder)], **asked)
    turned = likelihood(run, [str(folder / f"{i}.png") for i in (2, 0)], **asked)
    assert turned.names == ("2.png", "0.png") and together.ranks == ()
    assert turned.bits == pytest.approx((together.bits[2], together.bits[0]), abs=2e-4)


def test_without_files_the_held_out_images_are_judged(trained, capsys):
    assert command(["likelihood", str(trained / "model"), "--bound", "elbo", "--draws", "4"]) == 0
    told = capsys.readouterr().out
    assert "IWAE-4 of the first stage" in told and "over 100" in told


def test_held_out_images_keep_their_own_classes_whatever_class_is_asked_for(trained, tmp_path):
    """--class is of the images given: the reference is the same for two classes, and the image is not."""
    run = sfumato.open(trained / "model")
    files, asked = [str(drawn(tmp_path / "noise", count=1))], {"bound": "vlb", "against": 12}
    one, two = (likelihood(run, files, class_name=name, **asked) for name in ("1", "7"))
    assert one.bits != two.bits
    assert one.held_out == two.held_out == pytest.approx(likelihood(run, **asked).bits)


@pytest.mark.parametrize("bound", ["ode", "vlb", "elbo"])
def test_two_seeds_agree_within_the_chance_that_is_told(trained, bound):
    """Each image within six of its errors, the mean of ten within four of its own."""
    run = sfumato.open(trained / "model")
    asked = {"tolerance": 1e-3} if bound == "ode" else {}
    one, two = (likelihood(run, bound=bound, against=10, seed=s, **asked) for s in (0, 1))
    error = np.hypot(one.errors, two.errors)
    moved = np.subtract(one.bits, two.bits)
    assert (moved != 0).all() and (np.abs(moved) < 6 * error).all()
    assert abs(moved.mean()) < 4 * np.sqrt((error**2).mean() / len(moved))
    assert error.mean() < 0.5


@pytest.mark.parametrize("count", [1, 3, 200])
def test_the_error_of_a_draw_is_the_spread_of_draws(count):
    """From draws of known spread, by 8 differences at least; nothing where a second draw is the first."""
    generator, asked = np.random.default_rng(count), []

    def again(k):
        asked.append(k)
        return Found(torch.from_numpy(generator.normal(size=count)) * math.log(2.0), "", "", 1)

    errors = np.array(chance(torch.from_numpy(generator.normal(size=count)), again))
    assert asked == list(range(1, len(asked) + 1)) and len(asked) * count >= 8
    assert math.sqrt((errors**2).mean()) == pytest.approx(1.0, abs=0.15 if count == 200 else 0.7)
    assert errors.std() < 0.5 and (errors > 0.4).all()
    same = torch.arange(3.0, dtype=torch.float64)
    assert chance(same, lambda k: Found(-same * math.log(2.0), "", "", 1)) == ()


def test_the_number_of_grey_levels_is_the_chains_and_of_the_odes_options_the_flows(trained):
    run = sfumato.open(trained / "model")
    assert default_bound(run) == "vlb" and default_bound(run, of_ode=True) == "ode"
    found = likelihood(run, against=4)
    assert found.bound == "VLB" and "log-SNRs" in found.method
    other = likelihood(run, against=4, uniform=True, tolerance=1e-2)
    assert other.bound == "ODE" and "uniform dequantisation" in other.method and "probe" in other.method


def test_the_dequantisation_is_chosen_by_images_that_are_not_scored(trained, monkeypatch):
    """Held-out ones where some are left, else training images; the same ones whatever else is scored."""
    run, seen = sfumato.open(trained / "model"), []

    def spied(generator, batch, levels, *, at, **rest):
        seen.append(set(at))
        return Trial(3.0, 2.0 if len(seen) < 3 else 4.0, len(at))

    monkeypatch.setattr(dequantising, "trial", spied)
    unseen, asked = run.data.held_out, {"bound": "ode", "tolerance": 1e-2}
    few = likelihood(run, against=2, **asked)
    assert len(seen[0]) == FEW and seen[0] <= {int(h) for h in unseen.hashes}
    assert not seen[0] & {int(h) for h in unseen.take(range(2)).hashes}
    assert few.bits == likelihood(run, against=2, uniform=True, **asked).bits and len(seen) == 1
    assert few.dequantised.law == "uniform" and few.to_json()["dequantisation"]["tried"]["uniform"] == 2.0
    assert "chosen by 6 held-out images that are not scored" in "".join(few.lines())
    law = settled(run, Asked("ode"), [unseen])[1]
    assert not seen[1] & {int(h) for h in unseen.hashes} and "training" in law.because
    other = settled(run, Asked("ode"), [unseen.take(range(2)), unseen.take(range(3))])[1]
    assert other.law == "truncated normal" and seen[2] == seen[0]
    taken = unseen.take([i for i in range(len(unseen)) if int(unseen.hashes[i]) in seen[0]])
    settled(run, Asked("ode"), [taken])
    assert len(seen[3]) == FEW and not seen[3] & seen[0]
    alone = settled(run, Asked("ode"), [unseen, run.training])[1]
    assert (alone.law, alone.tried, len(seen)) == ("truncated normal", None, 4)
    assert "no other images" in alone.line()


def test_floats_of_another_range_are_refused_with_the_file_and_both_ranges(tmp_path, capsys):
    """0 ... 255 for a run of 0 ... 1: x would be up to 509."""
    values = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "unit.npy", values)
    np.save(tmp_path / "bytes.npy", 255 * values[:3])
    np.save(tmp_path / "near.npy", 1.2 * values[:3])
    out = str(tmp_path / "run")
    words = ["train", "diffusion", str(tmp_path / "unit.npy"), "--out", out, "--examples", "64", "--json"]
    assert command([*words, "--set", "width=16"]) == 0
    capsys.readouterr()
    words = ["likelihood", out, "--against", "0", "--tolerance", "1e-2", "--json"]
    assert command([*words, str(tmp_path / "bytes.npy")]) == 3
    told = answer(capsys)
    assert "far beyond" in told["error"] and "bytes" in told["where"] and "training had" in told["where"]
    assert "254." in told["where"] and told["remedy"]
    assert command([*words, str(tmp_path / "near.npy")]) == 0
    near = answer(capsys)
    assert near["unit"] == "bits/dim (density)" and "Rademacher" in near["method"]


def test_images_of_another_size_range_or_without_a_class_are_refused(trained, tmp_path, capsys):
    run = str(trained / "model")
    cases = [
        ([str(drawn(tmp_path / "large", size=(9, 9))), "--class", "1"], "changed to fit"),
        ([str(drawn(tmp_path / "between", step=14)), "--class", "1"], "between the run's 17 grey levels"),
        ([str(drawn(tmp_path / "bright", brightest=255)), "--class", "1"], "beyond the run's range"),
        ([str(drawn(tmp_path / "plain"))], "known class"),
        ([str(tmp_path / "plain"), "--class", "ten"], "no class"),
        (["--bound", "nll"], "no likelihood 'nll'"),
        (["--bound", "elbo", "--tolerance", "1e-3"], "changes nothing"),
        (["--bound", "vlb", "--uniform"], "changes nothing"),
        (["--bound", "vlb", "--no-uniform"], "--no-uniform changes nothing"),
        (["--draws", "0"], "draws"),
    ]
    for k, (words, reason) in enumerate(cases):
        assert command(["likelihood", run, *words, "--json"]) == (3 if k < 3 else 2), words  # 3: the images
        assert reason in json.dumps(answer(capsys)), words


def test_a_model_without_a_likelihood_says_so(trained, capsys):
    assert command(["likelihood", str(trained / "judge"), "--json"]) == 2
    assert answer(capsys)["remedy"]


def test_colours_of_another_number_are_refused(trained, tmp_path):
    folder = tmp_path / "rgb"
    folder.mkdir()
    ink = np.random.default_rng(0).integers(0, 17, (8, 8, 3)) * STEP
    Image.fromarray(ink.astype(np.uint8)).save(folder / "a.png")
    with pytest.raises(DataError, match="changed to fit"):
        likelihood(sfumato.open(trained / "model"), [str(folder)], class_name="1")


def test_evaluate_reports_the_bound_that_is_asked_for(runs, capsys):
    words = ["evaluate", str(runs / "model"), "-n", "40", "--judge", str(runs / "judge"), "--json"]
    assert command([*words, "--bound", "ode"]) == 0
    found = {m["name"]: m for m in answer(capsys)["metrics"]}["ODE"]
    assert found["unit"] == "bits/dim" and found["value"] > 0 and found["spread"] > 0
    assert found["protocol"]["split"] == "held-out"
    assert command([*words, "--bound", "nll"]) == 2
    assert "no likelihood" in answer(capsys)["error"]


def test_an_evaluation_refuses_before_it_draws_what_the_model_has_not(tmp_path, capsys):
    out = str(tmp_path / "vae")
    assert command(["train", "vae", "digits", "--examples", "64", "--out", out, "--json"]) == 0
    for bound in ("ode", "vlb"):
        capsys.readouterr()
        assert command(["evaluate", out, "--bound", bound]) == 2
        said = "".join(capsys.readouterr())
        assert "Drawing" not in said and "autoencoder" in said


def test_the_help_names_every_solver():
    from sfumato.app.options import SolverName
    from sfumato.app.solving import SOLVERS

    text = SolverName.__metadata__[0].help
    assert [word for word in SOLVERS if word not in text.replace(".", ",").replace(":", ",")] == []


def test_points_have_an_exact_density(tmp_path, capsys):
    """Floats: bits/dim of a density, without a draw; more than one would change nothing and is refused."""
    out = str(tmp_path / "roll")
    words = ["train", "diffusion", "swiss-roll", "--out", out, "--examples", "2560", "--set", "width=16"]
    assert command([*words, "--json"]) == 0
    capsys.readouterr()
    told = []
    for seed in ("0", "1"):
        assert command(["likelihood", out, "--against", "20", "--seed", seed, "--json"]) == 0
        told.append(answer(capsys))
    assert told[0]["unit"] == "bits/dim (density)" and len(told[0]["images"]) == 20
    assert [i["bits"] for i in told[0]["images"]] == [i["bits"] for i in told[1]["images"]]
    assert command(["likelihood", out, "--draws", "3", "--json"]) == 2
    assert "exact" in answer(capsys)["error"]
    assert command(["likelihood", out, "--uniform", "--json"]) == 2
    assert "only grey levels are dequantised" in answer(capsys)["error"]
    assert command(["likelihood", out, "--bound", "vlb", "--json"]) == 2
    assert "floats" in answer(capsys)["error"]
