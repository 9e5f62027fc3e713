"""The command line answers in one message with the right exit code, and does not load torch to say hello."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sfumato
from sfumato.app import progress
from sfumato.app.catalog import NAMES
from sfumato.app.cli import run
from sfumato.app.compose import compose
from sfumato.app.console import Console
from sfumato.app.options import numbers, parse_set
from sfumato.app.train import world_of
from sfumato.core.errors import UsageError
from sfumato.core.lazy import dump
from sfumato.data.facts import Facts

FACTS = Facts(1, (8, 8), "uint8", 0.0, 255.0, count=200)


def test_help_answers_without_torch():
    code = (
        "import sys\n"
        "from sfumato.app.cli import run\n"
        "assert run(['--help']) == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verbs = ("demo", "train", "sample", "reconstruct", "interpolate", "traverse", "evaluate", "compare")
    for verb in (*verbs, "doctor", "recipes"):
        assert verb in done.stdout


def test_no_words_at_all_are_answered_with_the_help_alone(capsys):
    assert run([]) == 0
    said = capsys.readouterr()
    assert "Usage: sfumato" in said.out and said.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], "tarin"),
        (["sample"], "RUN"),
        (["train", "vae"], "DATA"),
        (["sample", "x", "--n"], "n"),
        (["sample", "x", "-n", "0"], "'-n'"),
        (["sample", "x", "--steps", "0"], "'--steps'"),
        (["sample", "x", "--batch", "0"], "'--batch'"),
    ],
)
def test_usage_errors_exit_with_two_and_name_the_word(arguments, words, capsys):
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "vea", "digits"], 2),
        (["train", "vae", "digist"], 3),
        (["train", "vae", "digits", "--hours", "-1"], 2),
        (["train", "vae", "digits", "--hours", "1", "--examples", "5"], 2),
        (["train", "vae", "digits", "--set", "widht=3"], 2),
        (["train", "vae", "digits", "--set", "nonsense"], 2),
        (["train", "vae", "digits", "--precision", "fp16"], 2),
        (["train", "vae", "digits", "--device", "abacus"], 2),
        (["train", "vae", "digits", "--device", "mps"], 2),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "dropout=1"], 2),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "dropout=-0.5"], 2),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "width=-8"], 2),
        (
            [
                "train",
                "diffusion",
                "digits",
                "--examples",
                "64",
                "--set",
                "model.density.denoiser.net.blocks=-1",
            ],
            2,
        ),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "model.plan.solver=Karras"], 2),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "model.plan.solver=UNet"], 2),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "model.density.denoiser.net=UNet"], 2),
        (["train", "diffusion", "digits", "--examples", "64", "--set", "model.density.schedule=Cosine"], 2),
        (["sample", "no-such-run"], 4),
        (["evaluate", "no-such-run"], 4),
        (["compare", "no-such-run"], 2),
        (["recipes", "vea"], 2),
        (["doctor", "no/such/folder"], 3),
    ],
)
def test_each_mistake_has_its_code_and_a_remedy(arguments, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, "--json"]) == code
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert answer["code"] == code and answer["error"] and answer["remedy"]
    assert [p for p in tmp_path.rglob("*") if p.suffix == ".safetensors"] == []


def test_a_long_drawing_says_how_long_and_draws_the_same(runs, capsys, monkeypatch):
    model = sfumato.open(runs / "model")
    whole = model.sample(20, class_name="7")
    for name in ("LONG", "QUIET"):
        monkeypatch.setattr(progress, name, 0.0)
    pace = progress.Pace(Console(), 20)
    assert np.array_equal(model.sample(20, class_name="7", pace=pace), whole) and pace.done == 20
    for verb in ("sample", "evaluate"):
        capsys.readouterr()
        assert run([verb, str(runs / "model"), "-n", "20", "--json"]) == 0
        said = capsys.readouterr()
        assert "16 of 20 images drawn, about " in said.err and json.loads(said.out)


def test_verbs_that_show_rows_take_a_class_and_guidance(runs, capsys):
    model = sfumato.open(runs / "model")
    asked = {"class_name": "7", "guidance": 3.0}
    rows = model.interpolate(2, between="z", **asked)["z"]
    assert np.allclose(rows[0], model.sample(1, **asked)[0], atol=1)
    assert not np.array_equal(rows[0], model.interpolate(2, between="z", guidance=3.0)["z"][0])
    middle = model.traverse(1, 3, **asked).rows
    assert not np.array_equal(*(next(iter(r.values())) for r in (middle, model.traverse(1, 3).rows)))
    one, two = (model.reconstruct(count=4, class_name=name, guidance=3.0) for name in ("7", "1"))
    assert not np.array_equal(one.rows["refined"], two.rows["refined"])
    for verb in ("reconstruct", "interpolate", "traverse"):
        words = [verb, str(runs / "model"), "-n", "2", "--guidance", "2", "--json", "--class"]
        assert (run([*words, "7"]), run([*words, "eight"])) == (0, 2)


keys = st.text(alphabet="abcdefghij._", min_size=1).filter(lambda s: s.strip())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda v: st.lists(v, max_size=3),
    max_leaves=4,
)


@given(keys, values)
def test_settings_read_json_back(key, value):
    assert parse_set([f"{key}={json.dumps(value)}"]) == {key: value}


@given(st.text())
def test_any_text_is_a_setting_or_our_error(text):
    try:
        settings = parse_set([text])
    except UsageError as error:
        assert error.code == 2
    else:
        assert len(settings) == 1


@pytest.mark.parametrize(
    "text", ["a=NaN", "a=Infinity", "a=1e999", "a=-1e999", "a=[1,[1e999]]", f"a={'9' * 5000}", "=3", "a"]
)
def test_settings_that_mean_nothing_are_refused(text):
    with pytest.raises(UsageError) as caught:
        parse_set([text])
    assert caught.value.remedy and len(str(caught.value)) < 400


digits = st.sampled_from(
    ["9", "\u00b2", "\u0663", "\uff11", "1e", ".", "-", "[", "\u221e", "Infinity", "NaN"]
)
extremes = st.lists(digits, min_size=1, max_size=6).map("".join) | st.integers(1, 6000).map(lambda n: "9" * n)
PLACES = ("beta", "free_bits", "width", "stages.vae.epochs", "stages.vae.rate.peak", "stages.vae.batch")


@given(st.sampled_from(PLACES) | digits.map("stages.{}.batch".format), extremes)
def test_no_number_brings_a_recipe_to_a_bug(place, text):
    """Infinities, huge integers and digits of other scripts, as keys and as values: composed, or refused."""
    try:
        tree = compose("vae", FACTS, parse_set([f"{place}={text}"]))
    except UsageError as error:
        assert error.remedy and len(str(error)) < 400
    else:
        assert math.isfinite(json.loads(json.dumps(dump(tree, NAMES), allow_nan=False))["stages"][0]["share"])


def test_whole_numbers_in_lists_are_ascii_and_short():
    assert numbers("--steps", "5, 10") == [5, 10]
    for word in ("\u00b2", "9" * 5000, "1e3"):
        with pytest.raises(UsageError, match="whole numbers"):
            numbers("--steps", word)


def test_a_bug_exits_with_one_and_leaves_a_report(capsys, monkeypatch):
    import sfumato.app.compose as compose

    monkeypatch.setattr(compose, "recipe_names", lambda: 1 / 0)
    assert run(["recipes"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without processes")
def test_two_processes_train_one_run_and_one_answers(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [
        "-m",
        "sfumato",
        "train",
        "classifier",
        "digits",
        "--device",
        "cpu",
        "--examples",
        "256",
        "--set",
        "width=8",
        "--json",
        "--out",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launch, *words, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["examples"] == 256


def test_several_processes_take_no_other_device_by_name(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="2 processes"):
        world_of("cuda")
