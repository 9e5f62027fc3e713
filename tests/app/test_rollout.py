"""`sfumato rollout`: what it writes, what it refuses, and that its numbers are of the frames it shows."""

import json

import pytest
import torch
from PIL import Image

import sfumato
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.rollout import predicted, rollout
from sfumato.app.train import Budget, train
from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.data.sources import BUILTIN

QUIET = Console(silent=True)


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory):
    """A tiny TD-VAE of few clips, trained through the front door."""
    from sfumato.data.clips import moving_digits

    folder = tmp_path_factory.mktemp("clips") / "run"
    patch = pytest.MonkeyPatch()
    patch.setitem(BUILTIN, "moving-digits", lambda: moving_digits(80, frames=8, size=12))
    settings = {"jump": 3, "latent": 4, "width": 8, "belief": 16}
    train(
        "td-vae",
        "moving-digits",
        out=folder,
        budget=Budget(examples=128),
        settings=settings,
        console=QUIET,
        looks=1,
    )
    yield folder
    patch.undo()


def answer(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_a_roll_out_is_drawn_and_told(clip_run, tmp_path, capsys):
    words = ["rollout", str(clip_run), "-n", "2", "--seen", "4", "--out", str(tmp_path), "--json"]
    assert command(words) == 0
    told = answer(capsys)
    assert told["seen"] == 4 and set(told["mse"]) == {"step by step", "jumped"}
    assert all(len(v) == 3 for v in told["mse"].values()) and len(told["entropy"]) == 8
    assert len(told["standing still"]) == 3
    with Image.open(told["grid"]) as picture:
        assert picture.width > 4 * 12 and picture.height > 6 * 12


def test_the_errors_are_those_of_the_frames(clip_run):
    found = rollout(sfumato.open(clip_run), count=5)
    assert found.seen == 5
    for name, frames in found.ways.items():
        by_hand = [float((frames[:, :, k] - found.truth[:, :, k]).square().mean()) for k in range(3)]
        assert found.mse[name] == pytest.approx(by_hand, rel=1e-5)
    assert torch.equal(found.ways["jumped"][:, :, 0], found.ways["step by step"][:, :, 0])
    assert len(found.first(2).truth) == 2 and found.first(2).mse == found.mse


def test_beside_them_stands_what_the_last_frame_seen_would_cost(clip_run):
    """By hand; and nothing where nothing moves, whatever a model predicts."""
    run = sfumato.open(clip_run)
    found, x = rollout(run, count=5), run.data.held_out.batch(range(5)).x
    by_hand = [float((x[:, :, 4] - x[:, :, 5 + k]).square().mean()) for k in range(3)]
    assert found.still == pytest.approx(by_hand, rel=1e-5) and min(by_hand) > 0
    assert f"standing still: mean squared error {by_hand[0]:.4f} one frame ahead" in found.lines()[2]
    frozen = predicted(run.model.codec, x[:, :, :1].expand_as(x), 5)
    assert frozen.still == [0.0] * 3 and min(frozen.mse["jumped"]) > 0


def test_only_seen_frames_enter_a_prediction_and_draws_differ(clip_run):
    run = sfumato.open(clip_run)
    x = run.data.held_out.batch(range(3)).x
    changed = x.clone()
    changed[:, :, 5:] = 1.0
    one, two = (predicted(run.model.codec, v, 5) for v in (x, changed))
    assert torch.equal(one.ways["jumped"], two.ways["jumped"])
    first, again, other = (
        predicted(run.model.codec, x, 5, seeds).ways["jumped"] for seeds in ((1, 2, 3), (1, 2, 3), (4, 5, 6))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_state_steps_and_jump_are_drawn_from_numbers_of_their_own(clip_run, monkeypatch):
    """Standardised, no draw repeats another: first of the state, then of every step, then of the jumps."""
    run, drawn = sfumato.open(clip_run), []
    draw = Noise.normal

    def noted(self, shape, dtype=torch.float32):
        drawn.append(draw(self, shape, dtype))
        return drawn[-1]

    monkeypatch.setattr(Noise, "normal", noted)
    predicted(run.model.codec, run.data.held_out.batch(range(3)).x, 5, (1, 2, 3))
    state, *steps, jumps = drawn
    assert len(steps) == 3 and jumps.shape == (3, 3, state.shape[1])
    every = torch.stack([state, *steps, *jumps.unbind(1)], 1)
    same = every[:, :, None] == every[:, None, :]
    assert not (same.all(-1) & ~torch.eye(every.shape[1], dtype=torch.bool)).any()


def test_the_other_verbs_work_on_clips(clip_run, capsys):
    for words in (
        ["sample", "-n", "3"],
        ["reconstruct", "-n", "2"],
        ["interpolate", "-n", "3"],
        ["traverse", "-n", "3"],
    ):
        assert command([words[0], str(clip_run), *words[1:], "--json"]) == 0
        with Image.open(answer(capsys)["grid"]) as picture:
            assert picture.width > 12


def test_what_cannot_be_rolled_out_is_refused(clip_run, trained):
    run = sfumato.open(clip_run)
    with pytest.raises(UsageError, match="8 frames seen of clips of 8"):
        rollout(run, seen=8)
    with pytest.raises(UsageError, match="knows no time"):
        rollout(sfumato.open(trained / "model"))
