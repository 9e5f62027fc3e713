"""Resume is a continuation: an interrupted run ends equal, to the bit, to one nobody disturbed.

Compared are all tensors (weights, averages), the state with its chain of sample ids, the kept
averages, and every line of metrics.jsonl but the timing.
"""

import pytest
import torch
from training_toys import Adversarial, Autoencode, final, notes, points, recipe, single, trainer

from sfumato.core.errors import Interrupted
from sfumato.training.budget import Hours
from sfumato.training.execution import Execution
from sfumato.training.probes import Finding, Probe


class Died(BaseException):
    """Stands for a process that is gone: nothing can catch it and save."""


def call(data, k, action):
    """Let the k-th micro-batch of a training do something else first."""
    count, batch = [0], data.batch

    def counted(*args):
        count[0] += 1
        if count[0] == k:
            action()
        return batch(*args)

    data.batch = counted
    return data


def die():
    raise Died


def interrupted(path, k, how, **arguments):
    made = trainer(path, **arguments)
    stop = lambda: setattr(made.stop, "requested", 15)  # noqa: E731
    call(made.data, k, die if how == "killed" else stop)
    with pytest.raises(Died if how == "killed" else Interrupted) as caught:
        made.fit()
    if how == "signal":
        assert caught.value.code == 143
    return made


