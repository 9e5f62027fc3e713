"""Likelihood as a training loss: what each gradient reaches, what is unbiased, what is least."""

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from small_models import SHAPE, stirred

from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import CosineTime, FlowTime, LogSnrLine
from sfumato.diffusion.denoiser import Denoiser, Posterior
from sfumato.diffusion.exact import GaussianDenoiser
from sfumato.diffusion.learned import LearnedSnr
from sfumato.diffusion.scaling import EpsScaling, Scaled
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas
from sfumato.diffusion.transition import (
    InterpolatedVariance,
    LargeVariance,
    MatchedVariance,
    SmallVariance,
)
from sfumato.models.codec import Pixels
from sfumato.models.density import Plan
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.nets.unet import UNet
from sfumato.objectives.estimate import Look
from sfumato.objectives.history import KEPT, UNIFORM, LossHistory
from sfumato.objectives.variational import Hybrid, Vlb
from sfumato.objectives.vdm import Vdm

F64 = torch.float64
LEVELS = 256
WIDTH = 2 / (LEVELS - 1)


def batch_of(x):
    return Batch(x, None, torch.arange(len(x)))


def pictures(n=16, shape=SHAPE, std=0.25, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = (std * torch.randn(n, *shape, generator=g, dtype=F64)).clamp(-1, 1)
    return batch_of(((x + 1) / WIDTH).round() * WIDTH - 1)


def generator(denoiser, schedule, shape=SHAPE):
    return Generator(Pixels(), Diffusion(denoiser, schedule, shape), plan=Plan(clip=False))


def trained_variance(table=None, outputs=2):
    net = stirred(UNet(1, 2, width=16, multipliers=(1,), blocks=1, out_channels=outputs)).double()
    return generator(Scaled(net, EpsScaling()), table or BetaTable(linear_betas(20, 1e-3, 0.5)))


class WithFraction(Denoiser):
    """The exact denoiser of N(0, std^2), with a fraction that may depend on the level."""

    def __init__(self, std, fraction):
        super().__init__()
        self.exact, self.fraction = (
            GaussianDenoiser(torch.zeros((), dtype=F64), torch.tensor(std, dtype=F64)),
            fraction,
        )

    def forward(self, x_t, level, cond=None):
        p = self.exact(x_t, level)
        f = self.fraction(level, x_t) if callable(self.fraction) else self.fraction
        return Posterior(p.mean, p.var, f * torch.ones_like(x_t))


# --------------------------------------------------------------------------------- gradients


def gradients(model, loss):
    model.zero_grad()
    loss.sum().backward()
    return model.density.denoiser.net.last.weight.grad.clone()


def test_the_bound_in_the_hybrid_trains_the_variance_and_not_the_mean():
    model, b = trained_variance(), pictures()
    found = Hybrid(LEVELS)(model, b, noise=Noise([0], rows=16), seen=0)
    bound = gradients(model, found.terms["vlb"])
    assert bound[:1].abs().max() == 0.0 and bound[1:].abs().max() > 0.0
    simple = gradients(model, Hybrid(LEVELS)(model, b, noise=Noise([0], rows=16), seen=0).terms["denoising"])
    assert simple[:1].abs().max() > 0.0 and simple[1:].abs().max() == 0.0


def test_the_bound_alone_trains_both():
    model = trained_variance()
    found = Vlb(LEVELS)(model, pictures(), noise=Noise([0], rows=16), seen=0)
    both = gradients(model, found.total)
    assert both[:1].abs().max() > 0.0 and both[1:].abs().max() > 0.0


def test_the_hybrid_weighs_the_bound_in_bits_per_dimension():
    model = trained_variance()
    found = Hybrid(LEVELS, share=0.01)(model, pictures(), noise=Noise([0], rows=16), seen=0)
    wanted = found.terms["denoising"] + 0.01 * found.terms["vlb"] / (64 * math.log(2))
    torch.testing.assert_close(found.total, wanted)


def test_every_gradient_is_finite_at_every_row():
    """Also at row 0, before which there is no step, and for the table whose last beta is 0.999."""
    model = trained_variance(BetaTable(cosine_betas(16)))
    for k in range(20):
        for objective in (Vlb(LEVELS), Hybrid(LEVELS)):
            found = objective(model, pictures(), noise=Noise([k], rows=16), seen=0)
            assert torch.isfinite(gradients(model, found.total)).all()


def test_the_loss_of_the_bound_has_the_bound_as_its_mean():
    """Averaged over draws of rows, Vlb and the hybrid's term are the bound's two trained terms."""
    b = pictures(4000, (2,))
    model = generator(WithFraction(0.25, 0.4), BetaTable(linear_betas(20, 1e-3, 0.5)), (2,))
    wanted = Look(
        model.density.denoiser, model.density.schedule, b.x, LEVELS, Noise([0], rows=4000)
    ).estimate(99, InterpolatedVariance())
    wanted = float((wanted.terms["steps"] + wanted.terms["decoder"]).mean())
    for objective in (Vlb(LEVELS), Hybrid(LEVELS)):
        draws = [objective(model, b, noise=Noise([k], rows=4000), seen=0).terms["vlb"] for k in range(10)]
        found = torch.stack(draws)
        assert abs(float(found.mean()) - wanted) < 4 * float(found.std()) / 200 + 0.02


def test_the_learned_variance_of_a_known_case_is_the_exact_one():
    """Gradient descent on a fraction by row finds where the exact variance lies in the range."""
    table = BetaTable(linear_betas(20, 1e-3, 0.5))
    raw = torch.nn.Parameter(torch.full((20,), 0.5, dtype=F64))

    def fraction(level, x_t):
        rows = torch.as_tensor(table.index(level)).round().long().expand(len(x_t))
        return raw[rows].view(-1, 1)

    model = generator(WithFraction(0.25, fraction), table, (1,))
    b, objective = pictures(2000, (1,)), Hybrid(LEVELS)
    optimizer = torch.optim.Adam([raw], 0.05)
    for k in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - k / 300)
        optimizer.zero_grad()
        objective(model, b, noise=Noise([k], rows=2000), seen=0).terms["vlb"].mean().backward()
        optimizer.step()
    judged = 0
    for row in range(1, 20):
        t, s = table.at(row), table.at(row - 1)
        exact = float(MatchedVariance()(t, s, WithFraction(0.25, 0.0)(torch.zeros(1, 1, dtype=F64), t)))
        small, large = (float(v(t, s, Posterior(torch.zeros(1)))) for v in (SmallVariance(), LargeVariance()))
        if math.log(large / small) > 0.4:  # of a narrower range the place does not matter
            judged += 1
            wanted = math.log(exact / small) / math.log(large / small)
            assert float(raw[row].detach()) == pytest.approx(wanted, abs=0.12), row
    assert judged >= 4


