"""Laws of what students are taught: exact students, guided teachers, averaged targets, distances, weights."""

import math
from itertools import pairwise

import pytest
import torch
from distilled_worlds import BATCH, EXACT, ROW, SCHEDULES, TIMES, Drops, Flow, error, generator, name, scene
from exact_worlds import F64, STD, gaussian, gaussian_flow, line, mixture, starts
from numpy.polynomial.hermite_e import hermegauss

from sfumato.core.condition import NOTHING, Condition
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import geometric
from sfumato.diffusion.denoiser import Denoiser, Posterior
from sfumato.diffusion.paths import VarianceExploding, VariancePreserving
from sfumato.diffusion.scaling import Scaled
from sfumato.diffusion.times import LogNormalSigma
from sfumato.diffusion.weighting import Snr, Unweighted
from sfumato.models.codec import Pixels
from sfumato.models.diffusion import Diffusion
from sfumato.models.generator import Generator
from sfumato.objectives.consistency import Doubling, Easing, Mixed, SelfConsistency, Stepped, pseudo_huber
from sfumato.objectives.continuous import Continuous
from sfumato.objectives.distiller import Teaching, ratios
from sfumato.objectives.progressive import Matching, Progressive, at, one_for_two
from sfumato.objectives.shortcut import Shortcut
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Angle
from sfumato.samplers.heun import Heun
from sfumato.samplers.leap import Leap
from sfumato.samplers.solver import integrate

# --------------------------------------------------------------------------- progressive distillation


class Lines(torch.nn.Module):
    """A network that is a line a x + b for each level of a grid, found by the level it is told."""

    def __init__(self, levels):
        super().__init__()
        places = [-level.log_snr / 8.0 for level in levels]
        self.register_buffer("places", torch.tensor(places, dtype=F64))
        self.lines = torch.nn.Parameter(torch.zeros(len(levels), 2, dtype=F64))

    def forward(self, x, c_noise, cond=NOTHING):
        gap = (torch.as_tensor(c_noise, dtype=F64).reshape(-1, 1) - self.places).abs()
        assert float(gap.min(1).values.max()) < 1e-6, "asked at a level that no round has trained"
        a, b = self.lines[gap.argmin(1)].unbind(1)
        return a[:, None] * x + b[:, None]


def distilled(teacher, schedule, steps):
    """The student of one round: the least of its loss, which is quadratic in the lines, by a Newton step."""
    levels = Angle(STD).levels(schedule, steps)[:-1]
    student = Generator(Pixels(), Diffusion(Scaled(Lines(levels), ROW), schedule, (1,)))
    objective = Progressive(steps, Angle(STD), Snr(1.0), EXACT)
    place = scene(objective, gaussian(), schedule)._replace(density=student.density)
    objective.open(teacher, 0)
    lines = student.density.denoiser.net.lines
    loss = objective.error(place, Noise([steps], rows=BATCH)).mean()
    (slope,) = torch.autograd.grad(loss, lines, create_graph=True)
    rows = [torch.autograd.grad(v, lines, retain_graph=True)[0].flatten() for v in slope.flatten()]
    with torch.no_grad():
        lines -= torch.linalg.solve(torch.stack(rows), slope.flatten()).view_as(lines)
        assert float(objective.error(place, Noise([9], rows=BATCH)).max()) < 1e-12
    return student


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_a_student_of_all_rounds_makes_in_one_step_what_its_teacher_makes_in_eight(schedule):
    """8 -> 4 -> 2 -> 1 on an exact Gaussian denoiser, whose targets are lines: no error is left to add up."""
    student = generator(gaussian(), schedule)
    for steps in (4, 2, 1):
        student = distilled(student, schedule, steps)
    grids = [Angle(STD).levels(schedule, n) for n in (1, 8)]
    x = starts(grids[1][0])
    with torch.no_grad():
        one = integrate(student.density.denoiser, Ddim(), grids[0], x)
        eight = integrate(gaussian(), Ddim(), grids[1], x)
        untaught = integrate(gaussian(), Ddim(), grids[0], x)
    assert float((one - eight).abs().max()) < 1e-6 < 0.1 < float((untaught - eight).abs().max())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_a_rounds_error_is_the_squared_difference_times_the_truncated_snr(schedule):
    """max(SNR, 1) |answer - target|^2 at every level of the round, on either side of SNR = 1."""
    steps, objective = 8, Progressive(8, Angle(STD), Snr(1.0), EXACT)
    place = scene(objective, mixture(), schedule, teacher=gaussian())
    levels = Angle(STD).levels(schedule, 2 * steps)
    t, u, s = (at(levels, 2 * torch.floor(place.u * steps).long() + k) for k in range(3))
    x_t = t.mix(place.x, Noise([1], rows=BATCH).normal(place.x.shape, F64))
    target = one_for_two(Ddim(), gaussian(), x_t, t, u, s)
    difference = (mixture()(x_t, t).mean - target)[:, 0]
    snr = (t.alpha / t.sigma) ** 2
    with torch.no_grad():
        found = objective.error(place, Noise([1], rows=BATCH))
    assert bool((snr < 0.9).any()) and bool((snr > 2.0).any())
    assert torch.allclose(found, snr.clamp(min=1.0) * difference**2, rtol=1e-4, atol=1e-9)


