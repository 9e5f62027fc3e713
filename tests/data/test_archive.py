"""Zip files: the same pictures as the folder, and forty ways of doing harm refused."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odd_images import picture
from sfumato.core.errors import DataError, RefusedError
from sfumato.data.archive import Archive
from sfumato.data.sources import open_data


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, 8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def make(path: Path, members: dict[str, bytes], **how) -> Path:
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_gives_what_its_folder_gives(tmp_path):
    members = {f"all/{c}/{i}.PNG": png(10 * k + i) for k, c in enumerate(("x", "y")) for i in range(3)}
    make(tmp_path / "d.zip", members | {"all/readme.txt": b"hello", "__MACOSX/all/x/._0.png": b"junk"})
    for name, data in members.items():
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(data)
    zipped, plain = open_data(tmp_path / "d.zip"), open_data(tmp_path / "d")
    assert zipped.fingerprint == plain.fingerprint and zipped.names == plain.names
    assert zipped.facts.classes == ("x", "y")


def test_a_table_inside_gives_labels(tmp_path):
    members = {"a.png": png(1), "b.png": png(2), "labels.csv": b"file,label\na.png,one\nb.png,two\n"}
    data = open_data(make(tmp_path / "t.zip", members))
    assert data.facts.classes == ("one", "two")
    with pytest.raises(DataError, match=r"no table 'nope\.csv'[^.]*\.zip\)\n  .*labels\.csv"):
        open_data(tmp_path / "t.zip", labels="nope.csv")


def test_what_is_not_read_in_a_zip_is_named(tmp_path):
    members = {"a.png": png(1), "b.png": png(2), "x.csv": b"file,label\na.png,one\n", "c.heic": b"c"}
    data = open_data(make(tmp_path / "1.zip", members | {"__MACOSX/._x.csv": b"junk"}))
    assert data.facts.classes == ("one",)  # the shadow of a table is none
    assert "1 .heic file is not read: c.heic. Convert them to PNG or JPEG first." in data.survey.notes
    data = open_data(make(tmp_path / "2.zip", members | {"y/z.csv": b"", "notes.txt": b"n"}))
    assert data.facts.classes == () and "2 tables lie here (x.csv, y/z.csv)" in data.survey.notes[0]
    assert any("notes.txt" in note for note in data.survey.notes)


def test_a_run_packed_with_its_data_is_no_part_of_them(tmp_path):
    members = {f"d/{c}/{i}.png": png(10 * k + i) for k, c in enumerate(("x", "y")) for i in range(2)}
    run = {f"d/runs/m/{n}": b"{}" for n in ("recipe.json", "run.json")}
    run |= {"d/runs/m/samples/a.png": png(50), "d/data-preview.png": png(51)}
    made = [open_data(make(tmp_path / f"{i}.zip", m)) for i, m in enumerate((members, members | run))]
    assert made[0].fingerprint == made[1].fingerprint and made[1].facts.classes == ("x", "y")


HOSTILE = [
    "../up.png",
    "a/../../up.png",
    "..",
    "a/..",
    "/etc/up.png",
    "//server/up.png",
    "C:/up.png",
    "c:up.png",
    "..\\up.png",
    "a\\..\\..\\up.png",
    "\\up.png",
    "\\\\server\\share\\up.png",
    "a/b/../../../../up.txt",
    "./../up.png",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_leave_the_archive_are_refused_whole(tmp_path, name):
    path = make(tmp_path / "h.zip", {"good.png": png(1), name: png(2)})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RefusedError, match="points outside") as caught:
        open_data(path)
    assert caught.value.code == 4 and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path, mode):
    path = tmp_path / "l.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("link.png")
        entry.external_attr = (mode | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(RefusedError, match="a link or a device"):
        open_data(path)


def test_bombs_are_refused_by_their_growth(tmp_path):
    zeros = bytes(30 << 20)
    path = make(tmp_path / "b.zip", {"zeros.png": zeros}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(RefusedError, match="grows from"):
        open_data(path)


def test_a_million_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.data.archive.MOST_ENTRIES", 5)
    with pytest.raises(RefusedError, match="6 entries"):
        open_data(make(tmp_path / "m.zip", {f"{i}.png": b"" for i in range(6)}))


def test_overlapping_members_are_refused(tmp_path):
    """Two directory entries that point at the same compressed bytes (the classic flat bomb)."""
    path = make(tmp_path / "o.zip", {"a.png": png(1), "b.png": png(1)})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # its header offset
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="overlap"):
        open_data(path)


def test_an_encrypted_member_is_refused(tmp_path):
    path = make(tmp_path / "e.zip", {"a.png": png(1)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="encrypted"):
        open_data(path)


def test_harmless_oddities_are_just_named_or_ignored(tmp_path):
    """Nested zips, case clashes, reserved names, long names: read in memory, none of them can do harm."""
    inner = make(tmp_path / "inner.zip", {"x.png": png(0)}).read_bytes()
    members = {
        "n.zip": inner,
        "A.png": png(1),
        "a.png": png(2),
        "CON.png": png(3),
        "x" * 200 + ".png": png(4),
    }
    data = open_data(make(tmp_path / "odd.zip", members))
    assert len(data) == 4 and len(set(data.hashes.tolist())) == 4
    with pytest.raises(DataError, match=r"No images in .*saw 1 \.zip"):
        open_data(make(tmp_path / "only.zip", {"n.zip": inner}))


def test_a_damaged_member_is_named(tmp_path):
    path = make(tmp_path / "d.zip", {f"{i:02}.png": png(i) for i in range(30)})
    data = bytearray(path.read_bytes())
    at = data.index(png(7)) + 40
    data[at] ^= 255
    path.write_bytes(data)
    found = open_data(path)
    assert len(found) == 29 and found.survey.bad[0][0] == "07.png" and "CRC" in found.survey.bad[0][1]


def test_cut_and_flipped_archives_give_our_errors_only(tmp_path):
    """300 mutants of the listing: refused, or listed as some pictures; never another exception."""
    whole = make(tmp_path / "w.zip", {f"{i}.png": png(i) for i in range(4)}).read_bytes()
    rng, path, refused = np.random.default_rng(0), tmp_path / "f.zip", 0
    for k in range(300):
        data = bytearray(whole)
        if k % 3 == 0:
            data = data[: int(rng.integers(0, len(whole)))]
        else:
            for _ in range(int(rng.integers(1, 6))):
                data[-int(rng.integers(1, 300))] = int(rng.integers(0, 256))
        path.write_bytes(data)
        try:
            archive = Archive(path)
        except (RefusedError, DataError):
            refused += 1
            continue
        for item in archive.items():
            assert (item.data is None) != (item.fault is None)
    assert refused > 150
