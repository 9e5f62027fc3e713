"""Laws of distillation, in worlds whose denoiser and flow map are known in closed form."""

import math
from itertools import pairwise

import pytest
import torch
from distilled_worlds import (
    BATCH,
    EXACT,
    ROW,
    SCHEDULES,
    TIMES,
    Drops,
    Flow,
    Hears,
    error,
    generator,
    name,
    scene,
)
from exact_worlds import F64, MEAN, PATHS, STD, gaussian, gaussian_flow, line, mixture, spread, starts

from sfumato.core.condition import NOTHING
from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.diffusion.clocks import CosineTime, geometric
from sfumato.diffusion.denoiser import Denoiser, Posterior
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.scaling import ConsistencyScaling, EdmScaling, VScaling
from sfumato.diffusion.schedule import Until
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.diffusion.times import UniformTime
from sfumato.diffusion.weighting import Snr, Unweighted
from sfumato.models.diffusion import Diffusion
from sfumato.objectives.consistency import Doubling, Easing, Mixed, SelfConsistency, Stepped
from sfumato.objectives.continuous import Continuous
from sfumato.objectives.progressive import Matching, Progressive, at, nested, one_for_two
from sfumato.objectives.shortcut import Shortcut
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.consistency import Consistency
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Angle
from sfumato.samplers.heun import Heun
from sfumato.samplers.leap import Leap
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

# --------------------------------------------------------------------------- solvers, level by level


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(
    "solver", [Ddim(), Heun(), DpmPlusPlus2M(), UniPC(2), Ancestral(), Consistency()], ids=name
)
def test_levels_per_sample_step_as_scalar_levels_do(solver, path):
    levels = [*line(path, 6), CLEAN]
    index = torch.tensor([0, 3, 5, 6])
    x = starts(levels[0], 4)
    t, s = at(levels, index), at(levels, index + 1)
    noise = [Noise([3], rows=4), *(Noise([3], rows=4) for _ in index)]
    together, _ = solver.step(gaussian(), x, t, s, solver.init(x), noise=noise[0])
    for row, k in enumerate(index.tolist()):
        alone, _ = solver.step(gaussian(), x, levels[k], levels[k + 1], solver.init(x), noise=noise[row + 1])
        assert torch.allclose(together[row], alone[row], rtol=0, atol=1e-12)


