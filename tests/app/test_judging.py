"""What evaluate and the other verbs refuse, and what they say about the images they judge by."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.app import judges
from sfumato.app.cli import run as command
from sfumato.app.compose import compose
from sfumato.app.console import Console
from sfumato.app.evaluate import evaluate, labels_like
from sfumato.app.looking import ReconstructionGrid
from sfumato.app.names import plan_line
from sfumato.core.errors import DataError, UsageError
from sfumato.core.lazy import build
from sfumato.data.builtin import digits
from sfumato.data.dataset import Dataset
from sfumato.models.density import Plan
from sfumato.models.given import Given, seeds_of
from sfumato.training.probes import Moment
from sfumato.training.rundir import RunDir

QUIET = Console(silent=True)


def rewrite(run, **changes):
    """Change what a run remembers of its making."""
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture
def strangers(tmp_path):
    """A folder of coloured pictures of another size than the digits."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    for i in range(12):
        values = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{i}.png")
    return folder


def test_a_judge_that_has_seen_the_held_out_images_is_refused(runs, capsys):
    rewrite(runs / "judge", held_out=0.02)
    words = ["evaluate", str(runs / "model"), "-n", "20", "--json"]
    assert command([*words, "--judge", str(runs / "judge")]) == 2
    assert "trained on 1" in answer(capsys)["error"]
    assert command(words) == 0
    said = capsys.readouterr()
    assert "cannot judge: it was trained on" in said.err
    features = {m["protocol"]["features"].split("@")[0] for m in json.loads(said.out)["metrics"]}
    assert "classifier" not in features
    rewrite(runs / "judge", data="gone.npy")
    assert command(words) == 0, "a run beside this one that nobody asked for is no reason to fail"
    assert "judge cannot judge" in capsys.readouterr().err


@pytest.mark.parametrize("words", [b"{", b"[1]", b"3", b'{"settings": 5}', b"\xff\x00", None], ids=repr)
def test_a_neighbour_whose_words_do_not_read_is_passed_over(words, tmp_path, capsys):
    for name in ("model", "neighbour"):
        (tmp_path / name).mkdir()
    path = tmp_path / "neighbour" / "run.json"
    path.mkdir() if words is None else path.write_bytes(words)
    folder = RunDir(tmp_path / "model")
    about = {"fingerprint": "f", "data": "digits", "recipe": "vae"}
    facts = SimpleNamespace(classes=("a", "b"))
    asking = SimpleNamespace(path=folder.path, folder=folder, about=about, facts=facts, device="cpu")
    assert judges.find_judge(asking, None, None, Console()) is None
    said = capsys.readouterr().out
    assert "neighbour cannot judge: " in said and "judging without one" in said


def test_numbers_name_the_held_out_images_and_how_they_were_resampled(runs, strangers):
    run = sfumato.open(runs / "model")
    own = evaluate(run, count=20, console=QUIET)
    other = evaluate(run, count=20, test=str(strangers), console=QUIET)
    mine, theirs = ({m.protocol.data for m in e.metrics} for e in (own, other))
    assert len(mine) == len(theirs) == 1 and mine != theirs
    assert {m.protocol.resize for m in own.metrics if "pixels" in m.protocol.features} == {"none"}
    assert all("Lanczos" in m.protocol.resize and "8 x 8" in m.protocol.resize for m in other.metrics)
    assert any("12 of the 12 images given: RGB converted to gray" in note for note in other.notes)
    assert any("also chose among" in note for note in own.notes)
    assert not any("also chose among" in note for note in other.notes)
    assert any("classes as often as the training images" in note for note in own.notes)
    sampled = [m for m in own.metrics if m.protocol.plan and "bits" not in m.unit]
    assert sampled and all("classes as in training" in m.protocol.plan for m in sampled)
    told = run.reconstruct(str(strangers), 2).notes
    assert any("RGB converted to gray" in note for note in told)


def test_held_out_images_from_elsewhere_stand_in_for_missing_ones(runs, tmp_path):
    rewrite(runs / "model", test=str(tmp_path / "gone.npy"))
    run = sfumato.open(runs / "model")
    with pytest.raises(DataError, match=r"gone\.npy"):
        evaluate(run, count=20, console=QUIET)
    found = evaluate(run, count=20, test="digits", console=QUIET)
    assert any("1,797 of the 1,797 held-out images are also training images" in n for n in found.notes)


def test_missing_training_images_are_an_error_with_a_remedy_that_is_true(runs, strangers):
    rewrite(runs / "model", data="gone.npy")
    run = sfumato.open(runs / "model")
    with pytest.raises(DataError, match=r"trained on cannot be read.*gone\.npy") as raised:
        evaluate(run, test=str(strangers), console=QUIET)
    assert "--test replaces the held-out images only" in raised.value.remedy
    assert len(run.sample(2)) == 2 and run.interpolate(2) and run.reconstruct(str(strangers), 2).rows


