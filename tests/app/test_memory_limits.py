"""What does not fit is refused before it is built; a batch that does not fit is taken in parts."""

import json

import pytest
import torch

from sfumato.app import fitting
from sfumato.app.cli import run as command
from sfumato.app.compose import compose, recipe_names
from sfumato.app.console import Console
from sfumato.app.fitting import MARGIN, check_weights, held, least, micro_batches, most
from sfumato.app.train import agreed
from sfumato.core import memory
from sfumato.core.errors import OutOfMemoryError
from sfumato.core.lazy import build
from sfumato.data.sources import open_data
from sfumato.training.rundir import RunDir
from sfumato.training.stage import Stage
from sfumato.training.world import World

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def free(monkeypatch, size):
    monkeypatch.setattr(memory, "free", lambda device, swap=False: size)


# ------------------------------------------------------------------------- how much is free


AVAILABLE, SWAP = 4000 * 1024, 500 * 1024


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder that stands for a Linux machine with so much available, and for its control group."""
    words = "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:   4000 kB\n\nSwapFree: 500 kB\n"
    (tmp_path / "meminfo").write_text(words)
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    return tmp_path


def test_the_kernels_word_and_the_groups_limit(machine):
    assert memory.free(CPU) == AVAILABLE
    (machine / "memory.current").write_text("1000\n")
    for limit, expected in (("max\n", AVAILABLE), ("3000\n", 2000), ("500\n", 0)):
        (machine / "memory.max").write_text(limit)
        assert memory.free(CPU) == expected
    (machine / "meminfo").unlink()
    (machine / "memory.max").unlink()
    assert memory.free(CPU) is None and memory.free(CPU, swap=True) is None


@pytest.mark.parametrize(
    ("limit", "used", "before"),
    [
        ("memory.max", "memory.current", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_"),
    ],
)
def test_files_that_a_group_has_read_give_way(machine, limit, used, before):
    """left = limit - use + inactive and active files, at most the limit; other lines do not count."""
    (machine / limit).write_text("3000\n")
    stat = (machine / used).with_name("memory.stat")
    for use, inactive, active in ((2900, 1200, 800), (2900, 0, 1), (2900, 0, 0), (3100, 50, 49), (10, 0, 90)):
        (machine / used).write_text(f"{use}\n")
        stat.write_text(f"anon 7\nfile 900\n{before}inactive_file {inactive}\n{before}active_file {active}\n")
        assert memory.free(CPU) == min(3000, max(0, 3000 - use + inactive + active))
    stat.unlink()
    assert memory.free(CPU) == 2990


def test_swap_counts_for_what_is_held_and_only_as_far_as_the_group_may_take_it(machine):
    assert memory.free(CPU) == AVAILABLE and memory.free(CPU, swap=True) == AVAILABLE + SWAP
    (machine / "memory.max").write_text("3000")
    (machine / "memory.current").write_text("1000")
    assert memory.free(CPU, swap=True) == 2000 + SWAP
    (machine / "memory.swap.current").write_text("30")
    for allowed, more in (("max", SWAP), ("0", 0), ("100", 70), (str(10**9), SWAP)):
        (machine / "memory.swap.max").write_text(allowed)
        assert memory.free(CPU, swap=True) == 2000 + more and memory.free(CPU) == 2000


def test_what_torch_has_reserved_and_does_not_use_is_free(monkeypatch):
    for name, answer in (("mem_get_info", (50, 900)), ("memory_reserved", 300), ("memory_allocated", 120)):
        monkeypatch.setattr(torch.cuda, name, lambda device, answer=answer: answer)
    assert memory.free(torch.device("cuda")) == 50 + 300 - 120


def test_memory_is_shared_with_the_processes_of_this_machine_alone(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device, swap=False: 1200 if swap else 960)
    for local, rooms in ((None, (120, 150)), ("2", (480, 600)), ("1", (960, 1200))):
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if local:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        assert tuple(fitting._room(World(size=8), swap=swap) for swap in (False, True)) == rooms


# ------------------------------------------------------------------------- weights


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "td-vae"])
def test_weights_are_counted_without_building_them(digits, name):
    tree = compose(name, digits.facts, {})
    recipe = build(tree)
    assert least(tree) == max(sum(held(recipe, s)) for s in recipe.stages if isinstance(s, Stage))


def test_what_is_counted_is_what_a_stage_keeps_and_saves():
    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    class Told:
        model, lengths = Half(), (0.1, 0.05)

        def trained(self, model):
            return model.a

    # the model; gradient, two moments, two averages of half of it; and all but the gradient at a save
    assert held(Told(), Told()) == (4 * (40 + 5 * 20), 4 * (40 + 4 * 20))


def test_a_network_too_large_is_refused_at_once_and_a_width_that_fits_is_named(
    digits, tmp_path, monkeypatch, capsys
):
    free(monkeypatch, 10**9)
    monkeypatch.chdir(tmp_path)
    words = ["train", "diffusion", "digits", "--set", "width=30000", "--out", "run", "--json"]
    assert command(words) == 9
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert "GB for weights" in told["error"] and "1.0 GB free" in told["error"]
    assert not (tmp_path / "run").exists()
    width = int(told["remedy"].split("width=")[1].split()[0])
    for wide, fits in ((width, True), (2 * width, False)):
        tree = compose("diffusion", digits.facts, {"width": wide})
        assert (least(tree) <= 10**9) == fits


@pytest.mark.parametrize("room", [None, 10**12])
def test_what_fits_or_is_not_known_is_not_refused(digits, monkeypatch, room):
    free(monkeypatch, room)
    check_weights("vae", compose("vae", digits.facts, {}), digits.facts, {}, World())


# ------------------------------------------------------------------------- micro-batches


class Line:
    """a + b m bytes for m examples."""

    def __init__(self, a, b):
        self.a, self.b, self.most = a, b, 0

    def __call__(self, count, limit):
        if (size := self.a + self.b * count) > limit:
            raise MemoryError
        self.most = max(self.most, count)
        return size


@pytest.mark.parametrize("rows", [1, 7, 64, 96])
@pytest.mark.parametrize("room", [150, 350, 1000, 3000, 10**6])
def test_the_largest_part_that_fits_is_taken(rows, room):
    line = Line(50, 100)
    micro = most(line, room, rows)
    parts = [rows >> k for k in range(rows.bit_length())]
    fitting = [m for m in parts if MARGIN * (50 + 100 * m) <= room]
    assert micro in parts and line.most <= 4, "without trying more than a few"
    if room >= 450:  # both counts fit, so that the line is known
        assert micro == max(fitting, default=1)
    else:
        assert micro <= max(fitting, default=1)
    with pytest.raises(MemoryError):
        most(line, 149, rows)


def test_stages_are_parted_as_memory_allows(digits, monkeypatch):
    """More memory, larger parts; with enough of it, or where it is not known, whole batches."""
    settings, found = {"width": 16}, []
    least_of = least(compose("diffusevae", digits.facts, settings))
    for extra in (3 * 10**6, 10 * 10**6, 10**10):
        free(monkeypatch, least_of + extra)
        before = torch.get_rng_state()
        found.append(micro_batches(digits, "diffusevae", settings, World(), None))
        assert torch.equal(torch.get_rng_state(), before)
    assert 1 <= found[0]["refiner"] <= found[1].get("refiner", 10**6) and found[2] == {}
    free(monkeypatch, None)
    assert micro_batches(digits, "diffusevae", settings, World(), None) == {}
    free(monkeypatch, least_of // 2)
    with pytest.raises(OutOfMemoryError, match="single example"):
        micro_batches(digits, "diffusevae", settings, World(), None)


def test_a_run_keeps_its_parts_and_takes_smaller_ones_where_it_must(tmp_path):
    folder, recipe = RunDir(tmp_path), type("Told", (), {"stages": ()})
    folder.begin({}, {}, {})
    quiet = Console(silent=True)

    def now(fits):
        return agreed(folder, fits, recipe, World(), quiet)

    assert now({}) == {} and now({"a": 8}) == {"a": 8} == folder.read("run.json")["micro"]
    folder.disk.make(folder.checkpoints / "00001-a-0")  # it has begun
    assert now({}) == {"a": 8} and now({"a": 16}) == {"a": 8}
    assert now({"a": 4, "b": 2}) == {"a": 4, "b": 2} and folder.read("run.json")["micro"] == {"a": 8}


def test_training_says_it_and_goes_in_parts(tmp_path, monkeypatch, capsys):
    settings = {"width": 8}
    room = least(compose("vae", open_data("digits").facts, settings)) + 500_000
    free(monkeypatch, room)
    words = ["train", "vae", "digits", "--examples", "64", "--set", "width=8", "--precision", "fp32"]
    assert command([*words, "--out", str(tmp_path / "run")]) == 0
    run = RunDir(tmp_path / "run")
    micro = run.read("run.json")["micro"]["vae"]
    assert f"{micro} of " in capsys.readouterr().out and fitting.FEW[0] <= micro < 64
    assert run.read("run.json")["stages_done"][0] == "vae"
