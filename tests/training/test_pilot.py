"""Trial steps decide by time alone, one change at a time, and leave no trace."""

import pytest
import torch
from training_toys import PLAIN, points, single, trainer

from sfumato.training.execution import Execution
from sfumato.training.pilot import Trial, fastest, try_steps
from sfumato.training.stagerun import StageRun
from sfumato.training.state import Progress
from sfumato.training.world import World

CPU = torch.device("cpu")


def speeds(table, ready=None):
    """A stand-in for trials: speed 100 times the factors of what a way has on."""

    def attempt(way):
        speed = 100.0
        for name, factor in table.items():
            speed *= factor if getattr(way, name) else 1.0
        return Trial(way, speed, 0, (ready or {}).get("compiled", 0.0) if way.compiled else 0.0)

    return attempt


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, Execution()),
        ({"bf16": 2.0}, Execution(bf16=True)),
        ({"bf16": 0.5, "channels_last": 1.3}, Execution(channels_last=True)),
        ({"bf16": 1.04, "channels_last": 1.04, "compiled": 1.04}, Execution()),
        ({"bf16": 2.0, "channels_last": 1.2, "compiled": 1.5}, Execution(True, True, True)),
    ],
)
def test_only_clear_gains_are_taken(table, expected):
    assert fastest(speeds(table), CPU, 1e4)[0].execution == expected


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_pays_in_bfloat16_alone_is_found_on_a_cpu_and_no_way_is_tried_twice(device):
    """As a transformer's kernel: 1.03 times as fast in float32, 1.1 in bfloat16."""
    tried = []

    def attempt(way):
        tried.append(way)
        speed = 100.0 * (2.0 if way.bf16 else 1.0) * ((1.1 if way.bf16 else 1.03) if way.compiled else 1.0)
        return Trial(way, speed, 0, 0.0)

    best = fastest(attempt, torch.device(device), 1e4)[0].execution
    assert best == (Execution(bf16=True, compiled=True) if device == "cpu" else Execution())
    assert len(tried) == len(set(tried)) == (5 if device == "cpu" else 3)


def test_preparation_is_charged_to_the_budget():
    attempt = speeds({"compiled": 2.0}, ready={"compiled": 30.0})
    assert not fastest(attempt, CPU, 100 * 30)[0].execution.compiled  # 30 s of training: no gain
    assert fastest(attempt, CPU, 100 * 300)[0].execution.compiled


def test_trials_leave_no_trace():
    stage, model = single().stages[0], single().model
    run = StageRun(stage, model, points(), World(), PLAIN, 0)
    before = {f: {n: t.clone() for n, t in part.items()} for f, part in run.tensors().items()}
    progress = Progress(seed=0)
    trial = try_steps(run, progress, torch.arange(8), lambda: None, 0.01)
    assert trial.speed > 0 and progress == Progress(seed=0)
    for file, part in run.tensors().items():
        for name, tensor in part.items():
            assert tensor.equal(before[file][name]), (file, name)
    run.close()
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_stage_leaves_the_layout_that_a_checkpoint_would_give():
    """Else a closed-form stage after it would see other last bits than in a resumed run."""
    made = single()
    made.model.net = torch.nn.Conv2d(3, 4, 3)
    weight = made.model.net.weight
    before = weight.detach().clone()
    run = StageRun(made.stages[0], made.model, points(), World(), Execution(channels_last=True), 0)
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    run.close()
    assert weight.is_contiguous() and weight.equal(before)


def test_a_long_training_says_how_it_computes(tmp_path):
    made = trainer(tmp_path / "run", single(), examples=1600, execution=None)
    made.fit()
    told = [e.text for e in made.reporter.events if hasattr(e, "text")]
    assert any(text.startswith("Computing in ") and "per second" in text for text in told)
