"""Ctrl-C and SIGTERM in every phase: the state is saved, the code tells, the resume is exact."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_toys import final, notes, points, recipe, single, trainer

from sfumato.core.errors import Interrupted
from sfumato.training.budget import Hours
from sfumato.training.events import Saved, StageStarted
from sfumato.training.probes import Finding, Probe
from sfumato.training.rundir import RunDir
from sfumato.training.signals import Stop, StopRequested

HERE = Path(__file__).parent


class Kicker(Probe):
    """A long look that polls; may send a signal to its own process."""

    def __init__(self):
        self.number = 0

    def look(self, moment):
        if self.number and moment.seen >= 32:
            number, self.number = self.number, 0
            os.kill(os.getpid(), number)
        moment.poll()
        return Finding({"seen": float(moment.seen)})


def kick_data(made, number, at):
    batch, count = made.data.batch, [0]

    def kicking(*arguments):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), number)
        return batch(*arguments)

    made.data.batch = kicking


def kick_event(made, number, kind, k=3):
    record, count = made.reporter.report, [0]

    def kicking(event):
        record(event)
        count[0] += isinstance(event, kind)
        if isinstance(event, kind) and count[0] == k:
            os.kill(os.getpid(), number)

    made.reporter.report = kicking


PHASES = {
    "first step": lambda made, n: kick_data(made, n, 1),
    "micro-step": lambda made, n: kick_data(made, n, 8),
    "encoding": lambda made, n: kick_data(made, n, 25),
    "last step": lambda made, n: kick_data(made, n, 61),
    "save": lambda made, n: kick_event(made, n, Saved),
    "start of a stage": lambda made, n: kick_event(made, n, StageStarted, 1),
    "held-out loss": lambda made, n: kick_data(made.judge, n, 4),
    "look": lambda made, n: setattr(made.probes[0], "number", n),
}


def made(path):
    return trainer(path, count=20, held_out=points(6, 1), probes=(Kicker(),), micro=3, save_examples=24)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    made(path).fit()
    return final(path)


@pytest.mark.parametrize("phase", list(PHASES))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_any_phase(tmp_path, undisturbed, phase, number):
    """Matrix row 11."""
    before = signal.getsignal(number)
    first = made(tmp_path / "run")
    PHASES[phase](first, number)
    with pytest.raises(Interrupted, match=r"(saved at|is kept)") as caught:
        first.fit()
    assert caught.value.code == 128 + number and "same command" in caught.value.remedy
    assert signal.getsignal(number) is before
    again = made(tmp_path / "run")
    again.fit()
    assert final(tmp_path / "run") == undisturbed


def test_a_signal_during_trial_steps(tmp_path):
    first = trainer(tmp_path / "run", single(), budget=Hours(1 / 3600))
    kick_data(first, signal.SIGTERM, 5)
    with pytest.raises(Interrupted):
        first.fit()
    again = trainer(tmp_path / "run", single(), budget=Hours(1 / 3600))
    again.fit()
    assert again.progress.stage_name == "done" and notes(again)


def test_the_flag_is_raised_once_and_polled():
    with Stop() as stop:
        stop.poll()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequested):
            stop.poll()


def start(folder, seconds):
    command = [sys.executable, str(HERE / "training_process.py"), str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(7):
        assert process.stdout.readline() == "step\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_leaves_with_the_right_code(tmp_path, number):
    process = start(tmp_path / "run", 0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "saved at" in told and "Traceback" not in told
    assert RunDir(tmp_path / "run").newest() is not None


def test_a_second_signal_leaves_at_once(tmp_path):
    """Matrix row 12: from the middle of a step that would take long."""
    process = start(tmp_path / "run", 0.05)
    process.kill()
    process.communicate()
    slow = subprocess.Popen(
        [sys.executable, str(HERE / "training_process.py"), str(tmp_path / "run"), "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout.readline() == "step\n"
    slow.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    slow.send_signal(signal.SIGTERM)
    _, told = slow.communicate(timeout=30)
    assert slow.returncode == 143 and "the last checkpoint is kept" in told
    assert RunDir(tmp_path / "run").newest() is not None


def test_nothing_is_saved_twice_in_one_place(tmp_path):
    """A signal right after a save writes the same position under a higher order."""
    first = trainer(tmp_path / "run", recipe(), save_examples=24)
    kick_event(first, signal.SIGTERM, Saved, 2)
    with pytest.raises(Interrupted):
        first.fit()
    names = first.run.names()
    assert len(names) == len(set(names)) and names[0].endswith("first-24")
