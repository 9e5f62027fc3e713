"""What does not fit is refused before it is built; a batch that does not fit is taken in parts."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch

from sfumato.app import fitting
from sfumato.app.cli import run as command
from sfumato.app.compose import compose, recipe_names, turned
from sfumato.app.console import Console
from sfumato.app.fitting import MARGIN, check_weights, held, least, micro_batches, most
from sfumato.app.train import agreed
from sfumato.core import memory
from sfumato.core.errors import OutOfMemoryError
from sfumato.core.lazy import build
from sfumato.data.sources import open_data
from sfumato.objectives.elbo import Elbo
from sfumato.recipes.few_steps import METHODS
from sfumato.recipes.taught import taught
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

        objective, stages = torch.nn.Module(), ()

        def trained(self, model):
            return model.a

    # the model; gradient, two moments, two averages of half of it; and all but the gradient at a save
    told = Told()
    assert held(told, told) == (4 * (40 + 5 * 20), 4 * (40 + 4 * 20))
    told.objective = torch.nn.Linear(2, 3)  # a critic is trained with the model, a teacher is only kept
    assert held(told, told) == (4 * (49 + 5 * 29), 4 * (49 + 4 * 29))
    told.objective.requires_grad_(False)
    assert held(told, told) == (4 * (49 + 5 * 20), 4 * (49 + 4 * 20))


def student(digits, method):
    teacher = taught(compose("diffusion", digits.facts, {"width": 16}), digits.facts)
    return turned(METHODS[method], method, teacher, {})


@pytest.mark.parametrize("method", METHODS)
def test_the_teachers_copy_counts(digits, method):
    tree = student(digits, method)
    recipe = build(tree)
    bare = max(sum(held(recipe, s)) for s in recipe.stages)
    for stage in recipe.stages:
        stage.objective.open(stage.module(recipe.model), 0)
    full = max(sum(held(recipe, s)) for s in recipe.stages)
    network = sum(p.numel() for p in recipe.model.density.denoiser.parameters())
    alone = all(getattr(s.objective, "alone", False) for s in recipe.stages)
    assert least(tree) == full and (alone or full - bare >= 4 * 2 * network), "kept, and saved"


def test_a_student_is_trained_in_parts_and_too_large_a_one_is_refused(digits, monkeypatch):
    tree, found = student(digits, "easy"), []
    for extra in (3 * 10**6, 10**10):
        free(monkeypatch, least(tree) + extra)
        found.append(micro_batches(digits, "distill easy", tree, World(), None))
    assert len(found[0]) == 1 and found[1] == {}
    free(monkeypatch, least(tree) - 1)
    with pytest.raises(OutOfMemoryError) as told:
        check_weights("distill easy", tree, digits.facts, {}, World())
    assert "teacher" in told.value.remedy and "width" not in told.value.remedy


def test_what_is_done_needs_no_memory_and_is_not_built(digits, monkeypatch):
    tree = compose("diffusevae", digits.facts, {"width": 16})
    names = [stage.name for stage in build(tree).stages]
    free(monkeypatch, 1)
    for done in (names, [*names, "other"]):
        with monkeypatch.context() as never:
            never.setattr(fitting, "build", None)
            never.setattr(fitting, "build_recipe", None)
            assert least(tree, done) == 0
            check_weights("diffusevae", tree, digits.facts, {}, World(), done)
            assert micro_batches(digits, "diffusevae", tree, World(), None, done) == {}
    with pytest.raises(OutOfMemoryError):
        check_weights("diffusevae", tree, digits.facts, {}, World(), names[:-1])
    free(monkeypatch, least(tree) + 10**6)
    assert set(micro_batches(digits, "diffusevae", tree, World(), None, names[:-1])) == {"refiner"}


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
    tree = compose("diffusevae", digits.facts, settings)
    least_of = least(tree)
    for extra in (3 * 10**6, 10 * 10**6, 10**10):
        free(monkeypatch, least_of + extra)
        before = torch.get_rng_state()
        found.append(micro_batches(digits, "diffusevae", tree, World(), None))
        assert torch.equal(torch.get_rng_state(), before)
    assert 1 <= found[0]["refiner"] <= found[1].get("refiner", 10**6) and found[2] == {}
    free(monkeypatch, None)
    assert micro_batches(digits, "diffusevae", tree, World(), None) == {}
    free(monkeypatch, least_of // 2)
    with pytest.raises(OutOfMemoryError, match="single example"):
        micro_batches(digits, "diffusevae", tree, World(), None)


def stages(**batches):
    """What stands for a recipe of gradient stages with these batches."""
    found = tuple(Stage(name, Elbo(), batch=batch) for name, batch in batches.items())
    return SimpleNamespace(stages=found)


def test_a_run_keeps_its_parts_and_takes_smaller_ones_where_it_must(tmp_path):
    folder, recipe = RunDir(tmp_path), stages(a=64, b=64)
    folder.begin({}, {}, {})
    quiet = Console(silent=True)

    def now(fits):
        return agreed(folder, fits, recipe, World(), quiet)

    def changed():
        return sum("not equal to the bit" in text for text in folder.read("run.json").get("notes", []))

    assert now({}) == {} and now({"a": 8}) == {"a": 8} == folder.read("run.json")["micro"]
    folder.disk.make(folder.checkpoints / "00001-a-0")  # it has begun
    assert now({}) == {"a": 8} and now({"a": 16}) == {"a": 8} and changed() == 0
    assert now({"b": 2}) == {"a": 8, "b": 2} and changed() == 1, "whichever stage is under way"
    assert now({"a": 4, "b": 2}) == {"a": 4, "b": 2} and folder.read("run.json")["micro"] == {"a": 8}
    assert changed() == 1


def test_processes_take_the_smallest_part_any_of_them_needs(tmp_path):
    """Each finds other stages that do not fit: as many exchanges everywhere, one answer, written once."""
    folder, recipe, meeting = RunDir(tmp_path), stages(a=64, b=32, c=16), Barrier(3, timeout=20)
    folder.begin({}, {}, {})
    said, calls = [0.0] * 3, [0] * 3

    def process(rank):
        def agree(value):
            said[rank], calls[rank] = value, calls[rank] + 1
            meeting.wait()
            most = max(said)
            meeting.wait()
            return most

        world = SimpleNamespace(main=rank == 0, agree=agree, device=CPU, size=3)
        return agreed(folder, needs[rank], recipe, world, Console(silent=True))

    needs = ({"b": 8}, {"a": 4, "b": 16}, {})
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(process, range(3)))
    assert found == [{"a": 4, "b": 8}] * 3 and calls == [3] * 3
    assert folder.read("run.json")["micro"] == found[0]


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
    free(monkeypatch, 1)
    assert command([*words, "--out", str(tmp_path / "run")]) == 0, "a finished run asks for nothing"
