"""Ctrl-C and SIGTERM outside the training loop: one message with a remedy, 128 + signal."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from sfumato.app import train as training
from sfumato.app.cli import run
from sfumato.app.stopping import DEFAULTS, Stoppable
from sfumato.core.errors import Interrupted, UsageError

# the command line with a verb that takes long; as `held`, it is as slow to leave
WAITING = """
import sys, time
from sfumato.app import cli

@cli.app.command("wait")
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        if "held" in sys.argv:
            print("leaving", flush=True)
            time.sleep(60)

sys.exit(cli.run(["wait"]))
"""


@contextmanager
def waiting(*words):
    """A process that waits inside the verb; ended and closed whatever becomes of the test."""
    command = [sys.executable, "-c", WAITING, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_verb_that_is_stopped_says_so_and_how_to_go_on(number):
    """Matrix row 11, of a process."""
    with waiting() as process:
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert number.name in told and "Run the same command again" in told and "Traceback" not in told


def test_a_second_signal_leaves_at_once():
    """Matrix row 12."""
    with waiting("held") as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "leaving\n"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 143 and "is kept" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_training_is_stopped_before_its_loop_without_a_trace(number, tmp_path, capsys, monkeypatch):
    def kicked(*_):
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(training, "forecast", kicked)
    before = [signal.getsignal(n) for n in DEFAULTS]
    words = ["train", "vae", "digits", "--examples", "64", "--out", str(tmp_path / "run"), "--json"]
    assert run(words) == 128 + number
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["code"] == 128 + number and "same command" in told["remedy"]
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(n) for n in DEFAULTS] == before


def test_the_code_is_that_of_the_signal_which_came():
    """Also where a verb that is stopped tells of it in its own words."""
    stop = Stoppable()
    with pytest.raises(KeyboardInterrupt), stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert stop.code(Interrupted("stopped: 3 of 8 images are drawn", signal=2)) == 143
    assert stop.code(UsageError("another")) == 2
    assert Stoppable().code(Interrupted("saved", signal=15)) == 143
    assert stop.error("train").remedy != stop.error("sample").remedy


def test_handlers_of_others_stay():
    def mine(*_):
        return None

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with Stoppable():
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
