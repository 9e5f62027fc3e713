"""Places that cannot be written to: said before the work, not after it nor instead of what was found."""

import errno
import json
import os
from pathlib import Path

import pytest

from sfumato.app.cli import run as command
from sfumato.models.generator import Generator
from sfumato.training.storage import Disk


@pytest.fixture
def barred(monkeypatch):
    """A list of folders in which no file can be created, whoever asks."""
    folders: list[Path] = []
    call = Disk.call

    def refusing(self, function, *arguments):
        if function is os.open and any(f in Path(arguments[0]).absolute().parents for f in folders):
            raise OSError(errno.EROFS, "Read-only file system")
        return call(self, function, *arguments)

    monkeypatch.setattr(Disk, "call", refusing)
    return folders


def test_the_doctor_reports_where_it_cannot_draw(tmp_path, monkeypatch, barred, capsys):
    barred.append(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sfumato.app.estimate.FORECAST", ())
    assert command(["doctor", "digits", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["count"] == 1797 and "--preview" in told.err
    assert told.err.index("1,797") < told.err.index("No preview"), "the report comes first"


VERBS = ("sample", "interpolate", "traverse", "reconstruct", "evaluate", "curve")


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_takes_no_files_is_said_before_anything_is_drawn(
    verb, trained, barred, monkeypatch, capsys
):
    run = trained / "model"
    barred.append(run)
    monkeypatch.setattr(Generator, "sample", lambda *a, **b: pytest.fail("it drew in vain"))
    assert command([verb, str(run), "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert str(run) in told["where"] and ("--out" in told["remedy"]) == (verb not in ("evaluate", "curve"))


def test_asking_leaves_nothing(tmp_path):
    Disk().probe(tmp_path / "new" / "place")
    assert list((tmp_path / "new" / "place").iterdir()) == []