CASES = {
    "whole batches": {"save_examples": 24},
    "micro-batches of 3": {"save_examples": 24, "micro": 3},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    found = {}
    for name, settings in CASES.items():
        path = tmp_path_factory.mktemp("run") / "run"
        trainer(path, count=20, held_out=points(6, 1), **settings).fit()
        found[name] = final(path)
    return found


@pytest.mark.parametrize("how", ["killed", "signal"])
@pytest.mark.parametrize("case", list(CASES))
# the first step; in the first epoch; past it; the last stage; near the end
@pytest.mark.parametrize("k", [1, 2, 5, 13, 18])
def test_two_resumes_change_nothing(tmp_path, undisturbed, case, k, how):
    arguments = {"count": 20, "held_out": points(6, 1), **CASES[case]}
    interrupted(tmp_path / "run", k, how, **arguments)
    interrupted(tmp_path / "run", 2, how, **arguments)
    trainer(tmp_path / "run", **arguments).fit()
    assert final(tmp_path / "run") == undisturbed[case]


def test_ten_steps_and_ten_more_are_twenty(tmp_path):
    arguments = {"examples": 160, "count": 30}
    trainer(tmp_path / "whole", single(), **arguments).fit()
    interrupted(tmp_path / "halves", 10, "signal", made=single(), **arguments)
    again = trainer(tmp_path / "halves", single(), **arguments)
    again.fit()
    assert again.reporter.events[0].seen == 80
    assert final(tmp_path / "halves") == final(tmp_path / "whole")


@pytest.mark.parametrize("k", [4, 5])
@pytest.mark.parametrize("objective", [Adversarial, Autoencode])
def test_optimizers_of_all_phases_and_the_objectives_own_weights_resume(tmp_path, objective, k):
    def made():
        if objective is Adversarial:
            return single(Adversarial())
        return recipe()

    trainer(tmp_path / "whole", made()).fit()
    interrupted(tmp_path / "cut", k, "signal", made=made())
    trainer(tmp_path / "cut", made()).fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


def test_a_finished_run_is_left_alone(tmp_path):
    trainer(tmp_path / "run").fit()
    before = final(tmp_path / "run")
    again = trainer(tmp_path / "run")
    again.fit()
    assert final(tmp_path / "run") == before
    assert again.reporter.events == []


def test_the_chain_of_sample_ids_tells_orders_apart(tmp_path):
    for seed in (0, 1):
        trainer(tmp_path / str(seed), seed=seed).fit()
    assert final(tmp_path / "0")[1]["ids"] != final(tmp_path / "1")[1]["ids"]


def test_another_seed_or_machine_is_told_and_the_runs_own_seed_is_used(tmp_path):
    interrupted(tmp_path / "run", 9, "signal", seed=3)
    again = trainer(tmp_path / "run", seed=4)
    again.progress.environment["threads"] = 77
    again.fit()
    assert any("own seed 3 is used, not 4" in text for text in notes(again))
    assert any(", now 77" in text and "not equal to the bit" in text for text in notes(again))
    assert again.progress.seed == 3


class Meddler(Probe):
    """A probe that uses up random numbers and leaves the model in training mode."""

    def look(self, moment):
        torch.randn(7)
        moment.model.train()
        with moment.averaged():
            torch.rand(3)
        return Finding({"seen": float(moment.seen)}, ("I looked.",))


def test_looking_does_not_change_what_is_seen(tmp_path):
    trainer(tmp_path / "alone").fit()
    watched = trainer(tmp_path / "watched", probes=(Meddler(),))
    watched.fit()
    assert final(tmp_path / "watched")[:3] == final(tmp_path / "alone")[:3]
    looks = [line["seen"] for line in watched.run.history() if line["kind"] == "probe"]
    assert looks[0] == 0 and looks[-1] == 96
    assert notes(watched).count("I looked.") == 2  # once in each gradient stage


def test_trial_steps_leave_nothing_behind(tmp_path):
    """A budget in hours measures the speed by real steps, and fixes a number of examples."""
    timed = trainer(tmp_path / "timed", single(), budget=Hours(1.5 / 3600), save_minutes=1e9)
    timed.fit()
    count = timed.progress.total
    trainer(tmp_path / "counted", single(), examples=count).fit()
    assert final(tmp_path / "timed")[0] == final(tmp_path / "counted")[0]
    assert final(tmp_path / "timed")[1]["ids"] == final(tmp_path / "counted")[1]["ids"]


def test_the_plan_by_hours_survives_a_resume(tmp_path):
    first = trainer(tmp_path / "run", single(), budget=Hours(2 / 3600))
    batch = first.data.batch

    def stopping(*arguments):
        first.stop.requested = 2 if first.progress.seen >= 80 else 0
        return batch(*arguments)

    first.data.batch = stopping
    with pytest.raises(Interrupted):
        first.fit()
    target = first.progress.target
    assert 80 <= first.progress.seen < target
    again = trainer(tmp_path / "run", single(), budget=Hours(2 / 3600))
    again.fit()
    assert again.progress.total == target


def test_micro_batches_and_their_size_do_not_matter(tmp_path):
    """Accumulation sums the same terms in another order: equal within rounding, ids equal."""
    plain = Execution()
    weights = []
    for micro in (0, 1, 3, 4):
        made = single()
        for module in made.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # masks are tied to the micro-batch
        run = trainer(tmp_path / str(micro), made, micro=micro, execution=plain)
        run.fit()
        weights.append((torch.cat([p.flatten() for p in run.model.parameters()]), run.progress.ids))
    for values, ids in weights[1:]:
        torch.testing.assert_close(values, weights[0][0], rtol=1e-5, atol=1e-5)
        assert ids == weights[0][1]


def test_other_parts_keep_their_bits(tmp_path):
    made = recipe()
    before = {n: p.clone() for n, p in made.model.named_parameters()}
    stages = []

    class Compare(Probe):
        def look(self, moment):
            changed = {n.split(".")[0] for n, p in moment.model.named_parameters() if not p.equal(before[n])}
            stages.append((moment.stage, moment.seen, changed))
            return Finding()

    trainer(tmp_path / "run", made, probes=(Compare(),)).fit()
    assert ("first", 0, set()) in stages and ("first", 64, {"codec"}) in stages
    assert ("second", 0, {"codec"}) in stages and ("second", 96, {"codec", "net"}) in stages
    assert made.model.prior.mean.abs().sum() > 0


def test_death_between_the_choice_of_an_average_and_its_save(tmp_path, monkeypatch):
    """The averages along the way are the candidates: they must still be there for the second choice."""
    arguments = {"examples": 1600, "held_out": points(40, 1), "save_examples": 400}
    trainer(tmp_path / "whole", single(), **arguments).fit()
    first = trainer(tmp_path / "cut", single(), **arguments)
    monkeypatch.setattr(first, "_save_model", die)
    with pytest.raises(Died):
        first.fit()
    trainer(tmp_path / "cut", single(), **arguments).fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    assert [p.name for p in first.run.averages.iterdir()] == ["only-1600"]


def test_another_precision_does_not_change_a_stage_under_way_and_is_told(tmp_path):
    interrupted(tmp_path / "run", 9, "signal")
    again = trainer(tmp_path / "run", execution=Execution(bf16=True))
    again.fit()
    assert any("in float32, not in bfloat16" in text for text in notes(again))
