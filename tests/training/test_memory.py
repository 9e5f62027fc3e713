"""Memory that runs out beside the step costs a judgement or a picture, never the training."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from training_toys import Denoise, final, notes, points, single, trainer

from sfumato.app import train as app
from sfumato.app.console import Console
from sfumato.core.errors import Interrupted, OutOfMemoryError
from sfumato.training.execution import Execution
from sfumato.training.heldout import CHUNK, HeldOutLoss
from sfumato.training.probes import Finding, Probe
from sfumato.training.rundir import RunDir
from sfumato.training.settings import Settings
from sfumato.training.watcher import Watcher


class Stopping(Probe):
    """Asks to stop once the stage is under way."""

    def look(self, moment):
        if moment.seen:
            os.kill(os.getpid(), signal.SIGINT)
        return Finding()


class Tight(Denoise):
    """Judges `fitting` examples at a time and no more."""

    def __init__(self, fitting):
        super().__init__()
        self.fitting, self.counts = fitting, []

    def judge(self, model, batch, *, noise):
        self.counts.append(len(batch.x))
        if len(batch.x) > self.fitting:
            raise RuntimeError("CUDA out of memory")
        return super().judge(model, batch, noise=noise)


def judged(objective, count=100, micro=0):
    model = single().model.eval()
    judge = HeldOutLoss(points(count, 1), count, torch.device("cpu"))
    return judge(objective.eval(), model, Execution(), 0, lambda: None, micro)["loss"]


@pytest.mark.parametrize("micro", [0, 1, 3, 48, 1000])
def test_examples_are_judged_a_micro_batch_at_a_time(micro):
    free, capped = Tight(CHUNK), Tight(min(CHUNK, micro or CHUNK))
    assert judged(capped, micro=micro) == pytest.approx(judged(free), rel=1e-6)
    assert max(capped.counts) == min(CHUNK, micro or CHUNK, 100) and sum(capped.counts) == 100


def test_judging_goes_on_with_half_where_memory_runs_out():
    tight = Tight(20)
    assert judged(tight) == pytest.approx(judged(Tight(CHUNK)), rel=1e-6)
    assert tight.counts[:3] == [CHUNK, CHUNK // 2, CHUNK // 4], "and no example is counted twice"
    with pytest.raises(OutOfMemoryError):
        judged(Tight(0))


def test_other_errors_of_a_judge_are_not_swallowed():
    with pytest.raises(RuntimeError, match="size mismatch"):
        judge = Tight(CHUNK)
        judge.judge = lambda *a, **b: (_ for _ in ()).throw(RuntimeError("size mismatch"))
        judged(judge)


def test_a_training_that_cannot_be_judged_ends_with_the_first_average(tmp_path):
    made = trainer(tmp_path / "run", single(Tight(0)), held_out=points(20, 1))
    made.fit()
    assert made.progress.chosen == {"only": made.recipe.stages[0].lengths[0]}
    assert sum("did not fit into memory" in text for text in notes(made)) == 1, "said once"
    assert not made.progress.held_out


def test_speed_is_told_anew_after_a_judgement_that_did_not_fit(tmp_path, monkeypatch):
    judge, before, after = Watcher._judge, [], []

    def judged_then(watcher):
        before.append(len(watcher.clock._marks))
        best = judge(watcher)
        after.append(len(watcher.clock._marks))
        return best

    monkeypatch.setattr(Watcher, "_judge", judged_then)
    trainer(tmp_path / "run", single(Tight(0)), held_out=points(20, 1)).fit()
    assert max(before) > 0 and not any(after), "the time it took is none of a step's"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_a_finished_training_has_its_report_though_the_last_pictures_do_not_fit(
    tmp_path, monkeypatch, capsys, error
):
    def failing(*arguments):
        raise error

    folder, net = RunDir(tmp_path), nn.Linear(2, 2)
    folder.begin({}, {}, {})
    monkeypatch.setattr(app, "last_look", failing)
    monkeypatch.setattr(app, "write_report", lambda run: "report.html")
    app.finish(SimpleNamespace(model=net, folder=folder, path=tmp_path), net, Console())
    told = capsys.readouterr().out
    assert f"sfumato sample {tmp_path} -n 1" in told and "Report: report.html" in told
    assert "did not fit into memory" in folder.read("run.json")["notes"][0]


def test_a_stage_starts_with_the_part_that_fits(tmp_path):
    """Told to the bit by the micro-batch alone, however it was decided; another stage keeps its batch."""
    whole, fits, micro = (
        trainer(tmp_path / name, single(), **words)
        for name, words in (("a", {}), ("b", {"fits": {"only": 3, "other": 1}}), ("c", {"micro": 3}))
    )
    for made in (whole, fits, micro):
        made.fit()
    assert final(tmp_path / "b") == final(tmp_path / "c")
    assert Settings(fits={"only": 3}).micro_of("only") == 3 == Settings(micro=3).micro_of("only")
    assert Settings(fits={"only": 3}, micro=2).micro_of("only") == 2
    assert Settings(fits={"only": 3}).micro_of("second") == 0


def test_a_run_that_goes_on_with_less_memory_takes_smaller_parts_and_says_so(tmp_path):
    held = {"probes": (Stopping(),), "looks": 2}
    with pytest.raises(Interrupted):
        trainer(tmp_path / "run", single(), **held).fit()
    again = trainer(tmp_path / "run", single(), fits={"only": 2})
    again.fit()
    assert sum("micro-batches of 2" in text for text in notes(again)) == 1
    more = trainer(tmp_path / "run", single(), fits={"only": 8})
    more.fit()
    assert not any("micro-batches" in text for text in notes(more))
