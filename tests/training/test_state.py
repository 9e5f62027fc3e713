"""State is loaded strictly: what is missing, unknown or of another kind is named, never guessed."""

import json
from dataclasses import fields

import pytest
import torch
from training_toys import trainer

from sfumato.core.errors import RefusedError
from sfumato.training.rundir import RunDir
from sfumato.training.state import Progress, finite, misfits, pack, unpack

STATE = Progress(seed=3, losses=[[8, 0.5]], chosen={"first": 0.1}, environment={"torch": "2"})


def test_round_trip():
    assert Progress.from_bytes(STATE.to_bytes(), "test") == STATE


@pytest.mark.parametrize("name", [f.name for f in fields(Progress)])
def test_each_missing_field_is_named(name):
    """Matrix row 5: no silent resume."""
    value = json.loads(STATE.to_bytes())
    del value[name]
    with pytest.raises(RefusedError, match=f"lacks '{name}'") as caught:
        Progress.from_bytes(json.dumps(value).encode(), "test")
    assert caught.value.code == 4


@pytest.mark.parametrize("name", [f.name for f in fields(Progress)])
@pytest.mark.parametrize("wrong", [None, [[1]], "x", -7, {"a": 1}])
def test_each_field_of_a_wrong_kind_is_named(name, wrong):
    value = json.loads(STATE.to_bytes())
    if isinstance(wrong, type(value[name])) and wrong != -7 and wrong != [[1]]:
        pytest.skip("of the right kind")
    if isinstance(value[name], float) and wrong == -7:
        pytest.skip("a number is a number")
    with pytest.raises(RefusedError):
        Progress.from_bytes(json.dumps(value | {name: wrong}).encode(), "test")


def test_unknown_fields_and_versions_are_refused():
    value = json.loads(STATE.to_bytes())
    with pytest.raises(RefusedError, match="unknown entry 'momentum'"):
        Progress.from_bytes(json.dumps(value | {"momentum": 1}).encode(), "test")
    with pytest.raises(RefusedError, match="version 99"):
        Progress.from_bytes(json.dumps(value | {"version": 99}).encode(), "test")


EXPECTED = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.int64), "c": torch.zeros(())}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"a": torch.zeros(3, 2)}, "'a'"),
        ({"a": torch.zeros(2, 3, dtype=torch.float64)}, "'a'"),
        ({"a": torch.zeros(2, 3, dtype=torch.bfloat16)}, "'a'"),
        ({"b": torch.zeros(4)}, "'b'"),
        ({"c": torch.zeros(1)}, "'c'"),
        ({"d": torch.zeros(1)}, "'d'"),
        ({"c": None}, "'c'"),
    ],
)
def test_no_tensor_is_cast_dropped_or_added(change, named):
    stored = {k: v for k, v in (EXPECTED | change).items() if v is not None}
    with pytest.raises(RefusedError, match=named):
        unpack(pack(stored), EXPECTED, "test")


def test_a_refusal_names_three_tensors_with_both_shapes_and_counts_the_rest():
    stored = {f"w{i}": torch.zeros(i + 1, 2) for i in range(7)}
    expected = {f"w{i}": torch.zeros(i + 1, 3) for i in range(1, 8)}
    with pytest.raises(RefusedError) as caught:
        unpack(pack(stored), expected, "model.safetensors", "runs/old")
    told = caught.value
    assert "'w1' is (2, 2) float32 there and (2, 3) float32 in the network built now; 'w2' is" in told.what
    assert told.what.endswith("; and 5 more")  # w4, w5, w6; w7 is missing, w0 unknown
    assert "an earlier one" in told.what and told.where == "runs/old" and "--out" in told.remedy
    apart = misfits(stored, expected)
    assert len(apart) == 8 and apart[-2:] == [
        "'w7', (8, 3) float32 in the network built now, is missing",
        "'w0', (1, 2) float32 there, is unknown to the network built now",
    ]
    assert misfits(expected, expected) == []


def test_tensors_come_back_equal_whatever_their_layout():
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    stored = {"image": image, "view": image[:, 1], "number": torch.tensor(3.5)}
    found = unpack(pack(stored), stored, "test")
    assert all(found[k].equal(v) for k, v in stored.items())


def test_bytes_that_are_no_tensors_are_refused():
    for data in (b"", b"x" * 100, b"\xff" * 8 + b"{}", pack(EXPECTED)[:-1]):
        with pytest.raises(RefusedError):
            unpack(data, EXPECTED, "test")


def test_the_first_tensor_that_is_not_finite_is_named():
    assert finite({"a": torch.ones(3), "n": torch.arange(3)}) == ""
    assert finite({"a": torch.ones(3), "b": torch.tensor([1.0, torch.nan])}) == "b"
    assert finite({"b": torch.tensor([1.0, -torch.inf])}) == "b"


@pytest.mark.parametrize(
    "file", ["model.safetensors", "averages.safetensors", "optimizer.safetensors", "objective.safetensors"]
)
def test_a_missing_tensor_or_file_stops_the_resume(tmp_path, file):
    made = trainer(tmp_path / "run")
    made.stop.requested = 0

    class Stop(BaseException):
        pass

    def stop(event):
        if type(event).__name__ == "Saved" and event.seen == 16:
            raise Stop

    made.reporter.report = stop
    made.settings = type(made.settings)(execution=made.settings.execution, save_examples=16)
    with pytest.raises(Stop):
        made.fit()
    run = RunDir(tmp_path / "run")
    for strip in (True, False):
        files = dict(run.newest().files)
        if strip:
            tensors = unpack(files[file], None, file)
            name = next(iter(tensors))
            files[file] = pack({k: v for k, v in tensors.items() if k != name})
        else:
            del files[file]
        run.save(run.next_name("first", 16), files)
        with pytest.raises(RefusedError) as caught:
            trainer(tmp_path / "run").fit()
        assert file in str(caught.value)
