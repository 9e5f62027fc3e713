"""Discrete codes in training: stages in order, resume to the bit with restarts, processes, words."""

import math

import numpy as np
import pytest
import torch
from training_toys import PLAIN, final, notes

from sfumato.core.errors import DataError, Interrupted
from sfumato.core.lazy import build
from sfumato.core.noise import Noise
from sfumato.data.dataset import Dataset
from sfumato.models.given import seeds_of
from sfumato.objectives.quantized import Quantized
from sfumato.recipes import RECIPES
from sfumato.training import watch
from sfumato.training.budget import Examples
from sfumato.training.events import Recorder
from sfumato.training.rundir import RunDir
from sfumato.training.settings import Settings
from sfumato.training.trainer import Trainer
from sfumato.training.world import World

DIALS = {"codes": 24, "dim": 4, "width": 16, "prior_width": 32, "prior_depth": 1, "batch": 8, "patience": 2}


def pictures(count=40, seed=0):
    rng = np.random.default_rng(seed)
    blobs = rng.integers(0, 256, (count, 2, 2, 1)).repeat(4, 1).repeat(4, 2)
    return Dataset.of(blobs.astype(np.uint8), layout="NHWC")


def trainer(path, name="vq-vae", *, examples=160, count=40, held_out=None, **dials):
    data = pictures(count)
    torch.manual_seed(0)
    made = build(RECIPES[name](data.facts, **DIALS | dials))
    run = RunDir(path)
    run.begin({"recipe": name}, {}, {"seed": 0})
    settings = Settings(execution=PLAIN, save_minutes=1e9, first_minutes=1e9, save_examples=24)
    parts = {"held_out": held_out, "reporter": Recorder(), "world": World(), "settings": settings}
    return Trainer(made, data, run, budget=Examples(examples), seed=0, **parts)


def interrupted(path, k, **arguments):
    made = trainer(path, **arguments)
    count, batch = [0], made.data.batch

    def stopping(*ids):
        count[0] += 1
        made.stop.requested = 15 if count[0] >= k else 0
        return batch(*ids)

    made.data.batch = stopping
    with pytest.raises(Interrupted):
        made.fit()


@pytest.mark.parametrize("name", ["vq-vae", "vq-vae-2"])
def test_two_resumes_change_nothing(tmp_path, name):
    """Averages, restarts, counts of an epoch: all of it is state, and comes back."""
    arguments = {"name": name, "held_out": pictures(6, 1)}
    trainer(tmp_path / "whole", **arguments).fit()
    for k in (5, 4):  # in the codec's stage, then past it
        interrupted(tmp_path / "cut", k, **arguments)
    trainer(tmp_path / "cut", **arguments).fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


def test_codes_were_restarted_and_used(tmp_path):
    """The test of resuming means something: with patience 2 many codes die in so short a training."""
    made = trainer(tmp_path / "run")
    moved, objective = [], made.recipe.stages[1].objective
    after = objective.after_step

    def counting(model, seen):
        quantizer = model.quantizers[0]
        unchosen = quantizer.chosen == 0
        after(model, seen)
        moved.append(int((unchosen & (quantizer.idle == 0)).sum()))

    objective.after_step = counting
    made.fit()
    assert sum(moved) > 0 and 0 < float(made.model.codec.quantizers[0].usage()) <= 1


def test_every_stage_leaves_its_mark_and_samples_exist(tmp_path):
    made = trainer(tmp_path / "run", "vq-vae-2")
    assert [stage.name for stage in made.recipe.stages] == ["codebook", "codes", "prior-1", "prior-2"]
    made.fit()
    top, bottom = made.model.conditioner.first.density, made.model.density
    assert not top.fresh and not bottom.fresh
    x = made.model.sample(3, seeds=seeds_of(0, 3))
    assert x.shape == (3, 1, 8, 8) and torch.isfinite(x).all()


def test_scalar_codes_need_no_start(tmp_path):
    unsaid = {"dim": None, "patience": None}
    made = trainer(tmp_path / "run", scalar=True, codes=64, **unsaid)
    assert [stage.name for stage in made.recipe.stages] == ["codes", "prior"]
    made.fit()
    assert made.model.codec.quantizers[0].size == 64


