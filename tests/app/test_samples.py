"""A folder of samples fills block by block, with the images of one drawn at once, and says what it holds."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfumato.app import drawing, samples
from sfumato.app.compose import build_recipe, compose
from sfumato.app.console import Console
from sfumato.app.run import Run
from sfumato.app.samples import Order, Samples, write_samples
from sfumato.core.errors import Interrupted, UsageError
from sfumato.data.sources import open_data
from sfumato.data.write import write_image
from sfumato.models.generator import Generator
from sfumato.models.given import seeds_of

BLOCK = 16


class Spoken(Console):
    """Keeps what it says."""

    def __init__(self):
        super().__init__()
        self.said = []

    def say(self, *sentences):
        self.said += sentences


@pytest.fixture(scope="module")
def run():
    """An untrained run in memory."""
    torch.manual_seed(0)
    facts, run = open_data("digits").facts, Run.__new__(Run)
    recipe = build_recipe("diffusevae", compose("diffusevae", facts, {"width": 8, "conditional": True}))
    run.facts, run.recipe, run.model = facts, recipe, recipe.model.eval()
    run.path, run.about, run.device = "a-run", {"fingerprint": "x"}, torch.device("cpu")
    run.folder = SimpleNamespace(read=lambda name: {"recipe": "diffusevae"})
    return run


@pytest.fixture
def drawn(monkeypatch):
    """Blocks of 16 images, made of noise alone; how many each call of the generator drew."""
    counts = []

    def sample(self, count, plan, given, *, seeds, batch, drew):
        counts.append(count)
        draws = [torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return 2 * torch.stack(draws) - 1

    monkeypatch.setattr(Generator, "sample", sample)
    monkeypatch.setattr(drawing, "rows_at_once", lambda shape: BLOCK)
    return counts


def order(run, count, seed=3, class_name=None):
    told = {"seed": seed, "class": class_name, "plan": "a plan"}
    return Order(count, seed, class_name, run.generator.plan, told)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def told(folder):
    return json.loads((folder / "samples.json").read_text())


def test_blocks_change_no_image(run, monkeypatch):
    plan, seeds = run.plan(steps=2), seeds_of(3, 40)
    whole = run.generator.sample(40, plan, seeds=seeds)
    monkeypatch.setattr(drawing, "rows_at_once", lambda shape: BLOCK)
    parts = list(drawing.blocks(run, plan, seeds))
    assert [len(x) for x in parts] == [16, 16, 8] and torch.equal(torch.cat(parts), whole)
    assert np.array_equal(run.sample(40, seed=3, plan=plan), run.images(whole))
    labels = run.generator.draw(seeds, plan).label
    assert run.origin(40, seed=3, plan=plan)["labels"] == [run.facts.classes[int(k)] for k in labels]


def test_files_appear_as_they_are_drawn(run, tmp_path, drawn, monkeypatch):
    there, sample = [], Generator.sample

    def looking(*arguments, **words):
        there.append(sorted(p.name for p in tmp_path.glob("0*.png")))
        return sample(*arguments, **words)

    monkeypatch.setattr(Generator, "sample", looking)
    write_samples(run, order(run, 40), tmp_path, Spoken())
    assert drawn == [16, 16, 8] and [len(names) for names in there] == [0, 16, 32]
    assert told(tmp_path)["count"] == len(told(tmp_path)["files"]) == len(told(tmp_path)["labels"]) == 40


def test_a_stopped_drawing_goes_on_where_it_was(run, tmp_path, drawn, monkeypatch):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    write_samples(run, order(run, 40), whole, Spoken())
    sample = Generator.sample

    def stopping(*arguments, **words):
        if len(drawn) == 1:
            raise KeyboardInterrupt
        return sample(*arguments, **words)

    drawn.clear()
    monkeypatch.setattr(Generator, "sample", stopping)
    with pytest.raises(Interrupted, match="16 of 40") as stop:
        write_samples(run, order(run, 40), parted, Spoken())
    assert stop.value.code == 130 and "same command" in stop.value.remedy
    assert (
        told(parted)["count"] == len(told(parted)["files"]) == 16 and told(parted)["unfinished"]["of"] == 40
    )
    drawn.clear()
    monkeypatch.setattr(Generator, "sample", sample)
    console = Spoken()
    write_samples(run, order(run, 40), parted, console)
    assert drawn == [16, 8] and "16 images" in console.said[0]
    assert contents(parted) == contents(whole)


def test_a_drawing_stopped_within_a_block_has_the_bits_of_one_at_once(run, tmp_path, monkeypatch):
    """The model itself, whose rows fall into other blocks after the stop than before it."""
    plan = run.plan(steps=2)
    asked = replace(order(run, 40), plan=plan)
    write_samples(run, asked, tmp_path / "whole", Spoken())

    def stopping(image, path, facts):
        if path.stem == "0021":
            raise KeyboardInterrupt
        write_image(image, path, facts)

    monkeypatch.setattr(drawing, "rows_at_once", lambda shape: BLOCK)
    monkeypatch.setattr(samples, "write_image", stopping)
    monkeypatch.setattr(samples, "origin", lambda *_: 1 / 0)  # the record of a stopped drawing draws nothing
    with pytest.raises(Interrupted, match="21 of 40"):
        write_samples(run, asked, tmp_path / "parted", Spoken())
    assert "labels" not in told(tmp_path / "parted")
    monkeypatch.undo()
    write_samples(run, asked, tmp_path / "parted", Spoken())
    assert contents(tmp_path / "parted") == contents(tmp_path / "whole")


def test_a_killed_drawing_goes_on_behind_its_last_record(run, tmp_path, drawn, monkeypatch):
    """What is written while it draws is all that a kill leaves, and stays until it is replaced."""
    write_samples(run, order(run, 120), tmp_path / "whole", Spoken())
    sample, parted = Generator.sample, tmp_path / "parted"
    for stop, left in ((2, 16), (6, 96)):  # records follow the blocks 1, 5, ... of each sitting
        drawn.clear()
        with monkeypatch.context() as context:
            context.setattr(Samples, "_sheet", lambda _: None)
            record = Samples._record
            context.setattr(Samples, "_record", lambda s, r=record: None if len(drawn) > 900 else r(s))

            def dying(*arguments, stop=stop, **words):
                if len(drawn) == stop:
                    drawn.extend([0] * 1000)  # from here on nothing is written any more
                    raise KeyboardInterrupt
                return sample(*arguments, **words)

            context.setattr(Generator, "sample", dying)
            with pytest.raises(Interrupted):
                write_samples(run, order(run, 120), parted, Spoken())
        assert told(parted)["count"] == left and told(parted)["unfinished"]["of"] == 120
    drawn.clear()
    write_samples(run, order(run, 120), parted, Spoken())
    assert sum(drawn) == 24 and contents(parted) == contents(tmp_path / "whole")


def test_stopped_while_the_classes_are_drawn_it_says_how_to_go_on(run, tmp_path, drawn, monkeypatch):
    def stopping(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(Interrupted, match="20 of 20"):
        context.setattr(samples, "origin", stopping)
        write_samples(run, order(run, 20), tmp_path, Spoken())
    drawn.clear()
    write_samples(run, order(run, 20), tmp_path, Spoken())
    assert not drawn and len(told(tmp_path)["labels"]) == 20 and "unfinished" not in told(tmp_path)


def test_other_weights_take_up_nothing(run, tmp_path, drawn, monkeypatch):
    """Trained anew to the same number of examples by the same recipe, the model is another."""
    sample = Generator.sample
    with monkeypatch.context() as context, pytest.raises(ZeroDivisionError):
        context.setattr(Generator, "sample", lambda *a, **b: sample(*a, **b) if not drawn else 1 / 0)
        write_samples(run, order(run, 20), tmp_path, Spoken())
    drawn.clear()
    weight = next(run.model.parameters())
    with torch.no_grad():
        weight += 1
        write_samples(run, order(run, 20), tmp_path, Spoken())
        weight -= 1
    assert sum(drawn) == 20


@pytest.mark.parametrize("count", [0, -3])
def test_no_samples_are_refused(run, count):
    with pytest.raises(UsageError, match="1 or more"):
        run.sample(count)


@pytest.mark.parametrize("other", [{"seed": 4}, {"class_name": "7"}])
def test_another_order_takes_up_nothing(run, tmp_path, drawn, monkeypatch, other):
    sample = Generator.sample
    monkeypatch.setattr(Generator, "sample", lambda *a, **b: sample(*a, **b) if not drawn else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_samples(run, order(run, 20), tmp_path, Spoken())
    drawn.clear()
    monkeypatch.setattr(Generator, "sample", sample)
    write_samples(run, order(run, 20, **other), tmp_path, Spoken())
    assert sum(drawn) == 20 and "unfinished" not in told(tmp_path)


def test_images_of_an_earlier_drawing_are_named(run, tmp_path, drawn):
    write_samples(run, order(run, 20), tmp_path, Spoken())
    console = Spoken()
    write_samples(run, order(run, 5), tmp_path, console)
    assert told(tmp_path)["files"] == [f"{i:04d}.png" for i in range(5)]
    assert "15 images" in console.said[-1] and "0005.png ... 0019.png" in console.said[-1]