# --------------------------------------------------------------------------- progressive distillation


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_the_progressive_target_takes_the_students_step_to_where_two_of_the_teacher_lead(path, steps):
    """Answering with the target, one DDIM step of n lands where two of 2n land, at every level at once."""
    schedule = CosineTime(path=path)
    objective = Progressive(steps, Angle(STD), Unweighted(), EXACT)
    objective.open(generator(gaussian(), schedule), 0)
    levels = Angle(STD).levels(schedule, 2 * steps)
    place = 2 * torch.arange(steps).repeat_interleave(3)
    t, u, s = (at(levels, place + k) for k in range(3))
    x_t = starts(levels[0], len(place))
    answer = one_for_two(Ddim(), objective.taught, x_t, t, u, s)

    class Says(Denoiser):
        def forward(self, x_t, level, cond=NOTHING):
            return Posterior(answer)

    one, _ = Ddim().step(Says(), x_t, t, s, None)
    for row, k in enumerate(place.tolist()):
        two = integrate(gaussian(), Ddim(), levels[k : k + 3], x_t[row : row + 1])
        assert torch.allclose(one[row], two[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_the_loss_of_an_exact_denoiser_in_a_round_falls_with_the_step(schedule):
    """Nobody is distilled: one step of the posterior mean differs from two by DDIM's own error, of its order.

    test_distilled_students.py trains students round by round.
    """
    coarse, fine = (
        float(error(Progressive(n, Angle(STD), Unweighted(), EXACT), gaussian(), schedule).mean())
        for n in (32, 64)
    )
    assert fine < coarse < 1e-3 and coarse / fine > 3.0


def test_rounds_that_do_not_share_their_levels_are_refused_with_the_number_that_does():
    """On DDPM's linear table even angles for narrow data reach down to its cleanest level in 39 steps."""
    schedule, told = BetaTable(linear_betas()), r"64 steps are too many[\s\S]*first=32"
    assert nested(Angle(0.25), schedule, 16) and not nested(Angle(0.25), schedule, 32)
    with pytest.raises(UsageError, match=told):
        Progressive(32, Angle(0.25), Unweighted(), EXACT).open(generator(gaussian(), schedule), 0)


def test_a_student_that_equals_its_unguided_teacher_has_nothing_to_match():
    for times in (TIMES, UniformTime()):
        assert float(error(Matching(times, Snr(), EXACT), mixture(), geometric()).max()) < 1e-18


@pytest.mark.parametrize("times", [TIMES, UniformTime()], ids=name)
@pytest.mark.parametrize(
    "make",
    [
        lambda times: Matching(times, Unweighted(), EXACT, start=1.0),
        lambda times: Shortcut(times, Unweighted(), Angle(STD), Leap(STD), 8, teaching=EXACT, start=1.0),
    ],
    ids=["matching", "shortcut"],
)
def test_no_level_above_the_start_is_trained(make, times):
    """start = 1: sigma/alpha of everything that is trained is at most 1, and that itself is reached."""
    objective = make(times)
    place = scene(objective, gaussian(), geometric())
    heard = Diffusion(Hears(gaussian()), geometric(), (1,))
    objective.error(place._replace(density=heard, schedule=objective.part(heard)), Noise([1], rows=BATCH))
    (level, _), *none = heard.denoiser.trained
    ratio = level.sigma / level.alpha
    assert not none and 0.9 < float(ratio.max()) < 1.0 + 1e-9


# --------------------------------------------------------------------------- shortcut models


class Leaps(Denoiser):
    """The exact answer of the Gaussian world on the VE path for a leap whose end the condition tells."""

    def forward(self, x_t, level, cond=NOTHING):
        sigma = level.sigma.reshape(-1, 1) if isinstance(level.sigma, torch.Tensor) else level.sigma
        phi = torch.atan2(cond.vector[:, 4:5], cond.vector[:, 0:1])
        end = STD * torch.tan(phi.clamp(min=0))
        wide_t, wide_s = (STD**2 + sigma**2) ** 0.5, (STD**2 + end**2) ** 0.5
        x_s = MEAN + wide_s / wide_t * (x_t - MEAN)
        keep = end / sigma
        return Posterior((x_s - keep * x_t) / (1 - keep))


def test_exact_leaps_of_any_length_are_a_fixed_point_of_the_shortcut_loss():
    """A leap is two half as long: the loss of exact leaps is rounding, that of the posterior mean is not."""
    objective = Shortcut(TIMES, Unweighted(), Angle(STD), Leap(STD), 64, halved=1.0, teaching=EXACT)
    schedule = geometric()
    place = scene(objective, gaussian(), schedule)

    def loss(denoiser):
        density = Diffusion(denoiser, schedule, (1,))
        return objective.error(place._replace(density=density), Noise([1], rows=BATCH))

    assert float(loss(Leaps()).max()) < 1e-12 and float(loss(gaussian()).max()) > 1e-3
    objective.follower = gaussian()  # an average makes the two leaps: exact ones are no fixed point of its
    assert float(loss(Leaps()).max()) > 1e-3
    objective.follower = Leaps()
    assert float(loss(Leaps()).max()) < 1e-12


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_shortcut_keeps_an_average_of_its_weights_where_it_is_asked_to(average):
    objective = Shortcut(TIMES, Unweighted(), Angle(STD), Leap(STD), 8, teaching=EXACT, average=average)
    model = generator(gaussian(), geometric())
    objective.open(model, 100)
    student = model.density.denoiser
    student.net.scale.data.fill_(2.0)
    objective.after_step(model, 8)
    behind = objective.behind(student)
    assert (behind is student) is (average == 0.0)
    assert behind.net.scale.item() == pytest.approx(1.1 if average else 2.0)


@pytest.mark.parametrize("first", [2, 8])
def test_a_shortcut_is_asked_for_no_leap_that_it_was_not_trained_for(first):
    """Neither its own targets nor a plan of 1, 2, ... `first` steps: down to single cells of the grid."""
    objective = Shortcut(TIMES, Unweighted(), Angle(STD), Leap(STD), first, teaching=EXACT)
    schedule = geometric()
    place = scene(objective, gaussian(), schedule)
    student = Hears(gaussian())
    for seed in range(20):
        density = Diffusion(student, schedule, (1,))
        objective.error(place._replace(density=density), Noise([seed], rows=BATCH))
    with torch.no_grad():
        for k in range(first.bit_length()):
            levels = Angle(STD).levels(schedule, 2**k)
            integrate(student, Leap(STD), levels, starts(levels[0], 4))

    def leaps(calls):
        found = set()
        for level, end in calls:
            log_snr = torch.as_tensor(level.log_snr, dtype=F64).expand(len(end))
            found |= {tuple(row) for row in torch.cat([log_snr[:, None], end], 1).mul(1e5).round().tolist()}
        return found

    trained, asked = leaps(student.trained), leaps(student.asked)
    assert len(asked) == 2 * first - 1 and asked <= trained


@pytest.mark.parametrize("steps", [1, 3])
def test_exact_leaps_sample_exactly(steps):
    levels = Angle(STD).levels(geometric(), steps)
    x = starts(levels[0])
    end = integrate(Leaps(), Leap(STD), levels, x)
    assert torch.allclose(end, gaussian_flow(x, levels[0], CLEAN), rtol=0, atol=1e-9)


def test_the_end_of_a_leap_is_told_alike_for_scalar_and_batched_levels():
    levels = [*line(PATHS[0], 3), CLEAN]
    x = starts(levels[0], 4)
    together = Leap(0.5).features(at(levels, torch.arange(4) + 1), x)
    alone = torch.cat([Leap(0.5).features(level, x[:1]) for level in levels[1:]])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)


# --------------------------------------------------------------------------- consistency


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_the_consistency_function_is_constant_along_exact_trajectories(path):
    levels = line(path, 5)
    x = starts(levels[0])
    ends = [Flow()(gaussian_flow(x, levels[0], s), s).mean for s in [*levels, CLEAN]]
    for end in ends:
        assert torch.allclose(end, ends[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize(
    ("row", "ratio"),
    [(ConsistencyScaling(0.5, 0.01), 0.01), (ConsistencyScaling(0.7, 0.01), 0.004)],
    ids=["0.5-0.01", "0.7-0.004"],
)
def test_the_consistency_row_is_the_identity_at_and_below_its_floor(path, row, ratio):
    level = path.level(-2.0 * math.log(ratio))
    x = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    answer = row.mean(1e3 * torch.ones_like(x), x, level)
    assert torch.allclose(answer, x / level.alpha * 1.0, rtol=1e-12 if ratio == row.floor else 2e-4, atol=0)


@pytest.mark.parametrize("row", [EdmScaling(0.5), VScaling(), ConsistencyScaling(0.5, 0.0)], ids=name)
def test_anchored_rows_are_the_identity_on_clean_data(row):
    x = torch.randn(4, 2, dtype=F64)
    assert row.anchored and torch.equal(row.mean(torch.ones_like(x), x, CLEAN), x)


def test_edms_row_is_the_consistency_row_without_a_floor():
    for path in PATHS:
        for level in line(path, 4):
            ours, edm = ConsistencyScaling(0.6, 0.0)(level), EdmScaling(0.6)(level)
            assert all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(ours, edm, strict=True))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("spacing", [Easing(STD, 8), Doubling(10, 640)], ids=name)
def test_the_exact_flow_has_no_consistency_loss_on_exact_pairs(schedule, spacing):
    """Pairs by the teacher's solver: the loss of the exact flow is the solver's error, of its order."""

    class Exact(Ddim):
        def step(self, denoiser, x_t, t, s, state, *, cond=NOTHING, noise=None):
            a, b = (v.reshape(-1, 1) for v in (t.alpha, s.alpha))
            wide = [((lv.alpha * STD) ** 2 + lv.sigma**2).sqrt().reshape(-1, 1) for lv in (t, s)]
            return b * MEAN + wide[1] / wide[0] * (x_t - a * MEAN), None

    objective = SelfConsistency(TIMES, spacing, Stepped(Exact()), teaching=EXACT)
    assert float(error(objective, Flow(), schedule).max()) < 1e-6


def test_heuns_pairs_are_nearer_to_the_trajectory_than_ddims():
    losses = []
    for solver in (Ddim(), Heun()):
        objective = SelfConsistency(TIMES, Doubling(80, 80), Stepped(solver), teaching=EXACT)
        losses.append(float(error(objective, Flow(), geometric(), teacher=gaussian()).mean()))
    assert losses[1] < 0.1 * losses[0]


def test_the_first_easing_is_denoising_and_the_gap_only_shrinks():
    ratio = torch.logspace(-3, 1.9, 50, dtype=F64)
    gaps = []
    for k in range(8):
        t, r = Easing(0.5, 8)(ratio, (k + 0.5) / 8, geometric())
        assert torch.equal(t, ratio) and bool(((r >= 0) & (r < t)).all())
        gaps.append((t - r) / t)
    assert bool((gaps[0][ratio < 0.5] == 1.0).all())
    assert all(bool((b <= a).all()) for a, b in pairwise(gaps))
    assert float(gaps[-1].max()) < 9 / 2**8 + 1e-12


@pytest.mark.parametrize("data", [0.5, 1.0])
@pytest.mark.parametrize(
    ("relative", "parts"),
    [
        (math.log(3.0), [0, 1 / 4, 5 / 8, 13 / 16, 29 / 32]),  # n = 1 + 8 / 4 = 3
        (math.log(7.0), [0, 1 / 2, 3 / 4, 7 / 8, 15 / 16]),  # n = 1 + 8 / 8 = 2
        (1e-9, [0, 0, 3 / 8, 11 / 16, 27 / 32]),  # n = 1 + 8 / 2 = 5
        (60.0, [1 / 2, 3 / 4, 7 / 8, 15 / 16, 31 / 32]),  # n = 1
    ],
)
def test_easing_is_geng_and_others_equation_13_by_hand(data, relative, parts):
    """r/t = 1 - n / 2^(k+1), not below 0, for k = 0 ... 4: n by hand, as 1/(1 + e^log 3) = 1/4."""
    ratio = torch.tensor([2.0 * data * relative], dtype=F64)
    for k, part in enumerate(parts):
        t, r = Easing(data, 5)(ratio, (k + 0.5) / 5, geometric())
        assert torch.equal(t, ratio) and math.isclose(float(r / t), part, abs_tol=1e-9)


def test_at_most_thirty_easings_keep_the_two_levels_apart():
    """At 53 the gap is lost in float64, at 1,024 its power of two overflows; 30 are far below both."""
    ratio = torch.logspace(-6, 5, 100, dtype=F64)
    t, r = Easing(STD, 30)(ratio, 1.0, geometric())
    n = (t - r) / t * 2.0**30
    assert float(n.min()) > 0.999 and float(n.max()) < 5.001
    for stages in (0, 31, 60, 5000):
        with pytest.raises(ValueError, match="stages are 1 to 30"):
            Easing(STD, stages)


@pytest.mark.parametrize(("first", "last"), [(10, 160), (4, 4), (10, 100)])
def test_the_grid_doubles_from_its_first_to_its_last_size(first, last):
    spacing = Doubling(first, last)
    sizes = [spacing.intervals(k / 100) for k in range(101)]
    assert sizes[0] == first and sizes == sorted(sizes) and sizes[-1] * 2 > last >= sizes[-1]


def test_neighbours_of_the_grid_are_neighbours():
    spacing = Doubling(20, 20)
    edges = (torch.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 21, dtype=F64)) ** 7
    ratio = torch.logspace(-4, 3, 200, dtype=F64)
    t, r = spacing(ratio, 0.0, geometric())
    for value, below in zip(t, r, strict=True):
        k = int((edges - value).abs().argmin())
        assert math.isclose(value, edges[k]) and math.isclose(below, edges[k - 1])


@pytest.mark.parametrize(
    "objective",
    [
        SelfConsistency(TIMES, Easing(STD, 8), Mixed(), teaching=EXACT),
        SelfConsistency(TIMES, Doubling(10, 40), Stepped(Heun()), teaching=EXACT),
        Continuous(TIMES, 0.0, EXACT),
        Progressive(4, Angle(STD), Snr(1.0), EXACT),
        Matching(TIMES, Snr(1.0), EXACT),
        Shortcut(TIMES, Snr(1.0), Angle(STD), Leap(), 8, 0.5, EXACT),
    ],
    ids=name,
)
def test_dropout_rests_while_a_student_is_taught(objective):
    """The loss of a network that drops is that of the same network in evaluation, and it drops afterwards."""
    model = generator(gaussian(), geometric()).train()
    model.density.denoiser.net = Drops(gaussian(), ROW, geometric().path)
    model.density.denoiser.net.scale.data.mul_(0.9)
    objective.open(generator(gaussian(), geometric()), 1000)
    x = MEAN + STD * Noise([2], rows=BATCH).normal((BATCH, 1), F64)
    batch, losses = Batch(x, None, torch.arange(BATCH)), []
    for mode in (True, False):
        model.density.denoiser.train(mode)
        losses.append(objective(model, batch, noise=Noise([1], rows=BATCH), seen=900).total)
        assert model.density.denoiser.net.training is mode
    assert torch.equal(*losses) and float(losses[0].detach().mean()) > 1e-4


def test_a_constant_error_of_the_student_is_seen():
    """The loss can fail: an answer that is not constant along trajectories has a loss of its size."""
    objective = SelfConsistency(TIMES, Easing(STD, 8), Mixed(), teaching=EXACT)
    assert float(error(objective, mixture(), geometric(), progress=0.6).mean()) > 0.05


# --------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_sampling_an_exact_consistency_function_is_exact_in_law_for_any_number_of_steps(schedule, steps):
    levels = Angle(STD).levels(schedule, steps)
    n = 20_000
    first = levels[0]
    x = first.alpha * MEAN + spread(first) * Noise([0], rows=n).normal((n, 1), F64)
    x = integrate(Flow(), Consistency(), levels, x, noise=Noise([1], rows=n))
    assert abs(float(x.mean()) - MEAN) < 4 * STD / math.sqrt(n)
    assert abs(float(x.std()) / STD - 1) < 4 / math.sqrt(2 * n)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("n", [1, 2, 16])
def test_the_levels_of_n_angles_are_every_second_of_2n(schedule, n):
    coarse, fine = (Angle(0.6).levels(schedule, k) for k in (n, 2 * n))
    for a, b in zip(coarse, fine[::2], strict=True):
        assert math.isclose(a.alpha, b.alpha) and math.isclose(a.sigma, b.sigma)


def test_two_angles_meet_where_signal_and_noise_are_about_equal():
    level = Angle(0.5).levels(geometric(), 2)[1]
    assert abs(level.sigma / level.alpha / 0.5 - 1) < 0.02


@pytest.mark.parametrize("ratio", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_a_schedule_until_a_level_ends_there_and_keeps_its_clock(schedule, ratio):
    part = Until(schedule, ratio)
    end = part.level(1.0)
    assert math.isclose(end.sigma / end.alpha, ratio, rel_tol=1e-9)
    t = torch.linspace(0.05, 1.0, 20, dtype=F64)
    assert torch.allclose(part.inverse(part.clock(t)), t, rtol=0, atol=1e-9)
    assert torch.allclose(part.clock(t), schedule.clock(t * part.last), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_refining_a_guess_of_the_right_law_gives_the_right_law(ratio):
    """From data noised to a level, the exact reverse process gives data again (the truncated start)."""
    levels = Angle(STD).levels(Until(geometric(), ratio), 400)
    assert math.isclose(levels[0].sigma, ratio, rel_tol=1e-9)
    n = 4000
    guess = MEAN + STD * Noise([5], rows=n).normal((n, 1), F64)
    x = integrate(gaussian(), Ddim(), levels, levels[0].mix(guess, Noise([6], rows=n).normal((n, 1), F64)))
    assert abs(float(x.mean()) - MEAN) < 4 * STD / math.sqrt(n)
    assert abs(float(x.std()) / STD - 1) < 0.05


def test_levels_of_a_batch_are_those_of_the_list():
    levels = [*line(PATHS[0], 3), CLEAN]
    picked = at(levels, torch.tensor([4, 0]))
    assert isinstance(picked, Level) and picked.sigma.tolist() == [0.0, levels[0].sigma]
    assert picked.log_snr.tolist() == [math.inf, levels[0].log_snr]
