"""One loss for every prediction: equivalences of parametrisations, and closed forms of its expectation."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import SHAPE, ddpm, stirred

from sfumato.core.errors import DataError, UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import CosineTime
from sfumato.diffusion.exact import GaussianDenoiser
from sfumato.diffusion.level import Level
from sfumato.diffusion.paths import VariancePreserving
from sfumato.diffusion.scaling import EdmScaling, EpsScaling, FlowScaling, Scaled, VScaling, X0Scaling
from sfumato.diffusion.schedule import Schedule
from sfumato.diffusion.times import LogNormalSigma, TableTime, UniformTime
from sfumato.diffusion.weighting import Edm, Flow, Simple, Unweighted, V
from sfumato.models.classifier import NoisyClassifier
from sfumato.models.codec import Pixels
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.nets.critic import Classifier
from sfumato.nets.unet import UNet
from sfumato.objectives.cross_entropy import CrossEntropy, NoisyCrossEntropy
from sfumato.objectives.denoising import Denoising
from sfumato.objectives.progressive import Matching
from sfumato.objectives.vdm import Vdm

F64 = torch.float64
ROWS = {
    "x0": (X0Scaling(), Unweighted()),
    "eps": (EpsScaling(), Simple()),
    "v": (VScaling(), V()),
    "flow": (FlowScaling(), Flow()),
    "edm": (EdmScaling(0.5), Edm(0.5)),
}


def batch(n=16, dtype=F64):
    g = torch.Generator().manual_seed(0)
    return Batch(torch.rand(n, *SHAPE, dtype=dtype, generator=g) * 2 - 1, None, torch.arange(n))


@pytest.mark.parametrize("name", ROWS)
def test_each_weighting_makes_the_loss_the_error_of_its_prediction(name):
    """w |mean - x_0|^2 = |F - target|^2 for the network output F and the target of each row."""
    scaling, weighting = ROWS[name]
    net = stirred(UNet(1, 2, width=16, multipliers=(1,), blocks=1)).double()
    model = Generator(Pixels(), Diffusion(Scaled(net, scaling), CosineTime(low=-8, high=8), SHAPE))
    outputs = []
    net.register_forward_hook(lambda _, __, out: outputs.append(out))
    b = batch()
    found = Denoising(weighting, UniformTime())(model, b, noise=Noise([0], rows=16), seen=0).total
    noise = Noise([0], rows=16)
    log_snr = UniformTime().draw(model.density.schedule, noise, 16)
    level = model.density.schedule.path.level(log_snr)
    x_t = level.mix(b.x, noise.normal(b.x.shape, F64))
    wanted = ((outputs[0] - scaling.target(b.x, x_t, level)) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def test_the_exact_denoiser_has_the_loss_of_its_posterior_variance():
    """For data N(0, d^2) the x_0 error of the best answer is sigma^2 d^2 / (alpha^2 d^2 + sigma^2)."""
    d = 0.5
    schedule = CosineTime(low=-8, high=8)
    model = Generator(Pixels(), Diffusion(GaussianDenoiser(0.0, d), schedule, (64,)))
    g = torch.Generator().manual_seed(1)
    b = Batch(d * torch.randn(4000, 64, generator=g), None, torch.arange(4000))
    found = Denoising(Unweighted(), UniformTime(), dropout=0.0).judge(model, b, noise=Noise([0], rows=4000))
    for name, value in found.items():
        if name == "loss":
            continue
        level = schedule.path.level(float(name.rpartition("_")[2]))
        wanted = level.sigma**2 * d**2 / (level.alpha**2 * d**2 + level.sigma**2)
        assert value.mean().item() == pytest.approx(wanted, rel=0.03)


def test_the_edm_loss_of_an_untrained_network_is_one():
    """Preconditioning makes a zero output's error unit variance at every level, for data of spread d."""
    d = 0.5
    net = UNet(1, 2, width=16, multipliers=(1,), blocks=1)
    model = Generator(Pixels(), Diffusion(Scaled(net, EdmScaling(d)), CosineTime(), SHAPE))
    g = torch.Generator().manual_seed(1)
    b = Batch(d * torch.randn(400, *SHAPE, generator=g), None, torch.arange(400))
    judged = Denoising(Edm(d), LogNormalSigma()).judge(model, b, noise=Noise([0], rows=400))
    assert all(abs(v.mean() - 1) < 0.05 for v in judged.values())


def test_judging_repeats_itself_and_averages_its_levels():
    model, objective = ddpm(), Denoising(V(), UniformTime())
    b = batch(dtype=torch.float32)
    one, two = (objective.judge(model, b, noise=Noise([0], rows=16)) for _ in range(2))
    levels = [v for k, v in one.items() if k != "loss"]
    assert len(levels) == 6
    assert torch.equal(one["loss"], two["loss"])
    torch.testing.assert_close(one["loss"], torch.stack(levels).mean(0))