def test_without_held_out_images_the_verbs_say_so(runs):
    rewrite(runs / "model", held_out=0)
    run = sfumato.open(runs / "model")
    for act, remedy in ((run.reconstruct, "reconstruct .* DATA"), (run.traverse, "--test")):
        with pytest.raises(DataError, match=remedy):
            act()


def test_too_few_samples_are_refused(runs, capsys):
    assert command(["evaluate", str(runs / "model"), "-n", "3", "--json"]) == 2
    assert "10" in answer(capsys)["error"]
    with pytest.raises(UsageError, match="3 samples cannot be judged"):
        evaluate(sfumato.open(runs / "model"), count=3, console=QUIET)


def generator(recipe, **settings):
    return build(compose(recipe, digits().facts, {"width": 8, **settings})).model


def test_options_that_would_change_nothing_are_refused(trained, monkeypatch):
    run = sfumato.open(trained / "model")
    assert run.plan(steps=5, solver="ddim", guidance=2.0).steps == 5  # a class to be guided by
    assert "guidance 2" in run.describe_plan(guidance=2.0)
    monkeypatch.setattr(run, "model", generator("vae"))
    for asked in ({"steps": 5}, {"solver": "ddim"}, {"guidance": 2.0}):
        with pytest.raises(UsageError, match=f"--{next(iter(asked))} changes nothing"):
            run.sample(1, **asked)
        if "guidance" not in asked:
            with pytest.raises(UsageError, match="changes nothing"):
                run.reconstruct(None, 1, **asked)
    assert run.describe_plan(temperature=0.7) == "draws of the prior, temperature 0.7"
    monkeypatch.setattr(run, "model", generator("diffusion"))
    with pytest.raises(UsageError, match="no condition"):
        run.plan(guidance=2.0)
    assert plan_line(run.generator, Plan(scale=2.0)) == "18 heun steps on karras, guidance 2"


def test_labels_are_as_common_as_in_training():
    labels = np.repeat([0, 1, 2], [300, 60, 40])
    data = Dataset.of(np.arange(400 * 4, dtype=np.float32).reshape(400, 2, 2), labels)
    assert np.bincount(labels_like(data, 400, 0)).tolist() == [300, 60, 40]
    part = np.bincount(labels_like(data, 100, 0), minlength=3) / 100
    assert part == pytest.approx([0.75, 0.15, 0.1], abs=0.12)
    assert torch.equal(labels_like(data, 50, 3), labels_like(data, 100, 3)[:50])
    assert not torch.equal(labels_like(data, 100, 3), labels_like(data, 100, 4))


def test_both_ends_of_a_path_are_the_samples_of_their_seeds_up_to_the_class(trained):
    run = sfumato.open(trained / "model")
    for seed, to_seed in ((0, 1), (5, 2)):
        whole = run.interpolate(3, seed=seed, to_seed=to_seed)["x_T and z"]
        label = run.generator.draw(seeds_of(seed, 1)).label
        far = run.generator.sample(1, None, Given(label=label), seeds=seeds_of(to_seed, 1))
        assert np.array_equal(whole[0], run.sample(1, seed=seed)[0])
        assert np.array_equal(whole[-1], run.images(far)[0])


def test_inception_that_cannot_be_used_is_a_note(trained, monkeypatch, tmp_path):
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"not the published file")
    monkeypatch.setattr(judges, "find_weights", lambda: damaged)
    monkeypatch.setattr("sfumato.evaluation.inception.find_weights", lambda: damaged)
    run = sfumato.open(trained / "model")
    features, notes = judges.judges(run, None, run.training)
    assert [f.name for f in features] == ["statistics"]
    assert len(notes) == 1 and "Inception features are left out" in notes[0]


def test_points_have_no_classifier(tmp_path, capsys):
    points = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    np.savez(tmp_path / "points.npz", x=points, labels=np.arange(200) % 2)
    words = ["train", "classifier", str(tmp_path / "points.npz"), "--out", str(tmp_path / "run"), "--json"]
    assert command(words) == 2
    assert "points" in answer(capsys)["error"] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_memory_that_runs_out_has_its_own_code(error, tmp_path, monkeypatch, capsys):
    def fail(*args, **more):
        raise error

    monkeypatch.setattr("sfumato.app.run.open_run", fail)
    assert command(["sample", str(tmp_path), "--json"]) == 9
    assert answer(capsys)["error"] == "memory ran out"


def test_a_first_stage_that_explains_little_is_told_at_its_end(tmp_path):
    data = digits()
    recipe = build(compose("diffusevae", data.facts, {"width": 8}))
    probe, run = ReconstructionGrid(data.facts, data), RunDir(tmp_path)
    run.samples.mkdir()
    model, on = recipe.model, recipe.stages[0].on

    def look(seen, whole=model, path=on):
        moment = Moment(whole, lambda: torch.no_grad(), run, "vae", path, seen, 100, seen, lambda: None)
        return probe.look(moment).notes

    assert look(50) == ()
    (told,) = look(100)
    assert "first stage's reconstructions explain only" in told
    assert look(100, model.get_submodule(on), "") == (), "nothing is built on a VAE that stands alone"
