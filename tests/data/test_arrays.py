"""NumPy files: the header is judged before NumPy sees it; arrays become data sets by a stated rule."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sfumato.core.errors import DataError, RefusedError, SfumatoError, UsageError
from sfumato.data.arrays import load_npy, load_npz, npy_header
from sfumato.data.measure import channels_first, guess_layout, stored_kind, value_range
from sfumato.data.sources import open_data


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def raw_npy(header: str, body: bytes = b"", version: int = 1) -> bytes:
    width = 2 if version == 1 else 4
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text + body


numbers = st.one_of(
    hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(sizes=(16, 32, 64))
)


@given(array=hnp.arrays(numbers, hnp.array_shapes(min_dims=0, max_dims=5)), fortran=st.booleans())
def test_the_header_of_every_array_of_numbers_is_read_right(array, fortran):
    array = np.asfortranarray(array) if fortran else array
    data = npy(array)
    header = npy_header(io.BytesIO(data), len(data), "x")
    assert header.dtype == array.dtype and header.shape == array.shape
    assert header.start + header.bytes == len(data)


@given(array=hnp.arrays(numbers, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)), fortran=st.booleans())
def test_values_are_read_as_numpy_reads_them(tmp_path_factory, array, fortran):
    array = np.asfortranarray(array) if fortran else array
    folder = tmp_path_factory.mktemp("npy")
    np.save(folder / "a.npy", array)
    np.savez_compressed(folder / "a.npz", first=array, second=array.T)
    for loaded in (load_npy(folder / "a.npy"), load_npz(folder / "a.npz")["first"]):
        assert np.array_equal(loaded, array, equal_nan=True) and loaded.dtype == array.dtype
    assert np.array_equal(load_npz(folder / "a.npz")["second"], array.T, equal_nan=True)


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (npy(np.array([{"a": 1}], dtype=object)), "Python objects"),
        (npy(np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])), "objects or records"),
        (npy(np.zeros(3, dtype="M8[s]")), "not numbers"),
        (npy(np.zeros(3, dtype=complex)), "type <c16"),
        (raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8589934592,), }"), "announces"),
        (raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % ("9" * 40)), "shape"),
        (raw_npy(GOOD), "announces 24 bytes of values but 0 follow"),
        (raw_npy(GOOD, bytes(23)), "announces"),
        (raw_npy("(" * 5000, bytes(24)), "damaged"),
        (
            raw_npy("{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,)}"),
            "damaged",
        ),
        (raw_npy(GOOD + " " * 60_000, bytes(24)), "header of"),
        (raw_npy(GOOD.replace("}", "'shape': (1,), }"), bytes(24)), "damaged"),
        (b"\x93NUMPY", "not a NumPy"),
        (b"", "not a NumPy"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "not a NumPy"),
    ],
)
def test_hostile_headers_are_refused_before_numpy(data, why, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(RefusedError, match=why):
        load_npy(path)
    with pytest.raises(RefusedError):
        open_data(path)


def test_header_mutants_give_a_right_array_or_our_error(tmp_path):
    """2,000 mutants of a header: nothing but our errors leaves, and what loads has the announced shape."""
    rng = np.random.default_rng(0)
    data = bytearray(npy(np.arange(24, dtype=np.float32).reshape(2, 3, 4)))
    path = tmp_path / "m.npy"
    loaded = 0
    for _ in range(2000):
        mutant = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(0, 128))
            mutant[at] = (
                int(rng.integers(0, 256))
                if rng.random() < 0.5
                else int(rng.choice(list(b"'{}(),0123456789<|OVfui ")))
            )
        path.write_bytes(mutant)
        try:
            array = load_npy(path)
        except SfumatoError:
            continue
        loaded += 1
        assert array.nbytes + 10 <= len(data)
        del array
    assert 0 < loaded < 2000


# ------------------------------------------------------------------------------------------- npz


def test_npz_with_labels_factors_and_names(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    np.savez_compressed(
        tmp_path / "d.npz",
        images=images,
        labels=np.array([2, 0, 0, 2, 0, 2]),
        classes=np.array(["cat", "dog", "eel"]),
        factors=np.arange(12).reshape(6, 2),
        factor_names=np.array(["x", "y"]),
    )
    data = open_data(tmp_path / "d.npz")
    assert data.facts.classes == ("cat", "eel") and data.labels.tolist() == [1, 0, 0, 1, 0, 1]
    assert data.facts.factors == ("x", "y") and data.factors[5].tolist() == [10, 11]
    assert np.array_equal(data.stored, images.transpose(0, 3, 1, 2))


def test_npz_bombs_and_objects_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "b.npz"
    np.savez_compressed(path, images=np.zeros((400, 64, 64), np.uint8))
    monkeypatch.setattr("sfumato.data.arrays.LARGEST_NPZ", 1 << 20)
    with pytest.raises(RefusedError, match="GiB of arrays"):
        load_npz(path)
    np.savez(path, images=np.array([None, {}], dtype=object))
    with pytest.raises(RefusedError, match="Python objects"):
        load_npz(path)
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(RefusedError, match="damaged"):
        load_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "images.npy", raw_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999,)}")
        )
    with pytest.raises(RefusedError, match="announces"):
        load_npz(path)


def test_which_array_is_meant_must_be_clear(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((3, 4, 4)), b=np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="cannot tell which array"):
        open_data(tmp_path / "two.npz")
    np.savez(tmp_path / "off.npz", images=np.eye(12).reshape(1, 12, 12), labels=np.zeros(5, int))
    with pytest.raises(DataError, match="5 labels for 1 examples"):
        open_data(tmp_path / "off.npz")
    for labels, words in (
        (np.eye(3, dtype=int), "labels of shape"),
        (np.array([0.0, np.nan, 1.0]), "labels hold NaN"),
        (np.array(1), "no labels for 3 examples"),
    ):
        for more in ({}, {"classes": np.array(["a", "b", "c"])}):
            np.savez(tmp_path / "odd.npz", images=np.eye(12)[:, :4].reshape(3, 4, 4), labels=labels, **more)
            with pytest.raises(DataError, match=words):
                open_data(tmp_path / "odd.npz")
    np.savez(tmp_path / "cls.npz", images=np.eye(12).reshape(1, 12, 12), labels=[3], classes=np.array(["a"]))
    with pytest.raises(DataError, match="labels from 3 to 3 for 1 classes"):
        open_data(tmp_path / "cls.npz")


# ---------------------------------------------------------------------------------------- layout


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((9, 2), "NC"),
        ((9, 100), "NL"),
        ((9, 8, 8), "NHW"),
        ((9, 8, 8, 3), "NHWC"),
        ((9, 3, 8, 8), "NCHW"),
        ((9, 3, 8, 4), "NHWC"),
        ((9, 8, 8, 8, 1), "NDHWC"),
        ((9, 1, 8, 8, 8), "NCDHW"),
    ],
)
def test_the_layout_rule(shape, layout):
    assert guess_layout(shape) == layout
    array = np.arange(np.prod(shape)).reshape(shape)
    first = channels_first(array)
    axes = [layout.index(letter) for letter in layout if letter != "C"]
    assert [first.shape[i] for i in (0, *range(2, first.ndim))] == [shape[a] for a in axes]
    assert np.array_equal(channels_first(array, layout), first)


def test_what_the_layout_rule_does_not_decide_must_be_said():
    with pytest.raises(UsageError, match="--layout"):
        guess_layout((9, 8, 8, 8))
    for layout in ("HWC", "NHWW", "NHW"):
        with pytest.raises(UsageError, match="does not describe"):
            channels_first(np.zeros((9, 8, 8, 8)), layout)
    assert channels_first(np.zeros((9, 8, 6, 5)), "NHWC").shape == (9, 5, 8, 6)


@settings(max_examples=50)
@given(
    array=hnp.arrays(
        st.sampled_from([np.dtype(d) for d in ("?", "i1", "i2", "i4", "i8", "u4", "f8", "f2")]), (3, 4)
    )
)
def test_kinds_keep_every_value_they_can(array):
    stored = stored_kind(array)
    scale = 255 if array.dtype == bool else 1
    with np.errstate(over="ignore"):
        expected = array.astype(np.float32) * scale
    assert np.array_equal(stored, expected, equal_nan=True)
    assert stored.dtype.name in ("uint8", "uint16", "float32")


def test_ranges_are_those_of_the_data(tmp_path):
    assert value_range(np.array([3, 9], np.uint8)) == (0.0, 255.0, 1.0)
    assert value_range(np.array([[112, 40211, 113]], np.uint16)) == (112.0, 40211.0, 1.0)
    assert value_range(np.array([[0, 514, 1285]], np.uint16)) == (0.0, 1285.0, 257.0)
    assert value_range(np.array([[-0.5, 2.0]], np.float32)) == (-0.5, 2.0, 1.0)
    np.save(tmp_path / "nan.npy", np.array([[[0.0, np.nan]]]))
    with pytest.raises(DataError, match="NaN or infinite"):
        open_data(tmp_path / "nan.npy")
    np.save(tmp_path / "flat.npy", np.full((5, 4, 4), 0.25))
    with pytest.raises(DataError, match=r"every value is 0\.25"):
        open_data(tmp_path / "flat.npy")
    for kind, shape in ((float, (0, 4, 4)), (np.int64, (0, 4, 4)), (np.uint8, (5, 4, 0))):
        np.save(tmp_path / "none.npy", np.zeros(shape, kind))
        with pytest.raises(DataError, match="no examples"):
            open_data(tmp_path / "none.npy")


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 16), ("fit", "pad"), ("alpha", "keep"), ("channels", 1), ("labels", "labels.csv")],
)
def test_options_of_pictures_are_refused_for_arrays_by_name(tmp_path, name, value):
    np.save(tmp_path / "x.npy", np.zeros((20, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match=f"--{name}"):
        open_data(tmp_path / "x.npy", **{name: value})
