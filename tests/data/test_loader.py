"""Laws of the loader: permutations, position, shares; and of splitting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.core.errors import DataError
from sfumato.data.loader import Dataset, Loader, permutation


@given(n=st.integers(1, 300), seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6))
def test_an_epoch_shows_every_example_once(n, seed, epoch):
    ids = Loader(n, seed).at(epoch * n, n)
    assert sorted(ids.tolist()) == list(range(n))
    assert np.array_equal(ids.numpy(), permutation(n, seed, epoch))


@given(
    n=st.integers(1, 50), seed=st.integers(0, 99), seen=st.integers(0, 500), cuts=st.lists(st.integers(0, 40))
)
def test_any_way_of_cutting_the_stream_gives_the_same_stream(n, seed, seen, cuts):
    loader, parts, at = Loader(n, seed), [], seen
    for cut in cuts:
        parts.append(loader.at(at, cut))
        at += cut
    joined = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
    assert torch.equal(joined, Loader(n, seed).at(seen, sum(cuts)))


def test_ids_of_a_global_step_do_not_depend_on_world_workers_or_micro_batches():
    """The elastic law: world x workers x micro-batches x stop, 288 cases."""
    n, batch, cases = 100, 36, 0
    for stop in (0, 1, 5, 11):  # in steps; 100 = 2 7/9 steps, so every stop lies inside an epoch
        reference = Loader(n, 7).at(stop * batch, batch)
        for world in (1, 2, 3, 4, 6, 12):
            for workers in (0, 1, 2, 4):
                for micro in (1, 2, 3):
                    ids = []
                    for rank in range(world):
                        loaders = [Loader(n, 7) for _ in range(max(1, workers))]  # each worker has its own
                        share = loaders[0].share(stop * batch, batch, rank, world)
                        first = stop * batch + batch * rank // world
                        size = -(-len(share) // micro)
                        for k in range(micro):
                            worker = loaders[k % len(loaders)]
                            count = max(0, min(size, len(share) - k * size))
                            ids.append(worker.at(first + k * size, count))
                        assert torch.equal(torch.cat(ids[-micro:]), share)
                    assert torch.equal(torch.cat(ids), reference)
                    cases += 1
    assert cases == 288


def test_epochs_and_seeds_differ_and_the_order_is_fixed_for_good():
    first, second, other = permutation(1000, 0, 0), permutation(1000, 0, 1), permutation(1000, 1, 0)
    assert np.mean(first == second) < 0.02 and np.mean(first == other) < 0.02
    assert permutation(8, 0, 0).tolist() == [5, 6, 3, 2, 4, 1, 7, 0]  # changing this breaks every resume


def test_positions_in_an_epoch_are_uniform():
    """The place of example 0 over 4,000 epochs of 10: each place 400 +- 5 standard deviations (19)."""
    places = [int(np.flatnonzero(permutation(10, 5, e) == 0)[0]) for e in range(4000)]
    assert np.abs(np.bincount(places, minlength=10) - 400).max() < 95


def test_an_empty_stream_is_refused():
    with pytest.raises(DataError, match="no example"):
        Loader(0)


def pictures(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4), dtype=np.uint8)


@settings(max_examples=30)
@given(n=st.integers(1, 400), seed=st.integers(0, 5))
def test_a_split_is_a_partition_and_repeats(n, seed):
    data = Dataset.of(pictures(n))
    train, held = data.split(seed=seed)
    rows = [r.tobytes() for part in (train, held) for r in part.rows_of(range(len(part)))]
    assert sorted(rows) == sorted(r.tobytes() for r in data.stored)
    assert len(held) >= min(n // 4, 64) - 1 and len(train) >= 1
    again = data.split(seed=seed).held_out
    assert np.array_equal(held.rows, again.rows)


def test_copies_never_lie_on_both_sides_whatever_the_order():
    base = pictures(60)
    rng = np.random.default_rng(1)
    copies = base[rng.integers(0, 60, 300)]
    for seed in range(20):
        train, held = Dataset.of(copies).split(0.3, seed)
        sides = [{r.tobytes() for r in part.rows_of(range(len(part)))} for part in (train, held)]
        assert not sides[0] & sides[1]
        shuffled = Dataset.of(copies[rng.permutation(300)]).split(0.3, seed).held_out
        assert {r.tobytes() for r in shuffled.rows_of(range(len(shuffled)))} == sides[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_first_held_out_examples_are_a_fair_choice_also_where_files_come_class_by_class(seed):
    labels = np.repeat(np.arange(4), 500)
    data = Dataset.of(pictures(2000, seed), labels)
    for part in (data.split(0.5, seed).held_out, data.mixed(seed)):
        first = np.bincount(part.label_ids[:200], minlength=4)
        assert first.min() > 25, f"of 50 expected, {first}"  # four standard deviations
    assert sorted(data.mixed(seed).rows.tolist()) == list(range(2000))
    train = data.split(0.5, seed).train
    assert np.array_equal(train.rows, np.sort(train.rows)), "the training part keeps the order of the files"


def test_mixed_follows_the_contents_and_not_the_order_of_the_files():
    images = pictures(100)
    there = np.random.default_rng(0).permutation(100)
    one, other = Dataset.of(images).mixed(), Dataset.of(images[there]).mixed()
    assert np.array_equal(one.rows_of(range(100)), other.rows_of(range(100)))


def test_parts_of_parts_keep_labels_and_values_together():
    images, labels = pictures(50), np.arange(50)
    data = Dataset.of(images, labels)
    part = data.take([40, 3, 7]).take([2, 0])
    batch = part.batch([1, 0])
    assert batch.label.tolist() == [40, 7] and part.label_ids.tolist() == [7, 40]
    assert np.array_equal(part.rows_of([0])[0, 0], images[7])
    held = data.split(10).held_out
    assert len(held) == 10 and held.facts.count == 10
    with pytest.raises(DataError, match="cannot hold out 50 of 50"):
        data.split(50)


def test_kept_on_a_device_the_batches_are_the_same():
    for kind in (np.uint8, np.uint16, np.float32):
        array = (np.random.default_rng(0).random((20, 2, 3, 5)) * 60_000).astype(kind)
        data = Dataset.of(array, layout="NCHW")
        before = data.batch([5, 0, 19])
        assert torch.equal(data.keep_on("cpu").take([19, 5, 0]).batch([1, 2, 0]).x, before.x)
