"""Bounds of a model that predicts some frames of a clip: of those frames alone, and one draw at a time."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import sfumato
from sfumato.app.bounds import Asked, bound_metrics, score
from sfumato.app.cli import run as command
from sfumato.app.console import Console
from sfumato.app.latents import latent_metrics
from sfumato.app.likelihood import likelihood
from sfumato.app.train import Budget, train
from sfumato.core.noise import Noise
from sfumato.data.clips import moving_digits
from sfumato.data.sources import BUILTIN
from sfumato.evaluation.protocol import comparable
from sfumato.evaluation.scene import About


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A TD-VAE that saw 32 clips of eight frames."""
    folder, dials = (
        tmp_path_factory.mktemp("clips") / "run",
        {"jump": 2, "latent": 3, "width": 8, "belief": 8, "pairs": 3},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUILTIN, "moving-digits", lambda: moving_digits(60, frames=8, size=12))
        budget, quiet = Budget(examples=32), Console(silent=True)
        train("td-vae", "moving-digits", out=folder, budget=budget, settings=dials, console=quiet, looks=1)
        yield folder


def test_bits_are_per_number_of_the_frames_that_are_predicted(clips):
    """Nats over the numbers of the drawn pairs' later frames, not of the clip."""
    run = sfumato.open(clips)
    part = run.data.held_out.take(range(4))
    nats = score(run, [part], Asked("elbo")).nats
    trace = run.model.codec.trace(part.batch(range(4)).x, noise=Noise(range(4)))
    numbers = run.model.codec.pairs * 12 * 12
    assert trace.data[0].numel() == numbers != part.batch([0]).x.numel()
    expected = (-nats / (numbers * math.log(2.0))).tolist()
    assert likelihood(run, bound="elbo", against=4).bits == pytest.approx(expected)
    (metric,), _ = bound_metrics(run, part, About("x"), "elbo")
    assert metric.value == pytest.approx(np.mean(expected))
    assert metric.name == likelihood(run, bound="elbo", against=4).bound == "ELBO of a frame 1 to 2 ahead"


def test_a_bound_of_frames_given_the_past_is_ranked_with_none_of_whole_clips(clips):
    """Nor with that of other jumps: log p of a frame 1 or 2 ahead is another quantity than 1 to 5 ahead."""
    run = sfumato.open(clips)
    metrics, _ = latent_metrics(run, run.data.held_out, About("x"))
    own = next(m for m in metrics if "bits" in m.unit)
    for other in ("ELBO (VAE)", "ELBO (frame 1 to 5 ahead)"):
        assert "different quantities" in comparable(own, replace(own, name=other))
    assert comparable(own, own) is None


def test_the_latents_of_pairs_are_told_by_what_they_are_for_and_none_is_active(clips):
    run = sfumato.open(clips)
    metrics, notes = latent_metrics(run, run.data.held_out, About("x"))
    named = {m.name: m for m in metrics}
    assert "active units" not in named and not any("latent" in note for note in notes)
    for name in ("KL of smoothing", "KL of prediction"):
        assert len(named[name].parts) == 3  # of one pair, of three that are drawn
        assert named[name].value == pytest.approx(sum(named[name].parts), rel=1e-3)


def test_pairs_of_times_are_drawn_anew_so_that_no_draws_are_weighted(clips, capsys):
    """The ELBO of frames stands; a bound of several draws is refused, by `evaluate` in a note."""
    run = sfumato.open(clips)
    metrics, notes = latent_metrics(run, run.data.held_out, About("x"), draws=4)
    assert [m.name for m in metrics if "bits" in m.unit] == ["ELBO (frame 1 to 2 ahead)"]
    assert "Each draw predicts other frames: no importance-weighted bound." in notes
    assert command(["likelihood", str(clips), "--draws", "4", "--json"]) == 2
    assert "each draw predicts other frames" in json.loads(capsys.readouterr().out)["error"]