@pytest.mark.parametrize("prior", [{}, {"pixelcnn": True}])
def test_training_lowers_the_cost_of_codes_below_chance(tmp_path, prior):
    made = trainer(tmp_path / "run", examples=4000, held_out=pictures(16, 1), codes=8, **prior)
    made.fit()
    judged = [line for line in made.run.history() if line["kind"] == "held_out" and line["stage"] == "prior"]
    assert judged[0]["bits_per_code"] == pytest.approx(3.0, abs=1e-4)
    assert judged[-1]["bits_per_code"] < 2.9


def test_more_codes_than_vectors_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(DataError, match="640 in all"):
        trainer(tmp_path / "run", codes=2000)


def test_two_processes_learn_what_one_learns():
    """What each process added up, summed, is what one process would have added up."""
    data = pictures()
    torch.manual_seed(0)
    whole, first, second = (
        build(RECIPES["vq-vae"](data.facts, **DIALS)).model.codec.train() for _ in range(3)
    )
    for codec in (first, second):
        codec.load_state_dict(whole.state_dict())
    objective, batch = Quantized(), data.batch(range(16))
    objective(whole, batch, noise=Noise([3, 4], rows=8), seen=0)
    for codec, rows, seed in ((first, range(8), 3), (second, range(8, 16), 4)):
        objective(codec, data.batch(rows), noise=Noise([seed], rows=8), seen=0)
    for mine, other in zip(objective.sums(first), objective.sums(second), strict=True):
        mine += other
    objective.after_step(whole, 16)
    objective.after_step(first, 16)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], value)


def test_dead_codes_are_told_by_level_once_an_epoch_says_so():
    assert watch.dead_codes([1.0, 0.6]) == []
    told = watch.dead_codes([1.0, 0.08])
    assert len(told) == 1 and "8%" in told[0] and "level 2 of 2" in told[0] and "scalar=true" in told[0]
    assert watch.latents({"codes_used": [0.1]}, 1.0) == watch.dead_codes([0.1])
    assert watch.dead_codes([math.nan, math.nan]) == []
    (judged,) = watch.dead_codes([0.1], "by 60 unseen images", scalar=True)
    assert "were used by 60 unseen images" in judged and "fewer codes" in judged and "scalar" not in judged


def test_in_the_first_epoch_so_far_is_told_and_after_it_no_more():
    (told,) = watch.latents({"codes_used": [math.nan], "codes_used_so_far": [0.1]}, 0.1)
    assert "Only 10% of the codes of level 1 of 1 were used so far, with 200 vectors or more" in told
    assert watch.latents({"codes_used": [math.nan] * 2, "codes_used_so_far": [0.6, math.nan]}, 0.1) == []
    assert watch.latents({"codes_used": [0.1], "codes_used_so_far": [math.nan]}, 1.0) == watch.dead_codes(
        [0.1]
    )


@pytest.mark.parametrize(("count", "over"), [(40, "over the last epoch"), (4000, "so far, with 200 vectors")])
def test_a_collapsed_codebook_is_told_while_training(tmp_path, count, over):
    """At the end of an epoch, and of more images than training sees as well."""
    made = trainer(tmp_path / "run", examples=1000, count=count, patience=0, gamma=0.0)
    quantizer = made.model.codec.quantizers[0]
    quantizer.fit = lambda vectors, *, seed: quantizer.codebook.data.copy_(
        torch.cat([vectors[:1], 1e3 + torch.rand(quantizer.size - 1, quantizer.dim)])
    )
    made.fit()
    assert any(f"codes of level 1 of 1 were used {over}" in text for text in notes(made))


def test_a_training_of_scalar_codes_is_not_told_to_make_them_scalar(tmp_path):
    made = trainer(tmp_path / "run", examples=80, count=16, scalar=True, codes=256, dim=None, patience=None)
    for part in made.model.codec.levels[0].to_code.parameters():
        part.requires_grad_(False).zero_()  # every image has one code
    made.fit()
    (told,) = (text for text in notes(made) if "codes of level 1 of 1 were used" in text)
    assert "fewer codes" in told and "scalar" not in told
