"""What an evaluation keeps: the same numbers for the same model and conditions, new ones for any others."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato.app import kept
from sfumato.app.kept import Kept
from sfumato.evaluation.protocol import Metric, Protocol
from sfumato.evaluation.scene import About
from sfumato.evaluation.store import Memory

ABOUT = About("abcd/ef", seed="0", plan="DDIM, 2 steps", hardware="a machine", commit="1234")
FOUND = ([Metric("VLB", 3.25, 0.1, Protocol("abcd/ef", "held-out", 8, 8, ""), unit="bits/dim")], ["a note"])


UNSEEN = SimpleNamespace(hashes=np.arange(3, dtype=np.uint64), label_ids=np.array([0, 1, 1]))
FACTORS = np.eye(3, dtype=np.float32)


def run_of(weight=1.0, recipe="ddpm", factors=FACTORS, device="cpu"):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, weight)
    torch.nn.init.constant_(model.bias, 0.0)
    folder = SimpleNamespace(read=lambda name: {"make": recipe})
    whole = SimpleNamespace(factors=factors)
    return SimpleNamespace(model=model, folder=folder, device=torch.device(device), whole=whole)


def made(shelf, word="vlb", run=None, about=ABOUT, unseen=UNSEEN):
    """Whether the numbers had to be made; they are what was made in any case."""
    calls = []
    told = Kept(run or run_of(), unseen, about, shelf).told(word, lambda: calls.append(1) or FOUND)
    assert (list(told[0]), list(told[1])) == FOUND
    return bool(calls)


def test_the_samplers_plan_changes_nothing_and_everything_else_does():
    shelf = Memory()
    assert made(shelf) and not made(shelf)
    assert not made(shelf, about=replace(ABOUT, plan="UniPC, 20 steps"))
    others = {"data": "x/y", "seed": "1", "hardware": "another", "commit": "5678", "resize": "Lanczos"}
    others |= {"precision": "float32"}
    for name, value in others.items():
        about = replace(ABOUT, **{name: value})
        assert made(shelf, about=about) and not made(shelf, about=about), name
    runs = [
        {"weight": 2.0},
        {"recipe": "vdm"},
        {"factors": 2 * FACTORS},
        {"factors": None},
        {"device": "meta"},
    ]
    assert made(shelf, word="bound ode") and all(made(shelf, run=run_of(**change)) for change in runs)
    for name, value in {"hashes": UNSEEN.hashes[::-1], "label_ids": np.array([1, 0, 1])}.items():
        assert made(shelf, unseen=SimpleNamespace(**vars(UNSEEN) | {name: value})), name


def test_new_libraries_and_weights_of_lpips_make_the_numbers_anew(monkeypatch):
    shelf = Memory()
    assert made(shelf)
    monkeypatch.setattr(kept, "version", lambda name: "99")
    assert made(shelf)
    monkeypatch.setattr(kept.lpips, "at_hand", lambda: True)
    assert made(shelf) and not made(shelf)


@pytest.mark.parametrize("damage", [b"", b"[1", b"{}", b"[[], [], []]", b'[[{"name": 1}], []]', b"\xff"])
def test_what_does_not_read_back_is_made_again(damage):
    shelf = Memory()
    assert made(shelf)
    for name in shelf.kept:
        shelf.kept[name] = damage
    assert made(shelf) and not made(shelf)