# ------------------------------------------------------------------------------ rows by their losses


def filled(rows=6, seed=0):
    history, g = LossHistory(rows), torch.Generator().manual_seed(seed)
    for _ in range(KEPT + 3):
        history.note(torch.arange(rows), torch.rand(rows, generator=g) * torch.arange(1, rows + 1))
        history.commit()
    return history


def test_rows_are_uniform_until_all_were_met_and_then_go_by_their_losses():
    history = LossHistory(3)
    for k in range(KEPT):
        assert torch.allclose(history.probabilities(), torch.full((3,), 1 / 3, dtype=F64))
        history.note(torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 0.0]))
        assert torch.allclose(history.probabilities(), torch.full((3,), 1 / 3, dtype=F64)), k
        history.commit()
    wanted = (1 - UNIFORM) * torch.tensor([1 / 3, 2 / 3, 0], dtype=F64) + UNIFORM / 3
    assert torch.allclose(history.probabilities(), wanted)


def test_only_the_last_losses_count_and_what_is_not_finite_is_left_out():
    history = LossHistory(2)
    for value in [*([9.0] * 20), *([1.0] * KEPT)]:
        history.note(torch.tensor([0, 1, 1]), torch.tensor([value, 2 * value, math.nan]))
        history.commit()
    assert torch.allclose(history.squares, torch.tensor([[1.0], [4.0]], dtype=F64).expand(2, KEPT))


def test_parts_of_a_step_are_one_step():
    whole, parts = filled(), filled()
    rows, losses = torch.tensor([0, 0, 3, 5]), torch.tensor([1.0, 3.0, 2.0, 4.0])
    whole.note(rows, losses)
    parts.note(rows[:2], losses[:2]), parts.note(rows[2:], losses[2:])
    assert torch.equal(whole.probabilities(), filled().probabilities())
    whole.commit(), parts.commit()
    assert torch.equal(whole.squares, parts.squares) and torch.equal(whole.met, parts.met)


