"""Faults in the middle of a training: numbers that are not finite, memory, disks, and what is told."""

import errno
import math

import pytest
import torch
from training_toys import Adversarial, Denoise, final, notes, points, single, trainer

from sfumato.core.errors import DivergedError, OutOfMemoryError, StorageError
from sfumato.objectives.objective import Loss
from sfumato.training.choice import BEST
from sfumato.training.execution import Execution
from sfumato.training.heldout import HeldOutLoss
from sfumato.training.probes import Finding, Probe
from sfumato.training.rundir import RunDir
from sfumato.training.state import finite, unpack
from sfumato.training.storage import Disk


class Faulty(Denoise):
    """Calls `fault(loss, seen)` on each training loss while `left` lasts."""

    def __init__(self, fault, at=80, left=1):
        super().__init__()
        self.fault, self.at, self.left = fault, at, left

    def forward(self, model, batch, *, noise, seen):
        loss = super().forward(model, batch, noise=noise, seen=seen)
        if seen >= self.at and self.left > 0 and model.training is not None and torch.is_grad_enabled():
            self.left -= 1
            error = self.fault(model, loss.terms["error"])
            return Loss({"error": error}, {"error": 1.0})
        return loss


def nan_loss(model, error):
    return error * math.nan


def nan_gradient(model, error):
    return error + (model.net[0].bias[0] * 0).sqrt() * 0


def spike(model, error):
    return error * 1e4


def nan_parameter(model, error):
    with torch.no_grad():
        model.net[0].bias[1] = math.nan
    return error


def all_finite(path):
    run = RunDir(path)
    for name in run.names():
        for file, data in run.load(name).files.items():
            if file.endswith(".safetensors"):
                assert finite(unpack(data, None, file)) == "", (name, file)
    return True


