"""Two processes train what one trains: same examples, same draws, same loss."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sfumato.core.errors import WorkerError
from sfumato.training.rundir import RunDir
from sfumato.training.state import Progress, unpack
from sfumato.training.world import World

HERE = Path(__file__).parent


def launch(folder, processes):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = command if processes > 1 else [sys.executable]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(HERE / "training_process.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "terminate called" not in done.stderr and "destroy_process_group" not in done.stderr
    found = RunDir(folder).newest()
    state = Progress.from_bytes(found.files["state.json"], "state")
    losses = [line["loss"] for line in RunDir(folder).history() if line["kind"] == "step"]
    return unpack(found.files["model.safetensors"], None, "model"), state, losses


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without processes")
def test_two_processes_equal_one(tmp_path):
    one, state_one, losses_one = launch(tmp_path / "one", 1)
    two, state_two, losses_two = launch(tmp_path / "two", 2)
    assert state_one.ids == state_two.ids and state_one.total == state_two.total == 160
    assert losses_one == pytest.approx(losses_two, rel=1e-5)
    for name, tensor in one.items():
        if name != "calls" and not name.endswith(".calls"):  # buffers of the forward pass are local
            torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-5)
    first, second = (unpack((tmp_path / f"two/rank-{r}.safetensors").read_bytes(), None, "") for r in (0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first if not n.endswith("calls"))
    chosen = [(tmp_path / f"two/rank-{r}.json").read_bytes() for r in (0, 1)]
    assert chosen[0] == chosen[1] and json.loads(chosen[0]) == state_two.chosen


LEFT = """
import os
import torch
from sfumato.core.errors import WorkerError
from sfumato.training.world import World
world = World.find(cpu=True)
world.wait()
if not world.main:
    os._exit(9)
try:
    world.sum(torch.ones(3))
except WorkerError as error:
    os._exit(error.code)
"""


FROZEN = """
import os
import sys
import time
from datetime import timedelta
import torch
from sfumato.core.errors import WorkerError
from sfumato.training.world import World
world = World.find(cpu=True, patience=timedelta(seconds=4))
if world.main:
    time.sleep(6)  # alone at work, for longer than the patience with equals
world.wait()
value = world.share(torch.full((2,), float(world.rank)))
assert value.tolist() == [0.0, 0.0] and world.agree(float(world.rank)) == 1.0
if not world.main:
    time.sleep(12)  # frozen
    os._exit(9)
start = time.monotonic()
try:
    world.sum(torch.ones(3))
except WorkerError as error:
    told = "not answered for 0.0667 minutes" in str(error) and time.monotonic() - start < 11
    os._exit(error.code if told else 1)
"""


def two(script):
    """The exit codes of two processes of a script, the main one first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=os.environ | meeting | {"RANK": rank})
        for rank in "01"
    ]
    return [process.wait(timeout=120) for process in both]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without processes")
def test_a_process_left_alone_says_so_and_ends_with_its_code():
    assert two(LEFT) == [WorkerError.code, 9]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without processes")
def test_a_frozen_process_is_told_by_its_silence_and_the_main_one_may_work_alone():
    assert two(FROZEN) == [WorkerError.code, 9]


def test_a_world_of_one_agrees_with_itself():
    world = World()
    x = torch.tensor([1.0, 2.0])
    assert world.main and world.sum(x) is x and world.agree(3.0) == 3.0
    world.wait()
