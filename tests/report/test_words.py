"""The words around the numbers: conditions complete, digits honest, notes where they belong."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest

from sfumato.evaluation.memorisation import memorisation
from sfumato.evaluation.protocol import DECIDING, Metric, Protocol
from sfumato.report.history import lines, words
from sfumato.report.parts import conditions, deciding, note, numbers, record
from sfumato.report.summary import plain

FULL = Protocol(
    "0123456789abcdef",
    "train",
    5000,
    4213,
    "inception@6726825d",
    resize="299x299",
    seed="31337",
    plan="2M, 20 steps",
    precision="float64",
    hardware="2 cores",
    commit="f54b8a3c0ffee",
)


def cells(m):
    return [str(c).split(">")[1].split("<")[0] for c in numbers(m)]


def test_every_field_of_a_protocol_is_said_once():
    said = conditions(FULL)
    for field in fields(Protocol):
        value = getattr(FULL, field.name)
        shown = {"split": "training", "data": "0123456789ab", "commit": "f54b8a3c0f"}.get(field.name)
        assert said.count(shown or (f"{value:,}" if isinstance(value, int) else value)) == 1, field.name


def test_what_decides_and_what_is_recorded_are_kept_apart():
    for name in DECIDING[1:]:
        assert deciding(
            replace(FULL, **{name: 7 if name in ("samples", "reference") else "other"})
        ) != deciding(FULL)
    for name in ("seed", "plan", "hardware", "commit", "precision", "data"):
        changed = replace(FULL, **{name: "other"})
        assert record(changed) != record(FULL) and deciding(changed) == deciding(FULL)


def test_empty_conditions_leave_no_gaps():
    bare = Protocol("d", "held-out", 10, 20, "")
    assert conditions(bare) == "10 samples against 20 held-out images · seed 0 · float64 · data d"


@pytest.mark.parametrize(
    ("value", "spread", "floor", "expected"),
    [
        (8.891, 0.903, 2.8, ["8.89", "0.90", "2.800", "3.18 ×"]),
        (712.34, 9.81, None, ["712.3", "9.8", "–", "–"]),
        (0.0412, 0.0021, 0.02, ["0.0412", "0.0021", "0.0200", "2.06 ×"]),
        (1.0, 0.0007, 0.05, ["1.000", "0.001", "0.05000", "20.0 ×"]),
        (1234567.0, 8000.0, 100.0, ["1,234,567", "8,000", "100.0", "12,346 ×"]),
        (-0.01, 0.02, 0.004, ["-0.010", "0.020", "0.004", "–"]),
        (math.inf, math.nan, None, ["inf", "nan", "–", "–"]),
        (10, 0.0, 10.0, ["10", "–", "10", "1.00 ×"]),
    ],
)
def test_numbers_as_they_are_read(value, spread, floor, expected):
    m = Metric("distance", value, spread, FULL, floor=floor, floor_spread=min(0.02, spread) if floor else 0.0)
    assert cells(m)[0] == expected[0] and cells(m)[1] == expected[1]
    assert cells(m)[2:] == expected[2:]


def test_notes_join_what_is_known():
    m = Metric("distance", 8.0, 0.9, FULL, note="small set", debiased=6.24)
    assert note(m) == "small set; without the bias of finite sets 6.24"
    assert note(replace(m, debiased=None)) == "small set" and note(replace(m, debiased=None, note="")) == ""


def test_the_finding_on_copies_reads_as_a_sentence():
    rng = np.random.default_rng(0)
    train, held, new = (rng.normal(size=(n, 5)) for n in (200, 100, 100))
    innocent, guilty = memorisation(new, train, held), memorisation(train[:50], train, held)
    assert innocent.words().endswith("no sign of copying.") and "held-out images" in innocent.words()
    assert guilty.words().startswith("100.0% of samples") and guilty.words().endswith("memorising.")


def test_names_of_numbers_are_words():
    assert words("loss_at_log_snr_-4") == "log-SNR -4.0"
    assert words("reconstruction_mse") == "reconstruction mse"
    found = lines([{"seen": 1, "loss": 2, "ok": True, "name": "x"}, {"seen": 5, "loss": 1.5}])
    assert list(found) == ["loss"] and list(found["loss"].x) == [1, 5] and list(found["loss"].y) == [2, 1.5]


def test_text_in_drawings_is_one_printable_line():
    assert plain(" a\n\tb \x00\x1b[31m c ") == "a b [31m c"
    assert plain("") == "" and plain("数字") == "数字"
