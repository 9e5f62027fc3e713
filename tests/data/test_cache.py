"""The cache: whole or absent, verified before use, rebuilt when damaged, never in the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from odd_images import picture, save
from sfumato.core.errors import StorageError
from sfumato.data import cache, ingest
from sfumato.data.sources import open_data


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        save(folder / f"{i}.png", picture(i, 8, 8))
    return folder


@pytest.fixture
def builds(monkeypatch) -> list[str]:
    """The keys that were built, in order."""
    built, real = [], ingest._build
    monkeypatch.setattr(ingest, "_build", lambda key, *rest: (built.append(key), real(key, *rest)))
    return built


def entries(own_cache: Path) -> list[Path]:
    return sorted((own_cache / "data").iterdir())


def test_decoded_once_and_then_read(pictures, builds, own_cache):
    first, second = open_data(pictures), open_data(pictures)
    assert len(builds) == 1 and len(entries(own_cache)) == 1
    assert np.array_equal(first.stored, second.stored) and first.facts == second.facts
    assert first.survey.to_json() == second.survey.to_json()
    assert np.array_equal(first.hashes, second.hashes) and first.names == second.names


def test_any_change_of_files_or_choices_is_seen(pictures, builds):
    prints = {open_data(pictures).fingerprint}
    os.utime(pictures / "0.png", ns=(1, 1))
    prints.add(open_data(pictures).fingerprint)
    assert len(prints) == 1 and len(builds) == 2  # decoded again, found equal
    prints.add(open_data(pictures, size=4).fingerprint)
    save(pictures / "7.png", picture(7, 8, 8))
    prints.add(open_data(pictures).fingerprint)
    (pictures / "7.png").rename(pictures / "8.png")
    open_data(pictures)
    assert len(prints) == 3 and len(builds) == 5
    open_data(pictures, quarantine=True)
    assert len(builds) == 5  # changes nothing that is stored


DAMAGES = {
    "bit": lambda e: flip(e / "stored.bin"),
    "words": lambda e: flip(e / "columns.json"),
    "short": lambda e: (e / "stored.bin").write_bytes((e / "stored.bin").read_bytes()[:-1]),
    "long": lambda e: (e / "stored.bin").write_bytes((e / "stored.bin").read_bytes() + b"x"),
    "missing": lambda e: (e / "stored.bin").unlink(),
    "no manifest": lambda e: (e / "MANIFEST.json").unlink(),
    "bad manifest": lambda e: (e / "MANIFEST.json").write_text("{"),
    "list": lambda e: (e / "MANIFEST.json").write_text("[1]"),
    "empty": lambda e: [f.unlink() for f in e.iterdir()],
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_built_again(pictures, builds, own_cache, damage):
    whole = open_data(pictures).stored.copy()
    DAMAGES[damage](entries(own_cache)[0])
    assert np.array_equal(open_data(pictures).stored, whole)
    assert len(builds) == 2
    assert np.array_equal(open_data(pictures).stored, whole) and len(builds) == 2


def test_a_builder_that_fails_leaves_nothing(own_cache):
    with pytest.raises(RuntimeError), cache.building("k", 10) as folder:
        (folder / "half").write_bytes(b"12")
        raise RuntimeError
    assert cache.valid("k") is None and entries(own_cache) == []


def test_the_one_who_comes_second_keeps_what_the_first_built():
    with cache.building("k", 10) as slow:
        (slow / "a").write_bytes(b"slow")
        with cache.building("k", 10) as fast:
            (fast / "a").write_bytes(b"fast")
    found = cache.valid("k")
    assert found is not None and (found / "a").read_bytes() == b"fast"


def test_too_little_room_is_said_before_anything_is_written(monkeypatch, own_cache):
    room = shutil.disk_usage(own_cache)._replace(free=10 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(StorageError, match="SFUMATO_CACHE") as caught, cache.building("k", 1 << 30):
        pass
    assert "1.1 GB" in str(caught.value) and caught.value.code == 5


def test_a_full_disk_is_a_storage_error(monkeypatch):
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"), cache.building("k", 10) as folder:
        (folder / "a").write_bytes(b"1")
        monkeypatch.setattr(os, "fsync", full)


def test_a_cache_that_cannot_be_made_is_a_storage_error(monkeypatch, tmp_path, pictures):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(StorageError, match="SFUMATO_CACHE"):
        open_data(pictures)


def test_the_entry_appears_only_when_everything_is_synced(pictures, monkeypatch, own_cache):
    """Every file of the entry is synced before the rename, and the folder after it."""
    calls: list[str] = []
    real_sync, real_replace = cache._sync, Path.replace
    monkeypatch.setattr(cache, "_sync", lambda p: (calls.append(f"sync {p.name}"), real_sync(p)))
    monkeypatch.setattr(Path, "replace", lambda s, t: (calls.append("rename"), real_replace(s, t))[1])
    open_data(pictures)
    at = calls.index("rename")
    assert {"sync stored.bin", "sync columns.json"} <= set(calls[:at]) and calls[at + 1] == "sync data"
    listed = json.loads((entries(own_cache)[0] / "MANIFEST.json").read_text())
    assert set(listed) == {"stored.bin", "columns.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_while_building_and_then_built(pictures, own_cache):
    """A process killed in the middle leaves a folder aside; the next start sweeps it and succeeds."""
    script = textwrap.dedent(
        f"""
        import os, signal
        from sfumato.data import cache
        from sfumato.data.sources import open_data
        cache._seal = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
        open_data({str(pictures)!r})
        """
    )
    died = subprocess.run([sys.executable, "-c", script], env=os.environ.copy(), timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert [e.suffix for e in entries(own_cache)] == [".tmp"]
    assert len(open_data(pictures)) == 6
    assert [e.suffix for e in entries(own_cache)] == [""]


def test_data_too_large_for_memory_stay_on_disk(pictures, monkeypatch):
    inside = open_data(pictures)
    monkeypatch.setattr(ingest, "IN_MEMORY", 10)
    outside = open_data(pictures)
    assert isinstance(outside.stored, np.memmap) and not isinstance(inside.stored, np.memmap)
    assert np.array_equal(outside.batch([4, 1]).x, inside.batch([4, 1]).x)


def test_progress_ends_at_the_total(pictures):
    told = []
    open_data(pictures, progress=lambda *said: told.append(said))
    assert told == [("reading headers", 6, 6), ("decoding", 6, 6)]
