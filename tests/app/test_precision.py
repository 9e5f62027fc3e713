"""Sampling in bfloat16 and by the fused kernel: the same images, to rounding of a known size."""

import json

import pytest
import torch

import sfumato
from sfumato.app.cli import run as command
from sfumato.app.names import check_used
from sfumato.core.errors import UsageError
from sfumato.models.density import Plan
from sfumato.models.given import seeds_of
from sfumato.nets.compute import Compute


def drawn(run, count=20, **asked):
    return run.generator.sample(count, run.plan(**asked), seeds=seeds_of(0, count))


def test_bfloat16_rounds_the_network_and_nothing_else(trained):
    run = sfumato.open(trained / "model")
    exact, rounded = drawn(run), drawn(run, precision="bf16")
    apart = (exact - rounded).abs()
    assert exact.dtype == rounded.dtype == torch.float32
    assert 0 < float(apart.mean()) < 0.02, "bfloat16 has eight bits: 2^-9 of a product, over a few steps"
    # the steps and the first guess are float32: images are not numbers of eight bits
    assert not torch.equal(rounded, rounded.bfloat16().float())


def test_in_bfloat16_too_an_image_depends_on_its_seed_alone(trained):
    run = sfumato.open(trained / "model")
    assert torch.equal(drawn(run, 20, precision="bf16")[:3], drawn(run, 3, precision="bf16"))


def test_a_run_read_from_disk_draws_by_the_kernel_what_the_plain_network_draws(trained):
    run = sfumato.open(trained / "model")
    fast = drawn(run)
    Compute().prepare(run.generator.density)
    torch.testing.assert_close(fast, drawn(run), rtol=0, atol=1e-4)


def test_the_precision_is_said_and_kept_apart(runs, capsys):
    words = ["sample", str(runs / "model"), "-n", "3", "--json"]
    folders = []
    for more in ([], ["--precision", "bf16"]):
        assert command([*words, *more]) == 0
        folders.append(json.loads(capsys.readouterr().out.strip().splitlines()[-1])["folder"])
    assert folders[1].endswith("bf16") and folders[0] != folders[1]
    assert command(["evaluate", str(runs / "model"), "-n", "20", "--precision", "bf16", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["metrics"]
    plans = {m["protocol"]["plan"] for m in metrics if m["name"] == "Frechet distance"}
    assert all("bf16" in plan for plan in plans) and plans


@pytest.mark.parametrize("word", ["fp16", "", "BF16", "64"])
def test_a_precision_that_is_none_is_refused(trained, word):
    with pytest.raises(UsageError, match="no precision"):
        sfumato.open(trained / "model").plan(precision=word)
    with pytest.raises(UsageError, match="no precision"):
        Plan(precision=word)


def test_a_model_that_makes_no_steps_has_none_to_round(trained):
    first = sfumato.open(trained / "model").generator.conditioner.first
    with pytest.raises(UsageError, match="--precision changes nothing here"):
        check_used(first, precision="bf16")


def test_a_plan_without_a_word_is_float32(trained):
    assert sfumato.open(trained / "model").plan().precision == Plan().precision == "fp32"
    run = sfumato.open(trained / "model")
    assert torch.equal(drawn(run), drawn(run, precision="fp32"))
