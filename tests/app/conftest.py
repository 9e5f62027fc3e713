"""Tiny runs, trained once for all tests of the app: they are real, only small."""

import shutil
from pathlib import Path

import pytest

from sfumato.app.console import Console
from sfumato.app.train import Budget, train

SMALL = {
    "width": 16,
    "model.conditioner.first.codec.encoder.width": 16,
    "model.conditioner.first.codec.decoder.width": 16,
    "model.plan.steps": 3,
    "conditional": True,
}


def quiet() -> Console:
    """A console that says nothing."""
    return Console(silent=True)


@pytest.fixture(scope="session")
def small() -> dict:
    """The settings of the tiny run."""
    return SMALL


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with a class-conditional DiffuseVAE and a classifier of digits, for reading only."""
    folder = tmp_path_factory.mktemp("runs")
    train(
        "classifier",
        "digits",
        out=folder / "judge",
        budget=Budget(examples=2560),
        settings={"width": 8},
        console=quiet(),
        looks=1,
    )
    train(
        "diffusevae",
        "digits",
        out=folder / "model",
        budget=Budget(examples=2560),
        settings=SMALL,
        precision="fp32",
        console=quiet(),
        looks=2,
    )
    return folder


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    """A copy of the trained runs that a test may write to, elsewhere than where they were trained."""
    return Path(shutil.copytree(trained, tmp_path / "moved"))