def test_drawing_by_losses_is_unbiased_and_varies_less():
    """E[L_i / p(i)] = sum of L_i whatever p; with p by the losses themselves the spread all but vanishes."""
    history, rows = LossHistory(6), torch.arange(6)
    losses = torch.tensor([5.0, 1.0, 0.5, 0.1, 0.02, 0.01], dtype=F64)
    u = (torch.arange(60_000, dtype=F64) + 0.5) / 60_000
    at, p = history.draw(u)
    uniform = losses[at] / p
    for _ in range(KEPT):
        history.note(rows, losses)
        history.commit()
    at, p = history.draw(u)
    drawn = losses[at] / p
    assert float(uniform.mean()) == pytest.approx(float(losses.sum()), rel=1e-3)
    assert float(drawn.mean()) == pytest.approx(float(losses.sum()), rel=1e-3)
    assert drawn.std() < 0.05 * uniform.std()
    with pytest.raises(ValueError, match="0 rows"):
        LossHistory(0)


def test_a_row_that_a_step_has_not_met_keeps_its_past():
    history = filled(3)
    before, met = history.squares.clone(), history.met.clone()
    history.note(torch.tensor([1, 1]), torch.tensor([2.0, 4.0]))
    history.commit()
    slot = int(met[1]) % KEPT
    assert history.met.tolist() == [int(met[0]), int(met[1]) + 1, int(met[2])]
    assert float(history.squares[1, slot]) == pytest.approx(10.0)
    before[1, slot] = history.squares[1, slot]
    assert torch.equal(history.squares, before)


def test_losses_of_nothing_leave_the_rows_uniform():
    history = LossHistory(2)
    for _ in range(KEPT):
        history.note(torch.arange(2), torch.zeros(2))
        history.commit()
    assert torch.equal(history.probabilities(), torch.full((2,), 0.5, dtype=F64))


def test_training_fills_the_history_and_judging_does_not():
    model, objective = trained_variance(), Vlb(LEVELS)
    objective.open(model, 0)
    for k in range(3):
        objective(model, pictures(), noise=Noise([k], rows=16), seen=0)
        assert objective.sums(model)[0][1].sum() == 16
        objective.after_step(model, 0)
    assert objective.history.met.sum() > 3 and objective.history.pending.abs().sum() == 0
    before = objective.history.squares.clone()
    objective.eval()
    objective(model, pictures(), noise=Noise([5], rows=16), seen=0)
    objective.judge(model, pictures(), noise=Noise([0], rows=16))
    assert torch.equal(objective.history.squares, before) and objective.history.pending.abs().sum() == 0
    assert set(objective.state_dict()) == {"history.squares", "history.met", "history.pending"}


# --------------------------------------------------------------------------------- continuous time


def vdm_terms(schedule, n=20_000, seed=0, shape=(1,)):
    exact = GaussianDenoiser(torch.zeros((), dtype=F64), torch.tensor(0.25, dtype=F64))
    model = generator(exact, schedule, shape)
    return Vdm(LEVELS)(model, pictures(n, shape), noise=Noise([seed], rows=n), seen=0)


def bent(seed=3, spread=2.0):
    """A learned clock whose interior is far from a line, with the ends it was made with."""
    clock = LearnedSnr(-6.0, 7.0, 16)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in (clock.weights, clock.slopes, clock.centres):
            p.add_(spread * torch.randn(p.shape, generator=g))
        clock.weights.add_(5.0)
    return clock


def test_the_continuous_loss_depends_on_the_ends_and_not_on_the_interior():
    schedules = [LogSnrLine(-6.0, 7.0), CosineTime(-6.0, 7.0), LearnedSnr(-6.0, 7.0), bent(), bent(8)]
    means, errors = [], []
    for schedule in schedules:
        steps = vdm_terms(schedule).terms["steps"]
        means.append(float(steps.mean().detach()))
        errors.append(float(steps.std().detach()) / math.sqrt(20_000))
    assert max(abs(m - means[0]) for m in means[1:]) < 4 * max(errors)
    elsewhere = vdm_terms(LogSnrLine(-6.0, 4.0)).terms["steps"]
    assert not elsewhere.requires_grad  # nothing to learn: the exact denoiser on a fixed clock
    assert abs(float(elsewhere.mean()) - means[0]) > 0.5


