"""The recipes of transformers: sizes by one dial, x-prediction where the paper has it, resume to the bit."""

import math

import pytest
import torch

from sfumato.core.condition import NOTHING
from sfumato.core.errors import Interrupted, UsageError
from sfumato.core.lazy import build
from sfumato.data.facts import Facts
from sfumato.data.sources import open_data
from sfumato.diffusion.level import Level
from sfumato.diffusion.scaling import X0Scaling
from sfumato.recipes import dit, jit
from sfumato.recipes.sizes import token_patch
from sfumato.training.budget import Examples
from sfumato.training.execution import Execution
from sfumato.training.rundir import RunDir
from sfumato.training.settings import Settings
from sfumato.training.trainer import Trainer
from sfumato.training.world import World

DIGITS = Facts(1, (8, 8), classes=("a", "b"), std=(0.75,))
LATENT = Facts(4, (32, 32), "float32", -1.0, 1.0)


@pytest.mark.parametrize(("width", "million"), [(384, 33), (768, 130), (1024, 458)])
def test_one_dial_makes_the_papers_sizes(width, million):
    """Peebles & Xie 2023, table 1: S 33 M, B 130 M and L 458 M parameters on 32 x 32 x 4 latents."""
    with torch.device("meta"):
        net = build(dit(LATENT, width=width)).model.density.denoiser.net
    assert net.patch == 2
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(million, rel=0.03)


@pytest.mark.parametrize("space", [(8, 8), (28, 28), (32, 32), (17, 23), (50,), (6, 8, 8), (256, 256)])
def test_patches_are_the_smallest_that_leave_few_tokens(space):
    patch = token_patch(Facts(1, space), 64)
    count = [math.prod(math.ceil(n / p) for n in space) for p in (patch, patch // 2 or patch)]
    assert count[0] <= 64 and (patch == 1 or count[1] > 64)


def test_the_answer_of_jit_is_the_image_itself_at_every_level():
    """x-prediction: the posterior mean is the network's output, and its loss the error of eps - x_0."""
    torch.manual_seed(0)
    recipe = build(jit(DIGITS, width=16))
    density, stage = recipe.model.density, recipe.stages[0]
    assert isinstance(density.denoiser.scaling, X0Scaling)
    torch.nn.init.normal_(density.denoiser.net.last.weight)
    x, eps = torch.randn(2, 3, 1, 8, 8).unbind()
    for sigma in (0.9, 0.5, 0.1):
        level = Level(1 - sigma, sigma)
        x_t = level.mix(x, eps)
        mean = density.denoiser(x_t, level, NOTHING).mean
        velocity = (x_t - mean) / sigma  # of the straight line through x_t and the mean
        expected = (velocity - (eps - x)).square().mean()
        weighed = stage.objective.weighting(level) * (mean - x).square().mean()
        torch.testing.assert_close(weighed, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("make", [dit, jit])
def test_points_are_refused(make):
    with pytest.raises(UsageError, match="these data are points"):
        make(Facts(2, (), "float32", -1.0, 1.0))


@pytest.mark.parametrize("make", [dit, jit])
def test_a_stopped_training_ends_as_one_nobody_stopped(make, tmp_path):
    data = open_data("digits")

    def trained(path, stop_at=None):
        torch.manual_seed(0)
        recipe = build(make(data.facts, width=16, patch=4, batch=32))
        run = RunDir(path)
        run.begin({"recipe": 1}, data.facts.to_json(), {})
        trainer = Trainer(
            recipe,
            data,
            run,
            budget=Examples(160),
            world=World(torch.device("cpu")),
            settings=Settings(looks=0, execution=Execution()),
        )
        batch, calls = data.batch, []

        def counted(*arguments):
            calls.append(1)
            trainer.stop.requested = 15 if len(calls) == stop_at else trainer.stop.requested
            return batch(*arguments)

        trainer.data.batch = counted
        try:
            return trainer.fit()
        finally:
            data.batch = batch

    whole = trained(tmp_path / "whole")
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", stop_at=3)
    parts = trained(tmp_path / "parts")
    a, b = whole.state_dict(), parts.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert any(v.abs().max() > 0 for k, v in a.items() if "net.last" in k)
