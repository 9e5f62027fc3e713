"""Power-function averages: the recursion is the stated sum, and other lengths are reconstructed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.training import choice
from sfumato.training.choice import AVERAGES, CHOSEN, EARLY, RAW, miss
from sfumato.training.ema import Ema, beta, combination, early_share, gamma_of, length_of, profile_product
from sfumato.training.flat import Flat
from sfumato.training.rundir import RunDir
from sfumato.training.storage import Disk, Full


def walk(steps, seed=0):
    return torch.randn(steps, 3, generator=torch.Generator().manual_seed(seed)).cumsum(0)


def averaged(path, lengths, batch=4):
    parameter = torch.nn.Parameter(torch.zeros(3))
    flat = Flat([("w", parameter)])
    ema = Ema(flat, lengths)
    for k, row in enumerate(path, 1):
        with torch.no_grad():
            parameter.copy_(row)
        ema.update(k * batch, batch)
    return [flat.views(v)["w"].clone() for v in ema.vectors], ema


@pytest.mark.parametrize("length", [0.03, 0.1, 0.25])
def test_the_recursion_is_the_stated_weighted_sum(length):
    path, gamma = walk(50), gamma_of(length)
    (found,), _ = averaged(path, [length])
    edges = (torch.arange(51, dtype=torch.float64) / 50) ** (gamma + 1)
    weights = edges.diff()
    assert weights.sum() == pytest.approx(1)
    torch.testing.assert_close(found.double(), weights @ path.double(), rtol=1e-5, atol=1e-5)


def test_nothing_of_the_initial_weights_remains_after_the_first_step():
    for gamma in (0.0, 1.0, 30.0):
        assert beta(gamma, 1) == 0.0
        # what an average holds of everything before step s is the product of the decays since
        product = math.prod(beta(gamma, t) for t in range(21, 101))
        assert product == pytest.approx(early_share(gamma, 0.2))


@given(st.floats(min_value=0.005, max_value=0.28))
def test_length_and_exponent_are_inverse(length):
    assert length_of(gamma_of(length)) == pytest.approx(length, rel=1e-9)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.2])
def test_length_is_the_relative_standard_deviation_of_the_profile(length):
    gamma = gamma_of(length)
    tau = (np.arange(200_000) + 0.5) / 200_000
    p = (gamma + 1) * tau**gamma
    mean = np.mean(p * tau)
    assert math.sqrt(np.mean(p * tau**2) - mean**2) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.3, math.nan])
def test_impossible_lengths(length):
    with pytest.raises(ValueError, match="length"):
        gamma_of(length)


def test_profile_products_are_integrals():
    tau = (np.arange(400_000) + 0.5) / 400_000 * 3.0
    for (ga, ta), (gb, tb) in [((2.0, 1.0), (5.0, 3.0)), ((0.5, 2.0), (0.5, 2.0)), ((40.0, 3.0), (9.0, 2.0))]:
        pa = np.where(tau <= ta, (ga + 1) * tau**ga / ta ** (ga + 1), 0)
        pb = np.where(tau <= tb, (gb + 1) * tau**gb / tb ** (gb + 1), 0)
        assert profile_product(ga, ta, gb, tb) == pytest.approx(np.mean(pa * pb) * 3.0, rel=1e-4)


def test_a_length_is_reconstructed_from_others():
    """From two lengths at eight moments, a third at the end: within 2 % of the true average's scale."""
    steps, lengths = 800, (0.05, 0.10)
    path = walk(steps)
    stored, vectors = [], []
    for t in range(100, steps + 1, 100):
        found, ema = averaged(path[:t], lengths)
        stored += [(gamma, float(t)) for gamma in ema.gammas]
        vectors += found
    for wanted in (0.06, 0.07, 0.08, 0.12):
        coefficients = combination(stored, gamma_of(wanted), steps)
        assert sum(coefficients) == pytest.approx(1)
        (truth,), _ = averaged(path, [wanted])
        made = sum(c * v for c, v in zip(coefficients, vectors, strict=True))
        assert miss(stored, coefficients, gamma_of(wanted), steps) < 0.05
        assert (made - truth).norm() < 0.02 * path.std()


def test_a_stored_length_is_reconstructed_by_itself():
    stored = [(gamma_of(0.05), 50.0), (gamma_of(0.1), 50.0), (gamma_of(0.1), 100.0)]
    coefficients = combination(stored, gamma_of(0.1), 100.0)
    np.testing.assert_allclose(coefficients, [0, 0, 1], atol=1e-6)
    assert miss(stored, coefficients, gamma_of(0.1), 100.0) < 1e-5


def test_the_weights_come_back_to_the_bit():
    (_,), ema = averaged(walk(10), [0.1])
    before = ema.flat.values.clone()
    assert ema.lag() > 0
    with pytest.raises(RuntimeError), ema.applied():
        assert ema.flat.values.equal(ema.vectors[0])
        raise RuntimeError
    assert ema.flat.values.equal(before)


class Brimful(Disk):
    """A disk that is full for what was chosen, and for nothing else."""

    def write(self, path, data):
        if path.name == CHOSEN:
            raise Full("no space left", where=path, remedy="")
        super().write(path, data)


@pytest.mark.parametrize(("disk", "more"), [(Disk, {CHOSEN}), (Brimful, set())])
def test_a_disk_full_for_the_chosen_weights_alone_loses_no_others(tmp_path, monkeypatch, disk, more):
    monkeypatch.setattr(choice, "_early", lambda *_: {EARLY: b"early"})
    _, ema = averaged(walk(5), [0.1])
    flat = Flat([("w", torch.nn.Parameter(torch.ones(3)))])
    run = SimpleNamespace(turns=[SimpleNamespace(flat=flat, ema=ema)], stage=SimpleNamespace(name="main"))
    run.tensors = lambda: {AVERAGES: {"0/w": torch.zeros(3)}}
    folder = RunDir(tmp_path, disk())
    folder.begin({}, {}, {})
    choice._keep(run, SimpleNamespace(seen=20), folder, [torch.ones(3)])
    assert folder.load_averages("main")[20].keys() == {AVERAGES, RAW, EARLY} | more
