"""Diagnosis: each sentence appears exactly where its finding is, and carries the number."""

import math

import pytest
import torch
from training_toys import Denoise, notes, points, single, trainer

from sfumato.objectives.objective import Loss
from sfumato.training import watch
from sfumato.training.events import HeldOut, Note, Recorder, Silent
from sfumato.training.meter import Clock, Meter
from sfumato.training.stagerun import Outcome


def test_collapse_counts_unused_latents():
    assert watch.collapse([0.0] * 62 + [1.0, 2.0])[0].startswith("62 of 64 latents are unused")
    assert watch.collapse([0.5] * 64) == [] and watch.collapse([]) == []
    assert watch.collapse([0.0] * 4 + [1.0] * 4) == []  # unused units beside used ones are no collapse


def test_the_memory_of_an_average_is_told_with_its_share():
    assert "14%" in watch.ema_memory(0.14, 0.3)[0]
    assert watch.ema_memory(0.01, 0.3) == []


def test_tint_names_the_channel_and_the_direction():
    told = watch.tint([0.0, 0.3, 0.0], [0.0, 0.09, 0.0], [0.5, 0.5, 0.5])
    assert len(told) == 1 and "green is brighter" in told[0] and "+0.21" in told[0]
    assert watch.tint([0.1], [0.0], [0.5]) == []
    assert "darker" in watch.tint([-0.5], [0.0], [0.5])[0]
    assert "channel 4" in watch.tint([0, 0, 0, 0, 1], [0] * 5, [0.1] * 5)[0]
    assert "v-prediction" in told[0]
    assert "predict" not in watch.tint([-0.5], [0.0], [0.5], denoised=False)[0]


def test_constant_and_equal_samples():
    assert "constant" in watch.constant([0.0, 0.0], 0.0)[0]
    assert "same picture" in watch.constant([0.4, 0.4], 0.0)[0]
    assert watch.constant([0.4, 0.3], 0.2) == []


def curve(*losses):
    return [[100 * k, loss] for k, loss in enumerate(losses)]


def test_held_out_curves():
    assert watch.held_out(curve(5, 3, 2, 1.5, 1.2, 1.0), 1000) == []
    assert (
        "rises" in watch.held_out(curve(5, 3, 2, 2.5, 3, 3.2), 1000)[0]
        and "200" in watch.held_out(curve(5, 3, 2, 2.5, 3, 3.2), 1000)[0]
    )
    assert "No visible gain" in watch.held_out(curve(5, 1.0, 1.0, 1.0, 1.0, 1.0), 1000)[0]
    assert "does not change" in watch.held_out(curve(1, 1, 1, 1), 1000)[0]
    assert watch.held_out(curve(5, 4), 1000) == []
    assert watch.held_out(curve(5, 3, 2, 2.5, 3, 3.2), 100_000) == []  # the stage has hardly begun
    assert "best state is kept" in watch.held_out(curve(5, 3, 2, 2.5, 3, 3.2), 1000)[0]
    assert "goes on" in watch.held_out(curve(5, 3, 2, 2.5, 3, 3.2), 1000, decides=False)[0]


def test_a_poor_first_stage_is_told():
    told = watch.hand_over(0.12, "vae")[0]
    assert "12%" in told and "--set stages.vae.share" in told and watch.hand_over(0.9, "vae") == []


class Collapsed(Denoise):
    def forward(self, model, batch, *, noise, seen):
        loss = super().forward(model, batch, noise=noise, seen=seen)
        return Loss(loss.terms, loss.weights, {"kl_per_unit": torch.zeros(8)})


def test_a_collapse_in_a_training_is_told_once(tmp_path):
    made = trainer(tmp_path / "run", single(Collapsed()))
    made.fit()
    assert len(notes(made)) == 1 and "8 of 8 latents" in notes(made)[0]


def test_long_averages_are_told(tmp_path):
    made = trainer(tmp_path / "run", single(lengths=(0.27,)))
    made.fit()
    assert any("first fifth" in text for text in notes(made))


@pytest.mark.parametrize("lagging", [False, True])
def test_means_of_an_interval_leave_out_what_was_left_out(lagging):
    meter = Meter(lagging)
    one, nan = torch.tensor(1.0), torch.tensor(float("nan"))
    meter.add(Outcome({"loss": one * 2}, {"kl": one}, norm=one, bad=one * 0))
    meter.add(Outcome({"loss": nan}, norm=nan, bad=one))
    meter.add(Outcome({"loss": one * 4}, norm=one * 3, bad=one * 0))
    read = meter.close(24)
    if lagging:
        assert read is None and meter.close(24) is None
        meter.add(Outcome({"loss": one}, norm=one))
        read = meter.close(32)
    assert read == (24, {"loss": 3.0, "norm": 2.0, "skipped": 1.0})


def test_a_term_that_is_not_known_yet_is_in_no_mean():
    meter, one = Meter(False), torch.tensor(1.0)
    for value in (math.nan, 0.25, 0.75):
        meter.add(Outcome({"loss": one, "codes_used": one * value}, norm=one, bad=one * 0))
    read = meter.close(24)
    assert read == (24, {"loss": 1.0, "codes_used": 0.5, "norm": 1.0, "skipped": 0.0})
    meter.add(Outcome({"loss": one, "codes_used": one * math.nan}, norm=one, bad=one * 0))
    assert meter.close(32) == (32, {"loss": 1.0, "norm": 1.0, "skipped": 0.0})


def test_the_streak_counts_steps_in_a_row():
    meter, one = Meter(False), torch.tensor(1.0)
    counts = []
    for bad in (0, 1, 1, 0, 1):
        meter.add(Outcome({"loss": one}, norm=one, bad=one * bad))
        counts.append(meter.streak())
    assert counts == [0, 1, 2, 0, 1]


def test_the_clock_keeps_the_last_speed_over_a_pause():
    clock = Clock()
    assert clock.speed() == 0.0
    clock.tick(8, 0.0)
    clock.tick(8, 0.0)
    speed = clock.speed()
    clock.pause()
    assert speed > 0 and clock.speed() == speed and clock.data_wait() == 0.0


def test_events_are_json():
    recorder = Recorder()
    event = HeldOut("first", 8, {"loss": 1.0}, True)
    recorder.report(event)
    Silent().report(event)
    assert recorder.events == [event]
    assert event.as_json() == {
        "event": "heldout",
        "stage": "first",
        "seen": 8,
        "values": {"loss": 1.0},
        "best": True,
    }
    assert Note("x").as_json()["warning"] is False


class Moving(Denoise):
    """Makes its own target, so that its loss may rise for the better."""

    settled = False


@pytest.mark.parametrize(("objective", "told"), [(Denoise, True), (Moving, False)])
def test_a_rising_loss_tells_of_memorising_only_where_the_target_stands_still(
    tmp_path, monkeypatch, objective, told
):
    monkeypatch.setattr(watch, "held_out", lambda *_: ["It rises."])
    made = trainer(tmp_path / "run", single(objective()), examples=80, held_out=points(40, 1))
    made.fit()
    assert any("It rises." in text for text in notes(made)) == told
