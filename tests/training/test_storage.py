"""A save is all or nothing: at every call it makes, by death and by failing disks, and under damage."""

import errno
import os
import shutil
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core.errors import BusyError, RefusedError, StorageError, UsageError
from sfumato.training.rundir import RunDir, differences
from sfumato.training.state import pack
from sfumato.training.storage import Disk, Full, from_json, seal, sha256, to_json, unseal

FILES = {"model.safetensors": pack({"w": torch.arange(40.0)}), "state.json": b"{}\n"}
NEW = {"model.safetensors": pack({"w": torch.arange(40.0) + 1}), "state.json": b"[]\n"}


class Counting(Disk):
    """Counts calls; at the k-th it dies before, half-way, or after, or fails with an error."""

    def __init__(self, k=0, mode=""):
        self.k, self.mode, self.count = k, mode, 0

    def call(self, function, *arguments):
        self.count += 1
        if self.count != self.k:
            return function(*arguments)
        if isinstance(self.mode, int):
            if function is os.write:
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(self.mode, os.strerror(self.mode))
        if self.mode == "half" and function is os.write:
            function(arguments[0], arguments[1][: len(arguments[1]) // 2])
        if self.mode == "after":
            function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def fresh(path, saves=3):
    run = RunDir(path)
    run.begin({"lr": 1}, {"size": 8}, {})
    for k in range(saves):
        run.save(f"{k + 1:05d}-main-{4 * k}", FILES)
    return run


def save(run):
    run.save("00004-main-12", NEW)
    run.prune([])


def calls(tmp_path):
    run = fresh(tmp_path / "count")
    run.disk = Counting()
    save(run)
    return run.disk.count


def dies(action):
    """Run an action in a forked child; whether it was killed before it could acknowledge."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("mode", ["before", "half", "after"])
def test_death_at_every_call_of_a_save(tmp_path, mode):
    """Matrix row 1: afterwards the newest valid state is the old or the new one, equal to the byte."""
    total = calls(tmp_path)
    assert total >= 20
    seen = set()
    for k in range(1, total + 2):
        path = tmp_path / f"run-{k}"
        run = fresh(path)
        run.disk = Counting(k, mode)
        killed = dies(lambda run=run: save(run))
        assert killed == (k <= total)
        again = RunDir(path)
        found = again.newest()
        assert (found.name, dict(found.files)) in (("00003-main-8", FILES), ("00004-main-12", NEW))
        assert found.passed_over == {}
        if not killed:
            assert found.name == "00004-main-12"
        seen.add(found.name)
        again.begin({"lr": 1}, {"size": 8}, {})
        assert [p for p in path.rglob(".*") if p.name != ".lock"] == []
        save(again) if found.name != "00004-main-12" else again.prune([])
        assert again.names() == ["00004-main-12", "00003-main-8"]
        shutil.rmtree(path)
    assert len(seen) == 2


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_failing_disk_at_every_call_of_a_save(tmp_path, error):
    """Matrix rows 8 and 10: the old states keep their bytes, nothing half-written stays, a retry works."""
    for k in range(1, calls(tmp_path) + 1):
        run = fresh(tmp_path / f"run-{k}")
        before = {p: p.read_bytes() for p in run.checkpoints.rglob("*") if p.is_file() and "00003" in str(p)}
        run.disk = Counting(k, error)
        with pytest.raises(StorageError) as caught:
            save(run)
        assert isinstance(caught.value, Full) == (error != errno.EROFS)
        assert caught.value.code == 5 and os.strerror(error) in str(caught.value)
        assert {p: p.read_bytes() for p in before} == before
        assert run.newest().name in ("00003-main-8", "00004-main-12")
        run.disk = Disk()
        run.clean()
        if run.newest().name == "00003-main-8":
            save(run)
        assert dict(run.newest().files) == NEW


def test_space_for_two_checkpoints_is_asked_for_first(tmp_path):
    run = fresh(tmp_path / "run")

    class Small(Disk):
        def call(self, function, *arguments):
            if function is shutil.disk_usage:
                return shutil._ntuple_diskusage(10**9, 10**9 - 100, 100)
            assert function in (os.mkdir, os.unlink), "nothing is written on a full disk"
            return function(*arguments)

    run.disk = Small()
    with pytest.raises(Full, match="MB free"):
        save(run)


def flip(path, at=100):
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


def swap(folder):
    model, state = folder / "model.safetensors", folder / "state.json"
    one, two = model.read_bytes(), state.read_bytes()
    model.write_bytes(two)
    state.write_bytes(one)


def relink(folder):
    outside = folder.parent.parent / "outside"
    shutil.move(folder / "state.json", outside)
    (folder / "state.json").symlink_to(outside)


DAMAGE = {
    "missing file": lambda f: (f / "state.json").unlink(),
    "short file": lambda f: (f / "state.json").write_bytes(b"{"),
    "long file": lambda f: (f / "state.json").write_bytes(b"{}\n\n\n"),
    "extra file": lambda f: (f / "other.bin").write_bytes(b"x"),
    "swapped files": swap,
    "flipped bit": lambda f: flip(f / "model.safetensors"),
    "flipped bit of the manifest": lambda f: flip(f / "MANIFEST.json"),
    "no JSON": lambda f: (f / "MANIFEST.json").write_bytes(b"\x00\xff{"),
    "no manifest": lambda f: (f / "MANIFEST.json").unlink(),
    "another version": lambda f: (f / "MANIFEST.json").write_bytes(
        (f / "MANIFEST.json").read_bytes().replace(b'"format": 1', b'"format": 9')
    ),
    "empty folder": lambda f: [p.unlink() for p in f.iterdir()],
    "a link": relink,
    "renamed": lambda f: f.rename(f.with_name("00009-main-12")),
    "a path in the manifest": lambda f: (f / "MANIFEST.json").write_bytes(
        (f / "MANIFEST.json").read_bytes().replace(b'"state.json"', b'"../state.json"')
    ),
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_damage_is_found_and_passed_over(tmp_path, kind):
    """Matrix row 3: the newest valid state is used, and the reason for skipping the newer one is known."""
    run = fresh(tmp_path / "run")
    save(run)
    DAMAGE[kind](run.checkpoints / "00004-main-12")
    found = run.newest()
    assert found.name == "00003-main-8" and dict(found.files) == FILES
    ((name, why),) = found.passed_over.items()
    assert "main-12" in name and len(why) > 10


def test_no_valid_checkpoint_is_refused_and_never_restarted(tmp_path):
    """Matrix row 4; also when the damaged ones have been set aside before."""
    run = fresh(tmp_path / "run", saves=2)
    for name in run.names():
        flip(run.checkpoints / name / "model.safetensors")
    for _ in range(2):
        with pytest.raises(RefusedError, match="no valid checkpoint") as caught:
            run.newest()
        assert caught.value.code == 4 and "failed its checksum" in str(caught.value)
        assert "--fresh" in caught.value.remedy
        for name in run.names():
            if not name.startswith("damaged"):
                run.set_aside(name)


def test_a_checkpoint_of_another_recipe_or_data_is_refused(tmp_path):
    run = fresh(tmp_path / "run", saves=1)
    (run.path / "recipe.json").write_bytes(to_json({"lr": 2}))
    with pytest.raises(RefusedError, match=r"recipe\.json is not the one"):
        run.newest()


def test_a_changed_recipe_is_shown_leaf_by_leaf(tmp_path):
    """Matrix row 6."""
    run = fresh(tmp_path / "run")
    with pytest.raises(UsageError, match=r"lr: 1 -> 2") as caught:
        run.begin({"lr": 2}, {"size": 8}, {})
    assert caught.value.code == 2
    assert differences({"a": [1, {"b": 2.0}]}, {"a": [1, {"b": 3.0}]}) == ["a.1.b: 2.0 -> 3.0"]
    assert differences({"a": 0}, {"a": 0.0}) == []  # JSON has one kind of number: a dial may become finer
    assert differences({"a": 1}, {"a": 1.5}) == ["a: 1 -> 1.5"]
    assert differences({"a": 1}, {"a": True}) == ["a: 1 -> True"]
    assert differences({"a": [1]}, {"a": [1]}) == []


def test_what_never_got_as_far_as_a_checkpoint_is_described_anew(tmp_path):
    run = fresh(tmp_path / "run", saves=0)
    assert run.begin({"lr": 2}, {"size": 8}, {"seed": 1})
    assert run.read("recipe.json") == {"lr": 2} and run.read("run.json") == {"seed": 1}


def test_a_folder_of_others_is_refused_with_its_bytes_as_they_were(tmp_path):
    place = tmp_path / "project"
    (place / "samples").mkdir(parents=True)
    (place / ".git").mkdir()
    for name in ("data.json", "run.json", "recipe.json", "data-preview.png", "samples/main-0.png"):
        (place / name).write_text("{}")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    for gone in ("run.json", "recipe.json", "data.json", None):
        with pytest.raises(UsageError, match=r"there: data-preview\.png, ") as caught:
            RunDir(place).begin({"lr": 1}, {"size": 8}, {})
        assert "--out" in caught.value.remedy
        assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before
        if gone is not None:
            (place / gone).unlink()
            del before[place / gone]
    assert not (place / "checkpoints").exists()


OTHERS = (
    "train.log",
    "desktop.ini",
    "lost+found/x",
    ".git/HEAD",
    ".ipynb_checkpoints/a",
    ".half.partial",
    "a.png",
)


def bytes_below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_under_other_names_are_never_touched(tmp_path):
    """A log, hidden folders, what a file system puts there: a run begins and goes on beside them."""
    run = RunDir(tmp_path / "run")
    for name in OTHERS:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(name)
    assert run.begin({"lr": 1}, {"size": 8}, {}) and run.shared()
    run.save("00001-main-0", FILES)
    assert not run.begin({"lr": 1}, {"size": 8}, {})
    assert {name: bytes_below(run.path)[name].decode() for name in OTHERS} == {name: name for name in OTHERS}
    assert not fresh(tmp_path / "alone").shared()


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoints/a.pt", "ema/a", "samples/a.wav", "report.html", ".lock"]
)
def test_each_name_that_a_run_would_take_is_refused(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("another program's")
    with pytest.raises(UsageError, match=f"there: {name.partition('/')[0]}"):
        RunDir(tmp_path).begin({}, {}, {})
    assert bytes_below(tmp_path) == {name: b"another program's"}


def test_what_a_killed_beginning_left_is_no_folder_of_others(tmp_path):
    """Every state between the first folder and recipe.json begins again; so does one of hidden files."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    (run.path / ".DS_Store").write_text("x")
    (run.path / ".run.json.partial").write_text("x")
    for folder in (run.checkpoints, run.averages, run.samples):
        run.refuse_foreign()
        folder.mkdir()
    for name in ("run.json", "data.json", "recipe.json"):
        run.refuse_foreign()
        (run.path / name).write_bytes(to_json({"lr": 1}))
    assert run.begin({"lr": 2}, {"size": 8}, {})
    with pytest.raises(UsageError, match="what no run put there"):
        run.refuse_foreign(["recipe"])  # the words of a run are told by who writes them
    (run.path / "run.json").write_text("[1")
    with pytest.raises(UsageError, match="what no run put there"):
        run.begin({"lr": 2}, {"size": 8}, {})
    whole = fresh(tmp_path / "whole", saves=1)
    (whole.path / "run.json").unlink()
    whole.refuse_foreign(["recipe"])  # a checkpoint is proof enough


def test_a_full_disk_does_not_unlock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("sfumato.training.lock.os.write", full)
    with RunDir(tmp_path).lock(), pytest.raises(BusyError), RunDir(tmp_path).lock():
        pass


def test_the_last_two_and_the_best_are_kept(tmp_path):
    run = fresh(tmp_path / "run", saves=6)
    run.prune(["00002-main-4"])
    assert run.names() == ["00006-main-20", "00005-main-16", "00002-main-4"]
    assert run.next_name("main", 24) == "00007-main-24"


def test_neither_time_nor_names_decide_which_is_newest(tmp_path):
    """Matrix row 29: orders compare as numbers, and mtimes are ignored."""
    run = fresh(tmp_path / "run", saves=0)
    for order in (9, 10, 99999, 100000):
        run.save(f"{order:05d}-main-0", FILES)
    os.utime(run.checkpoints / "00009-main-0", (2**31, 2**31))
    assert run.newest().name == "100000-main-0"


def test_one_process_at_a_time(tmp_path):
    """Matrix row 28; the lock dies with its owner."""
    one, two = RunDir(tmp_path / "run"), RunDir(tmp_path / "run")
    with one.lock(), one.lock():
        with pytest.raises(BusyError, match=str(os.getpid())) as caught, two.lock():
            pass
        assert caught.value.code == 8
    with two.lock():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked child")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_killed_owner_leaves_no_lock(tmp_path):
    run = RunDir(tmp_path / "run")

    def hold():
        with run.lock():
            os.kill(os.getpid(), signal.SIGKILL)

    assert dies(hold)
    with RunDir(tmp_path / "run").lock():
        pass


def test_metrics_wait_for_a_full_disk_and_lose_nothing(tmp_path):
    run = fresh(tmp_path / "run")
    run.log({"seen": 1})
    run.disk = Counting(1, errno.ENOSPC)
    run.log({"seen": 2})
    assert [line["seen"] for line in run.history()] == [1]
    run.log({"seen": 3})
    assert [line["seen"] for line in run.history()] == [1, 2, 3]
    size = run.logged()
    run.log({"seen": 4})
    run.rewind(size)
    assert [line["seen"] for line in run.history()] == [1, 2, 3]


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(RefusedError, match="is no run folder"):
        RunDir(tmp_path).read("recipe.json")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_round_trip(value):
    assert from_json(to_json(value), "test") == value


@pytest.mark.parametrize(
    "bad", [b"NaN", b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff", b"", b"{'a': 1}", b"Infinity"]
)
def test_what_is_no_json_of_ours_is_refused(bad):
    with pytest.raises(RefusedError):
        from_json(bad, "test")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_manifest_are_refused_or_valid(data):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "sealed"
        seal(Disk(), folder, {"a": b"1"}, {})
        (folder / "MANIFEST.json").write_bytes(data)
        with pytest.raises(RefusedError):
            unseal(folder)


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_every_single_bit_flip_is_found(at, bit):
    data = bytearray(FILES["model.safetensors"])
    data[at % len(data)] ^= 1 << bit
    assert sha256(bytes(data)) != sha256(FILES["model.safetensors"])