def judged(made):
    """Loss of a trained model on fixed examples with fixed noise."""
    judge = HeldOutLoss(points(200, 1), 200, torch.device("cpu"))
    return judge(Denoise().eval(), made.model.eval(), Execution(), 0, lambda: None)["loss"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    made = trainer(tmp_path_factory.mktemp("clean") / "run", single(), examples=800)
    made.fit()
    return judged(made)


@pytest.mark.parametrize("fault", [nan_loss, nan_gradient, spike, nan_parameter])
@pytest.mark.parametrize("at", [0, 80, 88, 792])
def test_a_passing_fault_is_survived(tmp_path, clean, fault, at):
    """Matrix rows 13, 15, 16: skipped or rolled back; the loss ends where a clean run's does."""
    made = trainer(tmp_path / "run", single(Faulty(fault, at)), examples=800, save_examples=40)
    made.fit()
    assert all_finite(tmp_path / "run")
    assert judged(made) == pytest.approx(clean, rel=0.1)
    if fault in (nan_loss, nan_gradient):
        assert made.progress.skipped == 1 and made.progress.rollbacks == 0
        assert any("step left out" in text for text in notes(made))
    if fault is nan_parameter:
        assert any("rate x 0.5, float32 (1 of 3)" in text for text in notes(made))
    if fault is spike:
        assert notes(made) == []


@pytest.mark.parametrize("fault", [nan_loss, nan_parameter])
def test_a_lasting_fault_ends_with_the_remedy(tmp_path, fault):
    """Matrix row 14: three roll-backs, then exit code 6; what is on disk is finite and from before."""
    made = trainer(tmp_path / "run", single(Faulty(fault, at=80, left=10**9)), save_examples=40)
    with pytest.raises(DivergedError, match="diverged at") as caught:
        made.fit()
    assert caught.value.code == 6
    assert "lower rate" in caught.value.remedy and "only-80 is kept and finite" in caught.value.where
    assert sum("back to" in text for text in notes(made)) == 3
    assert all_finite(tmp_path / "run")


@pytest.mark.parametrize("what", ["averages.safetensors", "optimizer.safetensors"])
def test_poison_outside_the_weights_is_never_written(tmp_path, what):
    """Matrix row 15: a NaN in an average or a moment is found at the save, before it reaches the disk."""
    made = trainer(tmp_path / "run", single(), save_examples=40)
    poisoned = []

    def poison(now):
        if now and not poisoned:
            tensors = made.current.tensors()[what]
            name = next(n for n in sorted(tensors) if n.endswith("bias"))
            tensors[name][0] = math.nan
            poisoned.append(name)

    between(made, 80, 200, poison)
    made.fit()
    assert poisoned and made.progress.stage_name == "done"
    assert all_finite(tmp_path / "run")
    assert finite(made.model.state_dict()) == ""


def test_twenty_clean_runs_raise_no_alarm(tmp_path):
    for seed in range(20):
        made = trainer(tmp_path / str(seed), single(), examples=80, seed=seed)
        made.fit()
        assert notes(made) == [] and made.progress.skipped == made.progress.rollbacks == 0


def exhausted(made, limit, words="CUDA out of memory. Tried to allocate 2.00 GiB"):
    """Memory for `limit` rows at once."""
    batch = made.data.batch

    def limited(ids, *arguments):
        if len(ids) > limit:
            raise RuntimeError(words)
        return batch(ids, *arguments)

    made.data.batch = limited
    return made


@pytest.mark.parametrize(
    "words", ["CUDA out of memory", "DefaultCPUAllocator: can't allocate memory: you tried"]
)
def test_memory_that_runs_out_halves_the_micro_batch_only(tmp_path, words):
    """Matrix row 17: same examples, same draws, same loss."""

    def made():
        found = single()
        for module in found.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return found

    whole = trainer(tmp_path / "whole", made())
    whole.fit()
    tight = exhausted(trainer(tmp_path / "tight", made()), 3, words)
    tight.fit()
    assert any("micro-batch 8 -> 4" in t for t in notes(tight)) and any("4 -> 2" in t for t in notes(tight))
    assert whole.progress.ids == tight.progress.ids
    for (_, a), (_, b) in zip(whole.progress.losses, tight.progress.losses, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_memory_that_runs_out_at_one_example_ends(tmp_path):
    """Matrix row 18."""
    with pytest.raises(OutOfMemoryError) as caught:
        exhausted(trainer(tmp_path / "run", single()), 0).fit()
    assert caught.value.code == 9


def test_other_errors_are_not_taken_for_memory(tmp_path):
    with pytest.raises(RuntimeError, match="shapes do not match"):
        exhausted(trainer(tmp_path / "run", single()), 0, "shapes do not match").fit()


class Breaking(Disk):
    """Fails with an error while `broken` is set."""

    def __init__(self, number):
        self.number, self.broken = number, False

    def call(self, function, *arguments):
        if self.broken:
            raise OSError(self.number, "injected")
        return function(*arguments)


def between(made, start, stop, act):
    """Call act(True) before steps in [start, stop) and act(False) before the others."""
    batch = made.data.batch

    def acting(*arguments):
        act(start <= made.progress.seen < stop)
        return batch(*arguments)

    made.data.batch = acting


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fills_up_and_empties_costs_nothing(tmp_path, number):
    """Matrix row 8."""
    trainer(tmp_path / "clean", single(), save_examples=16).fit()
    disk = Breaking(number)
    made = trainer(tmp_path / "run", single(), disk=disk, save_examples=16)
    between(made, 40, 100, lambda now: setattr(disk, "broken", now))
    made.fit()
    assert sum("Training goes on" in text for text in notes(made)) >= 3
    assert "00003-only-32 is kept" in " ".join(notes(made))
    assert final(tmp_path / "run")[0] == final(tmp_path / "clean")[0]
    assert final(tmp_path / "run")[3] == final(tmp_path / "clean")[3]


def test_a_disk_that_is_full_at_the_end_keeps_the_last_good_state(tmp_path):
    """Matrix row 9."""
    disk = Breaking(errno.ENOSPC)
    made = trainer(tmp_path / "run", single(), disk=disk, save_examples=80)
    between(made, 120, 1000, lambda now: setattr(disk, "broken", now))
    with pytest.raises(StorageError) as caught:
        made.fit()
    assert caught.value.code == 5
    again = trainer(tmp_path / "run", single())
    again.fit()
    assert again.reporter.events[0].seen == 80


def test_a_folder_that_becomes_read_only_stops_at_the_next_save(tmp_path):
    """Matrix row 10."""
    disk = Breaking(errno.EROFS)
    made = trainer(tmp_path / "run", single(), disk=disk, save_examples=40)
    between(made, 48, 1000, lambda now: setattr(disk, "broken", now))
    with pytest.raises(StorageError, match="Check that the folder exists"):
        made.fit()
    assert made.progress.seen <= 80


def test_a_folder_that_vanishes_stops_at_the_next_save(tmp_path):
    import shutil

    made = trainer(tmp_path / "run", single(), save_examples=40)
    between(made, 48, 56, lambda now: shutil.rmtree(tmp_path / "run") if now else None)
    with pytest.raises(StorageError):
        made.fit()


class Failing(Probe):
    def __init__(self, error):
        self.error = error

    def look(self, moment):
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("CUDA out of memory")])
def test_a_look_that_fails_for_space_does_not_stop_a_training(tmp_path, error):
    made = trainer(tmp_path / "run", single(), probes=(Failing(error),))
    made.fit()
    assert made.progress.stage_name == "done" and len(notes(made)) == 1


