"""Rows drawn by their losses: an interrupted training draws on as if nobody had disturbed it."""

import pytest
import torch
from test_resume import interrupted
from training_toys import final, trainer

from sfumato.diffusion.scaling import EpsScaling, Scaled
from sfumato.diffusion.tables import BetaTable
from sfumato.models.autoencoder import Autoencoder
from sfumato.models.codec import Pixels
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.models.likelihood import FixedGaussianLikelihood
from sfumato.nets.plain import MlpNet
from sfumato.nets.units import SigmoidUnits
from sfumato.objectives.penalties import BatchMean, KlSparsity, RunningMean
from sfumato.objectives.reconstruction import ReconstructionLoss
from sfumato.objectives.variational import Vlb
from sfumato.training.rates import Cosine
from sfumato.training.stage import Recipe, Stage


def by_losses(importance=True):
    """The bound of a table of four rows, each met in every step of eight: known after ten steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MlpNet(4, width=8, depth=1, out_channels=8)
    density = Diffusion(Scaled(net, EpsScaling()), BetaTable([0.01, 0.1, 0.3, 0.5]), (4,))
    objective = Vlb(256, importance)
    stage = Stage("only", objective, train="density", rate=Cosine(1e-2, warmup=16), batch=8)
    return Recipe(Generator(Pixels(), density), (stage,))


@pytest.mark.parametrize("how", ["killed", "signal"])
@pytest.mark.parametrize("micro", [0, 3])
def test_a_resumed_history_draws_the_rows_it_would_have_drawn(tmp_path, how, micro):
    settings = {"save_examples": 40} | ({"micro": micro} if micro else {})
    trainer(tmp_path / "whole", by_losses(), **settings).fit()
    k = 14 if not micro else 14 * 3
    interrupted(tmp_path / "cut", k, how, made=by_losses(), **settings)
    cut = trainer(tmp_path / "cut", by_losses(), **settings)
    cut.fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


def test_the_history_decides_what_is_drawn(tmp_path):
    """Without it the same training ends elsewhere, so the equality above says something."""
    trainer(tmp_path / "by-losses", by_losses()).fit()
    trainer(tmp_path / "uniform", by_losses(False)).fit()
    assert final(tmp_path / "by-losses")[0] != final(tmp_path / "uniform")[0]


def sparse(mean):
    """An autoencoder of points whose mean activation is remembered over some steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, decoder = torch.nn.Linear(4, 3), torch.nn.Linear(3, 4)
    model = Autoencoder(encoder, decoder, SigmoidUnits(), FixedGaussianLikelihood(), 3)
    objective = ReconstructionLoss(penalties=(KlSparsity(3.0, mean=mean),))
    return Recipe(model, (Stage("only", objective, rate=Cosine(1e-2, warmup=16), batch=8),))


@pytest.mark.parametrize("how", ["killed", "signal"])
@pytest.mark.parametrize("micro", [0, 3])
def test_a_running_mean_resumes_in_the_middle_of_a_stage(tmp_path, how, micro):
    settings = {"save_examples": 40} | ({"micro": micro} if micro else {})
    trainer(tmp_path / "whole", sparse(RunningMean(3, 32)), **settings).fit()
    interrupted(tmp_path / "cut", 14 * (3 if micro else 1), how, made=sparse(RunningMean(3, 32)), **settings)
    trainer(tmp_path / "cut", sparse(RunningMean(3, 32)), **settings).fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    trainer(tmp_path / "batch", sparse(BatchMean()), **settings).fit()
    assert final(tmp_path / "batch")[0] != final(tmp_path / "whole")[0]