# --------------------------------------------------------------------------- guided teachers


class Told(Denoiser):
    """A Gaussian world whose mean moves by `reach` times -1/2 or 1/2, by the class where there is one.

    All worlds have one deviation, so guidance of strength w is the world of reach w: the answer is that of
    MEAN, moved along. The same is true of the exact flow.
    """

    def __init__(self, inner, reach):
        super().__init__()
        self.inner, self.reach = inner, reach

    def forward(self, x_t, level, cond=NOTHING):
        present = 1.0 if cond.present is None else cond.present.to(F64)
        shift = (self.reach * (cond.label.to(F64) - 0.5) * present)[:, None]
        a = level.alpha.reshape(-1, 1) if isinstance(level.alpha, torch.Tensor) else level.alpha
        return Posterior(self.inner(x_t - a * shift, level).mean + shift)


LABELS = Condition(label=torch.arange(BATCH) % 2)
STRENGTH = 3.0


def test_a_guided_teacher_answers_the_extrapolated_mean():
    """uncond + w (cond - uncond), and the conditional mean itself outside the interval."""
    objective = Matching(TIMES, Snr(), Teaching(scale=STRENGTH, interval=(-2.0, 2.0), clip=False))
    place = scene(objective, Told(gaussian(), 1.0), geometric())
    log_snr = torch.linspace(-4.0, 4.0, BATCH, dtype=F64)
    level = place.level(log_snr)
    x_t = level.mix(place.x, Noise([1], rows=BATCH).normal(place.x.shape, F64))
    never = LABELS.drop(torch.zeros(BATCH, dtype=torch.bool))
    cond, free = (Told(gaussian(), 1.0)(x_t, level, c).mean for c in (LABELS, never))
    guided = free + STRENGTH * (cond - free)
    expected = torch.where((log_snr.abs() <= 2.0)[:, None], guided, cond)
    with torch.no_grad():
        found = objective.taught(x_t, level, LABELS).mean
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert float((guided - cond).abs().max()) > 0.5


GUIDED = Teaching(scale=STRENGTH, clip=False)
NEAR = LogNormalSigma(-0.5, 1.0)


@pytest.mark.parametrize(
    ("objective", "answer", "bound"),
    [
        (Matching(TIMES, Unweighted(), GUIDED), gaussian, 1e-10),
        (Shortcut(TIMES, Unweighted(), Angle(STD), Leap(STD), 8, 0.0, GUIDED), gaussian, 1e-10),
        (SelfConsistency(NEAR, Doubling(640, 640), Stepped(Heun()), teaching=GUIDED), Flow, 1e-3),
        (Continuous(NEAR, 0.0, GUIDED), Flow, 1e-5),
    ],
    ids=lambda v: name(v) if isinstance(v, torch.nn.Module) else "",
)
def test_the_student_of_a_guided_teacher_has_the_guided_world_as_its_fixed_point(objective, answer, bound):
    """No loss in the world of reach w, and a large one in that of the teacher without its guidance."""
    losses = []
    for reach in (STRENGTH, 1.0):
        student = Told(answer(), reach)
        place = scene(objective, student, geometric(), teacher=Told(gaussian(), 1.0))._replace(cond=LABELS)
        with torch.no_grad():
            losses.append(float(objective.error(place, Noise([1], rows=BATCH)).mean()))
    assert losses[0] < bound and losses[1] > 50 * bound


# --------------------------------------------------------------------------- targets of consistency


def averaged(average):
    """An opened objective whose student, the exact posterior mean, pairs by mixing."""
    objective = SelfConsistency(TIMES, Easing(STD, 8), Mixed(), average, teaching=EXACT)
    model = generator(gaussian(), geometric())
    objective.open(model, 1000)
    return objective, model