def test_a_damaged_newest_checkpoint_is_set_aside_and_told(tmp_path):
    """Matrix row 3 through the trainer: the run goes on from the one before and ends the same."""
    trainer(tmp_path / "clean", single()).fit()
    made = trainer(tmp_path / "run", single(), save_examples=40)
    made.fit()
    run = RunDir(tmp_path / "run")
    for name in run.names()[:1]:
        path = run.checkpoints / name / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01"[-1:])
    again = trainer(tmp_path / "run", single())
    again.fit()
    assert any("is damaged" in text and "using" in text for text in notes(again))
    assert [n for n in RunDir(tmp_path / "run").names() if n.startswith("damaged")]
    assert final(tmp_path / "run")[0] == final(tmp_path / "clean")[0]


def test_both_phases_are_protected(tmp_path):
    made = trainer(tmp_path / "run", single(Adversarial()), save_examples=40)
    made.fit()
    assert all_finite(tmp_path / "run") and len(made.progress.losses) == 20


def test_bf16_falls_back_to_float32_after_a_roll_back(tmp_path):
    fault = Faulty(nan_loss, at=80, left=4)
    made = trainer(tmp_path / "run", single(fault), save_examples=40, execution=Execution(bf16=True))
    made.fit()
    assert made.progress.bf16 is False and any("float32 (1 of 3)" in text for text in notes(made))


def test_held_out_examples_choose_the_average_and_mark_the_best(tmp_path):
    made = trainer(tmp_path / "run", single(), examples=1600, held_out=points(40, 1))
    made.fit()
    looked = [e for e in made.reporter.events if type(e).__name__ == "HeldOut"]
    assert [e.seen for e in looked] == [160 * k for k in range(11)]
    assert looked[-1].values["loss"] < looked[0].values["loss"]
    length = made.progress.chosen["only"]
    ended = next(e for e in made.reporter.events if type(e).__name__ == "StageEnded")
    assert ended.length == length
    # no other candidate is better: the stored ends are judged again
    judge = made.judge(Denoise().eval(), made.model.eval(), Execution(), 1600, lambda: None)["loss"]
    assert judge <= looked[-1].values["loss"] + 1e-6


class Spoiled(Denoise):
    """Learns for half a stage, then unlearns: what memorising looks like from outside."""

    def forward(self, model, batch, *, noise, seen):
        loss = super().forward(model, batch, noise=noise, seen=seen)
        if seen < 800:
            return loss
        away = (model.net(batch.x) - 5.0).square().flatten(1).mean(1)
        return Loss({"away": away}, {"away": 1.0})


def test_a_stage_that_gets_worse_ends_where_it_was_best(tmp_path):
    made = trainer(tmp_path / "run", single(Spoiled()), examples=1600, held_out=points(40, 1))
    made.fit()
    looked = {e.seen: e.values["loss"] for e in made.reporter.events if type(e).__name__ == "HeldOut"}
    best = min(looked.values())
    assert looked[1600] > 2 * best and made.progress.chosen["only"] == BEST
    judged = made.judge(Denoise().eval(), made.model.eval(), Execution(), 1600, lambda: None)["loss"]
    assert judged == pytest.approx(best, rel=1e-6)


class Numbers(Probe):
    def look(self, moment):
        return Finding({"good": 1.0, "bad": math.nan})


def test_numbers_that_are_not_finite_never_reach_the_metrics(tmp_path):
    made = trainer(tmp_path / "run", single(), probes=(Numbers(),))
    made.fit()
    lines = [line for line in made.run.history() if line["kind"] == "probe"]
    assert lines and all("good" in line and "bad" not in line for line in lines)
