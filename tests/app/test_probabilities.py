"""Values that a sigmoid likelihood cannot read are found wherever they are, before any work."""

import json

import numpy as np
import pytest
from torch import nn

from sfumato.app.cli import run as command
from sfumato.app.probabilities import check_probabilities
from sfumato.core.errors import DataError
from sfumato.data.dataset import Dataset
from sfumato.models.likelihood import BernoulliLikelihood, GaussianLikelihood

SIGMOID, OTHER = nn.Sequential(BernoulliLikelihood()), nn.Sequential(GaussianLikelihood())
COUNT = 600  # more than are looked at at once


def grey(count=COUNT, kind=np.float32, top=1.0):
    values = np.random.default_rng(0).random((count, 6, 6)) * top
    values[0, 0, :2] = 0, top  # the range is that of the training data
    return values.astype(kind)


def seen(values):
    """As a run sees them that was trained on values from 0 to the largest."""
    return Dataset.of(values).seen_as(Dataset.of(grey(kind=values.dtype, top=TOPS[values.dtype.name])).facts)


TOPS = {"float32": 1.0, "uint16": 4000}


@pytest.mark.parametrize("kind", TOPS)
@pytest.mark.parametrize("row", [0, 299, COUNT - 1])
def test_the_first_example_out_of_range_is_named_wherever_it_is(kind, row):
    values = grey(kind=kind, top=TOPS[kind])
    check_probabilities(SIGMOID, seen(values))
    values[row, 3, 3] = values[-1, 5, 5] = 1.5 * TOPS[kind]
    check_probabilities(OTHER, seen(values))  # a Gaussian reads any value
    with pytest.raises(DataError, match="a sigmoid likelihood") as caught:
        check_probabilities(SIGMOID, seen(values))
    where = str(caught.value.where)
    assert f": #{row}, values" in where and f"training had 0 ... {TOPS[kind]:g}" in where
    assert f"... {1.5 * TOPS[kind]:g};" in where and "1.5 instead of 0 to 1" in caught.value.what


def test_other_data_out_of_range_stop_training_and_evaluation_before_they_begin(tmp_path, capsys):
    data, bad, out = (tmp_path / name for name in ("data.npy", "bad.npy", "run"))
    np.save(data, grey(24))
    far = grey(COUNT)
    far[-1, 2, 2] = -0.25
    np.save(bad, far)
    dials = {"width": 8, "latent": 2, "components": 1, "model.codec.likelihood": "BernoulliLikelihood"}
    sets = [word for key, value in dials.items() for word in ("--set", f"{key}={value}")]
    words = ["train", "vae", str(data), "--out", str(out), "--examples", "8", *sets, "--json"]

    def told(arguments):
        code = command(arguments)
        return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])

    code, said = told([*words, "--test", str(bad)])
    assert code == 3 and f"#{COUNT - 1}, values -0.25" in said["where"] and not out.exists()
    assert told(words)[0] == 0
    code, said = told(["evaluate", str(out), "--test", str(bad), "-n", "10", "--json"])
    assert code == 3 and "a sigmoid likelihood" in said["error"]
    assert not (out / "evaluation.json").exists()