def test_the_followers_weights_are_the_decayed_average_of_the_students():
    """m_k = a^k w_0 + (1 - a) sum_i a^(k - i) w_i, exactly."""
    a, steps = 0.9, 7
    objective, model = averaged(a)
    weight, seen = model.density.denoiser.net.scale, [1.0]
    for k in range(1, steps + 1):
        seen.append(1.0 + 0.3 * math.sin(k))
        weight.data.fill_(seen[-1])
        objective.after_step(model, k)
    expected = a**steps * seen[0] + (1 - a) * sum(a ** (steps - i) * seen[i] for i in range(1, steps + 1))
    assert math.isclose(float(objective.follower.net.scale), expected, rel_tol=1e-12)
    assert not objective.follower.net.scale.requires_grad and weight.requires_grad


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_the_target_is_the_followers_answer(scale):
    """|f(x_t) - follower(x_r)|_c / (t - r): the loss of the student's own target only where weights agree."""
    objective, model = averaged(0.9)
    plain, _ = averaged(0.0)
    place = scene(plain, gaussian(), geometric(), progress=0.6)._replace(density=model.density)
    student, follower = model.density.denoiser, generator(gaussian(), geometric()).density.denoiser
    student.net.scale.data.fill_(scale)
    t, r = (place.level(-2.0 * torch.log(v)) for v in Easing(STD, 8)(ratios(TIMES, place), 0.6, geometric()))
    eps = Noise([1], rows=BATCH).normal(place.x.shape, F64)
    with torch.no_grad():
        answer = student(t.mix(place.x, eps), t, NOTHING).mean
        target = follower(r.mix(place.x, eps), r, NOTHING).mean
        expected = pseudo_huber(answer, target, objective.huber) / (t.sigma / t.alpha - r.sigma / r.alpha)
        with_average, without = (o.error(place, Noise([1], rows=BATCH)) for o in (objective, plain))
    assert torch.allclose(with_average, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(with_average, without) is (scale == 1.0)
    objective.error(place, Noise([1], rows=BATCH)).mean().backward()
    assert objective.follower.net.scale.grad is None and float(student.net.scale.grad.abs()) > 0


@pytest.mark.parametrize(
    "objective",
    [
        SelfConsistency(TIMES, Easing(STD, 8), Mixed(), 0.9, teaching=EXACT),
        Shortcut(TIMES, Snr(1.0), Angle(STD), Leap(STD), 8, 0.5, EXACT, average=0.9),
    ],
    ids=name,
)
def test_dropout_rests_in_an_average_of_the_weights_too(objective):
    """Its targets are those of evaluation in the training mode that a stage sets."""
    model = generator(gaussian(), geometric())
    model.density.denoiser.net = Drops(gaussian(), ROW, geometric().path)
    model.density.denoiser.net.scale.data.mul_(0.9)
    objective.open(model, 1000)
    x = STD * Noise([2], rows=BATCH).normal((BATCH, 1), F64)
    batch, losses = Batch(x, None, torch.arange(BATCH)), []
    for mode in (True, False):
        objective.train(mode)
        losses.append(objective(model, batch, noise=Noise([1], rows=BATCH), seen=900).total)
    assert torch.equal(*losses) and float(losses[0].detach().mean()) > 0


def wavy(x, level):
    """An answer that is no line in x_t."""
    return torch.sin(3.0 * Flow()(x, level).mean)


@pytest.mark.parametrize("path", [VariancePreserving(), VarianceExploding()], ids=repr)
def test_targets_of_mixed_pairs_are_right_on_average_as_the_gap_closes(path):
    """Over all (x, eps) behind one x_t: a mixed pair's target is a DDIM step's up to order two in the gap.

    Divided by the gap, as the loss is, that is a bias of order one. For an answer that is a line in x_t there
    is none at any gap, since the mean of x_r given x_t is where DDIM leads. Averages by quadrature.
    """
    nodes, weights = hermegauss(40)
    z, w = (torch.as_tensor(v, dtype=F64) for v in (nodes, weights / weights.sum()))
    t = line(path, 8)[4]
    x_t = starts(t, 5)
    posterior = gaussian()(x_t, t)
    x = posterior.mean + posterior.var.sqrt() * z
    eps = (x_t - t.alpha * x) / t.sigma
    straight, ddim, flow = [], [], []
    for gap in (0.2, 0.1, 0.05):
        r = path.level(t.log_snr + gap)
        pairs = Mixed().earlier(gaussian(), x, eps, x_t, t, r, NOTHING)
        step = Stepped(Ddim()).earlier(gaussian(), x_t, x_t, x_t, t, r, NOTHING)
        assert torch.allclose(pairs @ w, step[:, 0], rtol=0, atol=1e-12)
        straight.append(float((Flow()(pairs, r).mean @ w - Flow()(step, r).mean[:, 0]).abs().max()))
        mean = wavy(pairs, r) @ w
        ddim.append(float((mean - wavy(step, r)[:, 0]).abs().max()))
        flow.append(float((mean - wavy(gaussian_flow(x_t, t, r), r)[:, 0]).abs().max()))
    assert max(straight) < 1e-12
    for bias in (ddim, flow):
        orders = [math.log2(bias[k] / bias[k + 1]) for k in range(2)]
        assert bias[0] > 1e-4 and all(1.85 < order < 2.15 for order in orders)


# --------------------------------------------------------------------------- pseudo-Huber


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("c", [0.0, 1e-6, 0.00054, 0.03, 0.7])
def test_the_pseudo_huber_distance_is_zero_at_equality_and_its_gradient_finite(c, dtype):
    a = torch.linspace(-1, 1, 12, dtype=dtype).view(4, 3).requires_grad_()
    found = pseudo_huber(a, a.detach(), c)
    found.sum().backward()
    assert torch.equal(found, torch.zeros(4, dtype=dtype)) and torch.equal(a.grad, torch.zeros_like(a))
    apart = [pseudo_huber(a.detach() + d, a.detach(), c) for d in (1e-7, 1e-5, 1e-3, 0.1, 10.0)]
    assert all(bool((later >= now).all()) for now, later in pairwise(apart))
    assert bool((apart[0] >= 0).all())


def test_the_pseudo_huber_distance_is_straight_far_away_and_square_nearby():
    """|d| for c -> 0; d^2 / 2c for |d| << c, in float32 too, where the difference of roots has no digits."""
    zero, d = torch.zeros(1, 4, dtype=F64), torch.tensor([[0.3, -0.4, 0.5, 0.1]], dtype=F64)
    size = float(d.square().mean().sqrt())
    for c in (1e-2, 1e-4, 0.0):
        assert abs(float(pseudo_huber(d, zero, c)) - size) <= c + 1e-7
    for dtype in (torch.float32, F64):
        near = float(pseudo_huber(1e-4 * d.to(dtype), zero.to(dtype), 0.5))
        assert math.isclose(near, (1e-4 * size) ** 2 / (2 * 0.5), rel_tol=1e-5)
    c, s = 0.3, size
    assert math.isclose(float(pseudo_huber(d, zero, c)), math.sqrt(s * s + c * c) - c, rel_tol=1e-12)


# --------------------------------------------------------------------------- continuous consistency


def network_of(denoiser, scale):
    model = generator(denoiser, geometric())
    model.density.denoiser.net.scale.data.fill_(scale)
    return model.density


def test_before_the_tangent_is_faded_in_a_student_that_is_its_teacher_has_no_loss():
    """At progress 0 what is left is cos^2 phi d (F - F_teacher); it needs the whole fade to be the flow's."""
    objective = Continuous(NEAR, 0.25, EXACT)
    losses = [float(error(objective, gaussian(), geometric(), progress=p).mean()) for p in (0, 0.1, 0.25, 1)]
    assert losses[0] < 1e-8 and losses[0] < losses[1] < losses[2] == losses[3] and losses[2] > 1e-2
    flow = [float(error(objective, Flow(), geometric(), p, gaussian()).max()) for p in (0, 0.25)]
    assert flow[1] < 1e-5 < 1e-2 < flow[0]


@pytest.mark.parametrize("scale", [0.9, 1.1, 3.0, 300.0])
def test_the_normalised_tangent_is_shorter_than_one(scale):
    """The loss is n^2 / (n + 1/10)^2, n^2 the mean of g^2; g = cos^2 phi d (F - F_teacher) at progress 0."""
    objective = Continuous(NEAR, 0.25, EXACT)
    place = scene(objective, gaussian(), geometric())
    images = place.x + torch.tensor([-0.5, 0.0, 0.5, 1.0], dtype=F64)
    student = network_of(gaussian(), scale)
    place = place._replace(progress=0.0, density=student, x=images)
    with torch.no_grad():
        start = objective.error(place, Noise([1], rows=BATCH))
        late = objective.error(place._replace(progress=1.0), Noise([1], rows=BATCH))
    ratio = ratios(NEAR, place)
    level = place.level(-2.0 * torch.log(ratio))
    x_t = level.mix(place.x, Noise([1], rows=BATCH).normal(place.x.shape, F64))
    output = ROW.target(gaussian()(x_t, level).mean, x_t, level).square().mean(1).sqrt()
    n = torch.cos(torch.atan(ratio / STD)) ** 2 * STD * abs(scale - 1.0) * output
    assert torch.allclose(start, (n / (n + 0.1)) ** 2, rtol=1e-3, atol=1e-6)
    assert float(torch.stack([start, late]).max()) < 1.0
    assert scale < 300 or float(start.median()) > 0.99