def test_the_unweighted_error_is_reported_and_not_trained():
    found = Denoising(V(), UniformTime())(
        ddpm(), batch(dtype=torch.float32), noise=Noise([0], rows=16), seen=0
    )
    assert set(found.weights) == {"denoising"}
    assert not found.terms["x0_error"].requires_grad and found.total.requires_grad


def test_only_diffusion_generators_can_be_denoised_and_dropout_is_a_probability():
    with pytest.raises(TypeError, match="Diffusion"):
        Denoising(V(), UniformTime())(torch.nn.Identity(), batch(), noise=Noise([0], rows=16), seen=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Denoising(V(), UniformTime(), dropout=1.5)


def test_level_of_the_network_is_the_level_of_the_noise():
    level = Level(torch.full((16,), 0.6), torch.full((16,), 0.8))
    model = ddpm()
    a = model.density.denoiser(batch(dtype=torch.float32).x, level).mean
    b = model.density.denoiser(batch(dtype=torch.float32).x, Level(0.6, 0.8)).mean
    torch.testing.assert_close(a, b)


# ------------------------------------------------------------------------------------ classifier


def labelled(n=10):
    b = batch(n, torch.float32)
    return Batch(b.x, torch.arange(n) % 5, b.index)


def test_cross_entropy_of_an_indifferent_classifier_is_log_k():
    model = Classifier(1, (8, 8), 5, width=8)
    torch.nn.init.zeros_(model.last.weight), torch.nn.init.zeros_(model.last.bias)
    found = CrossEntropy()(model, labelled(), noise=Noise([0], rows=10), seen=0)
    torch.testing.assert_close(found.total, torch.full((10,), 5.0).log())
    assert found.terms["accuracy"].mean().item() == pytest.approx(0.2)


def test_smoothing_mixes_in_the_uniform_law_and_judging_does_not():
    model, b = Classifier(1, (8, 8), 5, width=8), labelled()
    plain = CrossEntropy()(model, b, noise=Noise([0], rows=10), seen=0).total
    smooth = CrossEntropy(0.3)(model, b, noise=Noise([0], rows=10), seen=0).total
    uniform = -model(b.x).log_softmax(1).mean(1)
    torch.testing.assert_close(smooth, 0.7 * plain + 0.3 * uniform)
    torch.testing.assert_close(CrossEntropy(0.3).judge(model, b, noise=Noise([0]))["loss"], plain)


def test_a_classifier_without_labels_is_told():
    with pytest.raises(DataError, match="labelled"):
        CrossEntropy()(
            Classifier(1, (8, 8), 5, width=8), batch(dtype=torch.float32), noise=Noise([0]), seen=0
        )
    with pytest.raises(ValueError):
        CrossEntropy(1.0)


class Swinging(Schedule):
    """A clock that goes forth and back."""

    def __init__(self):
        super().__init__(VariancePreserving())

    def clock(self, t):
        return 6.0 * torch.sin(9.0 * t)

    def inverse(self, log_snr):
        return torch.asin(log_snr / 6.0) / 9.0


@pytest.mark.parametrize(
    "objective",
    [Denoising(Simple(), UniformTime()), Vdm(256), Matching(UniformTime(), Simple())],
    ids=lambda o: type(o).__name__,
)
def test_no_objective_begins_on_a_clock_that_does_not_fall(objective):
    net = UNet(1, 2, width=16, multipliers=(1,), blocks=1)
    objective.open(Generator(Pixels(), Diffusion(Scaled(net, VScaling()), CosineTime(), SHAPE)), 100)
    with pytest.raises(UsageError, match="does not fall"):
        objective.open(Generator(Pixels(), Diffusion(Scaled(net, VScaling()), Swinging(), SHAPE)), 100)


def test_no_objective_begins_to_draw_rows_of_a_schedule_without_any():
    noisy = NoisyClassifier(Classifier(1, (8, 8), 5, width=8, noisy=True), CosineTime())
    Denoising(Simple(), UniformTime()).open(ddpm(), 100)
    NoisyCrossEntropy(UniformTime()).open(noisy, 100)
    refused = pytest.raises(UsageError, match="rows of a table cannot be drawn from CosineTime")
    with refused:
        Denoising(Simple(), TableTime()).open(ddpm(), 100)
    with refused:
        NoisyCrossEntropy(TableTime()).open(noisy, 100)
    student = Matching(TableTime(), Simple())
    student.open(ddpm(), 100)
    with refused:
        student(ddpm(), batch(dtype=torch.float32), noise=Noise([0], rows=16), seen=0)
