"""kill -9 at random moments of a training, saves included, until it is done: equal to the bit.

The children are forked from a warm parent, so that most of their life is training and saving and
the kills land there. benchmarks/kill_resume.py does the same to the real command.
"""

import os
import random
import signal
import time

import pytest
from training_toys import final, points, recipe, trainer

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

KILLS = 12


def made(path):
    return trainer(path, recipe(), examples=240, count=30, held_out=points(6, 1), micro=3, save_examples=16)


def train(path):
    """A child that trains; its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            made(path).fit()
            code = 0
        finally:
            os._exit(code)
    return child


def wait(child, seconds):
    """Kill a child after some time unless it ended before; whether it ended by itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
            return True
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


def test_kills_change_nothing(tmp_path):
    start = time.monotonic()
    assert wait(train(tmp_path / "undisturbed"), 300)
    whole = time.monotonic() - start
    expected = final(tmp_path / "undisturbed")
    moments, kills, saves, runs = random.Random(0), 0, 0, 0
    while kills < KILLS:
        runs += 1
        path = tmp_path / f"run-{runs}"
        while not wait(train(path), moments.uniform(0.0, whole / 3)):
            kills += 1
            saves += any(p.name.endswith(".partial") for p in path.glob("checkpoints/.*"))
            assert kills < 20 * KILLS, "no run ever gets to its end"
        assert final(path) == expected
    assert kills >= KILLS
    assert saves > 0, "no kill landed in a save"