def test_the_ends_are_trained_by_the_bound_and_the_interior_by_its_variance():
    """The hook's gradient of the interior is that of E[(c steps)^2], which a second pass computes."""
    clock = bent(spread=0.5)
    loss = vdm_terms(clock, 500)
    loss.total.sum().backward()
    hooked = {name: p.grad.clone() for name, p in clock.named_parameters()}
    clock.zero_grad()
    exact = GaussianDenoiser(torch.zeros((), dtype=F64), torch.tensor(0.25, dtype=F64))
    scale = 1 / math.log(2)
    b, noise = pictures(500, (1,)), Noise([0], rows=500)
    position, slope = clock.interior(noise.stratified(500))
    level = clock.path.level(clock.at(position))
    x_t = level.mix(b.x, noise.normal(b.x.shape, F64))
    error = (exact(x_t, level).mean - b.x).flatten() ** 2
    steps = scale * clock.span(slope) * slope * 0.5 * error * torch.exp(level.log_snr)
    squares = torch.autograd.grad((steps**2).sum(), [clock.weights, clock.slopes, clock.centres])
    for name, wanted in zip(("weights", "slopes", "centres"), squares, strict=True):
        torch.testing.assert_close(hooked[name], wanted, rtol=1e-4, atol=1e-6)
    assert hooked["low"].abs() > 0 and hooked["range"].abs() > 0


def test_training_the_interior_lowers_the_variance_and_keeps_the_bound():
    clock = bent()
    before = vdm_terms(clock).terms["steps"].detach()
    ends = [clock.log_snr(t) for t in (0.0, 1.0)]
    optimizer = torch.optim.Adam([clock.weights, clock.slopes, clock.centres], 0.1)
    for k in range(120):
        optimizer.zero_grad()
        vdm_terms(clock, 500, seed=k + 1).total.mean().backward()
        optimizer.step()
    after = vdm_terms(clock).terms["steps"].detach()
    assert [clock.log_snr(t) for t in (0.0, 1.0)] == ends
    assert after.std() < 0.8 * before.std()
    assert abs(float(after.mean() - before.mean())) < 5 * float(before.std()) / math.sqrt(20_000)


def test_training_the_ends_finds_the_true_entropy_from_above():
    clock = LearnedSnr(-1.0, 3.0, 4)
    entropy = math.log2(0.25 * math.sqrt(2 * math.pi * math.e) / WIDTH)
    exact = GaussianDenoiser(torch.zeros((), dtype=F64), torch.tensor(0.25, dtype=F64))

    def bound():
        look = Look(exact, clock, pictures(20_000, (1,)).x, LEVELS, Noise([7], rows=20_000))
        return float(look.estimate(24).total.mean()) / math.log(2)

    first, optimizer = bound(), torch.optim.Adam([clock.low, clock.range], 0.1)
    for k in range(60):
        optimizer.zero_grad()
        vdm_terms(clock, 1000, seed=k + 1).total.mean().backward()
        optimizer.step()
    last = bound()
    assert first > entropy + 0.1 and entropy - 0.04 < last < entropy + 0.06


# ------------------------------------------------------------------------------------------ refusals


def test_what_has_no_bound_says_so():
    continuous = generator(WithFraction(0.25, 0.5), CosineTime(), SHAPE)
    for objective in (Vlb(LEVELS), Hybrid(LEVELS)):
        with pytest.raises(UsageError, match="needs a table of betas, not CosineTime"):
            objective(continuous, pictures(), noise=Noise([0], rows=16), seen=0)
        with pytest.raises(ValueError, match="twice the output channels"):
            objective(trained_variance(outputs=1), pictures(), noise=Noise([0], rows=16), seen=0)
    with pytest.raises(UsageError, match="finite ends"):
        Vdm(LEVELS)(
            generator(WithFraction(0.25, 0.5), FlowTime()), pictures(), noise=Noise([0], rows=16), seen=0
        )
    for make in (Vlb, Hybrid, Vdm):
        with pytest.raises(UsageError, match="data of integers"):
            make(None)
    with pytest.raises(ValueError, match="share of the bound"):
        Hybrid(LEVELS, share=-1.0)


def test_judging_repeats_itself_and_is_the_bound_in_bits():
    model, b = trained_variance(), pictures()
    for objective in (Vlb(LEVELS), Hybrid(LEVELS)):
        one, two = (objective.judge(model, b, noise=Noise([0], rows=16)) for _ in range(2))
        assert torch.equal(one["loss"], two["loss"])
        total = one["prior"] + one["steps"] + one["decoder"]
        torch.testing.assert_close(one["loss"], total / (64 * math.log(2)))
