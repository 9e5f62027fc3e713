"""Parquet in the image layout of `datasets`, and the Hub by a local stand-in."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from odd_images import picture
from sfumato.core.errors import DataError, RefusedError, UsageError
from sfumato.data.hub import open_hub
from sfumato.data.sources import open_data, open_like

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def encoded(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, 8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, count: int = 6, start: int = 0, features: bool = True, **columns) -> Path:
    rows = [{"bytes": encoded(start + i), "path": f"{i}.png"} for i in range(count)]
    table = pa.table({"image": pa.array(rows)} | columns)
    if features:
        said = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ant", "bee", "cow"]}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": said}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)
    return path


def test_pictures_labels_and_captions(tmp_path):
    path = write(tmp_path / "d.parquet", label=pa.array([2, 0, 0, 2, 1, 0]), caption=pa.array(list("abcdef")))
    data = open_data(path)
    assert data.facts.classes == ("ant", "bee", "cow") and data.labels.tolist() == [2, 0, 0, 2, 1, 0]
    assert data.captions == tuple("abcdef") and data.names[0] == "row 0 (0.png)"
    for i in range(6):
        assert np.array_equal(data.stored[i].transpose(1, 2, 0), picture(i, 8, 8))


def test_without_metadata_the_columns_are_known_by_type_and_name(tmp_path):
    path = write(
        tmp_path / "d.parquet", 3, features=False, label=pa.array(["y", "x", "y"]), n=pa.array([1, 2, 3])
    )
    data = open_data(path)
    assert data.facts.classes == ("x", "y") and data.labels.tolist() == [1, 0, 1]
    plain = pa.table({"png": pa.array([encoded(i) for i in range(3)])})
    pq.write_table(plain, tmp_path / "p.parquet")
    assert len(open_data(tmp_path / "p.parquet")) == 3
    pq.write_table(pa.table({"n": pa.array([1])}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match=r"no column of pictures \(its columns: n\)"):
        open_data(tmp_path / "n.parquet")


def test_shards_in_a_folder_are_one_data_set_and_the_test_part_stays_out(tmp_path):
    for k in range(3):
        write(tmp_path / "data" / f"train-0000{k}-of-00003.parquet", 2, 10 * k)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", 5, 100)
    data = open_data(tmp_path)
    assert len(data) == 6
    assert np.array_equal(data.stored[2].transpose(1, 2, 0), picture(10, 8, 8))


def test_a_path_in_a_row_is_never_opened(tmp_path):
    Image.fromarray(picture(0, 8, 8)).save(tmp_path / "secret.png")
    rows = [{"bytes": encoded(i), "path": None} for i in range(30)]
    rows.append({"bytes": None, "path": str(tmp_path / "secret.png")})
    pq.write_table(pa.table({"image": pa.array(rows)}), tmp_path / "d.parquet")
    data = open_data(tmp_path / "d.parquet")
    assert len(data) == 30
    assert data.survey.bad[0][1] == "the row holds no picture, only a path"


@pytest.mark.parametrize("where", ["start", "middle", "end", "empty"])
def test_damaged_files_are_refused(tmp_path, where):
    path = write(tmp_path / "d.parquet")
    data = path.read_bytes()
    cut = {"start": data[20:], "middle": data[: len(data) // 2], "end": data[:-3], "empty": b""}[where]
    path.write_bytes(cut)
    with pytest.raises(RefusedError, match="not a whole Parquet file"):
        open_data(path)


def test_labels_outside_of_the_names_are_refused(tmp_path):
    path = write(tmp_path / "d.parquet", 6, label=pa.array([0, 9, None, -1, 2, 1]))
    data = open_data(path, quarantine=True)
    assert data.labels.tolist() == [0, 2, 1]
    assert [why for _, why in data.survey.bad] == [
        f"its label ({n}) is none of the classes" for n in (9, None, -1)
    ]
    with pytest.raises(DataError, match=r"3 of 6 files cannot be used"):
        open_data(path)


@pytest.mark.parametrize(
    ("module", "extra", "data"), [("pyarrow", "parquet", "d.parquet"), ("huggingface_hub", "hub", "hub:a/b")]
)
def test_the_missing_extra_is_named(tmp_path, monkeypatch, module, extra, data):
    write(tmp_path / "d.parquet")
    for name in [n for n in sys.modules if n.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'sfumato\[{extra}\]'"):
        open_data(data if data.startswith("hub:") else tmp_path / data)


# ------------------------------------------------------------------------------------------ hub


class FakeHub:
    """A Hub of local files: {(repository, revision): {name: path}}; it records what was asked for."""

    def __init__(self, repositories) -> None:
        self.repositories, self.asked = repositories, []

    def HfApi(self):
        return self

    def dataset_info(self, repo, revision=None):
        if (repo, revision) not in self.repositories:
            raise OSError(f"404: {repo} not found")
        files = self.repositories[repo, revision]
        return SimpleNamespace(sha="0123456789abcdef", siblings=[SimpleNamespace(rfilename=f) for f in files])

    def hf_hub_download(self, repo, file, repo_type, revision):
        self.asked.append((file, repo_type, revision))
        return next(
            str(files[file]) for (r, _), files in self.repositories.items() if r == repo and file in files
        )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    train = [write(tmp_path / f"t{k}.parquet", 2, 10 * k) for k in range(2)]
    test = write(tmp_path / "e.parquet", 3, 100)
    own = {"data/train-0.parquet": train[0], "data/train-1.parquet": train[1], "data/test-0.parquet": test}
    fake = FakeHub(
        {
            ("me/own", None): {**own, "script.py": tmp_path / "script.py"},
            ("me/own", "v1"): {"data/train-0.parquet": train[0]},
            ("me/other", None): {"script.py": tmp_path / "script.py"},
            ("me/other", "refs/convert/parquet"): {"default/train/0000.parquet": train[1]},
            ("me/none", None): {"a.zip": tmp_path / "a.zip"},
            ("me/none", "refs/convert/parquet"): {},
        }
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_the_hub_is_read_at_one_commit_and_only_parquet_is_fetched(hub):
    data = open_data("hub:me/own")
    assert len(data) == 4 and data.facts.source == "hub:me/own@0123456789ab/train"
    assert hub.asked == [(f"data/train-{k}.parquet", "dataset", "0123456789abcdef") for k in range(2)]
    assert len(open_hub("me/own/test")) == 3 and len(open_hub("me/own@v1")) == 2
    assert len(open_hub("me/other")) == 2  # only the Hub's own conversion offers Parquet
    assert not any(file.endswith(".py") for file, *_ in hub.asked)


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("me/own/tset", DataError, "Did you mean 'test'"),
        ("me/none", DataError, "no Parquet files"),
        ("me/gone", RefusedError, "could not be fetched from the Hub: 404"),
        ("justaname", UsageError, "hub:owner/name"),
        ("../../etc/passwd", UsageError, "is no data set"),
        ("https://evil.test/x", UsageError, "is no data set"),
    ],
)
def test_what_the_hub_cannot_give(hub, address, error, words):
    with pytest.raises(error, match=words):
        open_hub(address)


def test_no_network_unless_it_was_typed(monkeypatch, tmp_path):
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    write(tmp_path / "d.parquet")
    assert len(open_data(tmp_path / "d.parquet")) == 6 and len(open_data("digits")) == 1797
    with pytest.raises(DataError, match="there is no data 'me/own'"):
        open_data("me/own")


def test_a_table_of_labels_beside_parquet_is_refused_and_not_ignored(tmp_path):
    path = write(tmp_path / "d.parquet", label=pa.array([2, 0, 0, 2, 1, 0]))
    for data in (str(path), str(tmp_path), "hub:owner/name"):  # the Hub is not asked
        with pytest.raises(UsageError, match=r"hold their labels themselves[^\n]*\n  Leave --labels out"):
            open_data(data, labels="t.csv")
        with pytest.raises(UsageError, match="axes of an array"):
            open_data(data, layout="NHWC")
    facts = open_data(path).facts
    assert len(open_like(path, facts, labels="t.csv", layout="NHWC")) == 6  # chosen for the data of a run
    before = open_data(path, labels="t.csv", layout="NHWC", stored=True)  # a run made when they were ignored
    assert before.fingerprint == facts.fingerprint
