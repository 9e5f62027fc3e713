"""Whole trajectories equal diffusers': same network function, same noise, same table.

Two comparisons each: diffusers as it comes to 1e-5 (its tables are float32, and ours is then made of
its rounded ones), and diffusers with its tables recomputed in float64 to 1e-10, so that rounding
cannot hide a difference of formulas.
The network is a fixed nonlinear function of (x, integer step) that predicts noise.
"""

import pytest
import torch

from sfumato.diffusion.denoiser import Clipped, Denoiser, Posterior
from sfumato.diffusion.level import CLEAN, Level
from sfumato.diffusion.scaling import EpsScaling
from sfumato.diffusion.tables import BetaTable, cosine_betas, linear_betas
from sfumato.diffusion.transition import InterpolatedVariance, LargeVariance, SmallVariance
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.ddim import Ddim
from sfumato.samplers.grids import Rows, Trailing, Uniform
from sfumato.samplers.heun import Heun
from sfumato.samplers.multistep import DpmPlusPlus2M
from sfumato.samplers.solver import integrate
from sfumato.samplers.unipc import UniPC

diffusers = pytest.importorskip("diffusers")

F64 = torch.float64
LINEAR = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EXACT = pytest.mark.parametrize("exact", [False, True], ids=["float32-tables", "float64-tables"])


def network(x, index):
    """A noise prediction that is nonlinear in x, depends on the step and keeps trajectories of order one."""
    share = index / (250 + index)
    return share * (x + 0.4 * torch.cos(3 * x) * torch.exp(-(x**2)))


class OnRows(Denoiser):
    """Reads `network`, which knows integer steps only, through the table's index."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, x_t, level, cond=None):
        return Posterior(EpsScaling().mean(network(x_t, self.table.index(level)), x_t, level))


class Given:
    """Noise that was drawn beforehand, so that both sides see the same."""

    def __init__(self, draws):
        self.draws = iter(draws)

    def normal(self, shape, dtype):
        return next(self.draws)


def oracle(make, exact, **options):
    """A scheduler, and with exact=True its cumulative products in float64."""
    scheduler = make(**(LINEAR | options))
    if exact:
        scheduler.betas = linear_betas()
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)
        scheduler.one = torch.tensor(1.0, dtype=F64)
        scheduler.final_alpha_cumprod = scheduler.one
        scheduler.alpha_t = scheduler.alphas_cumprod.sqrt()
        scheduler.sigma_t = (1 - scheduler.alphas_cumprod).sqrt()
        scheduler.lambda_t = torch.log(scheduler.alpha_t) - torch.log(scheduler.sigma_t)
    return scheduler


def sigmas(scheduler, exact):
    """After set_timesteps: replace the float32 sigmas of the grid by float64 ones."""
    if exact:
        bar = scheduler.alphas_cumprod[scheduler.timesteps.long()]
        last = [(1 - scheduler.alphas_cumprod[0]) / scheduler.alphas_cumprod[0]]
        zero = scheduler.config.final_sigmas_type == "zero"
        end = torch.zeros(1, dtype=F64) if zero else torch.stack(last).sqrt()
        scheduler.sigmas = torch.cat([((1 - bar) / bar).sqrt(), end])
    return scheduler


def start(seed=0):
    return torch.randn(4, 3, 5, 5, dtype=F64, generator=torch.Generator().manual_seed(seed))


def bound(exact):
    return 1e-10 if exact else 1e-5


def assert_alike(ours, theirs, bound):
    """Every state of two trajectories, relative to the largest number in it but at least to one."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert float((mine - other).abs().max()) <= bound * max(1.0, float(other.abs().max()))


def table_of(scheduler):
    """Our clock on the scheduler's own cumulative products."""
    bar = scheduler.alphas_cumprod.double()
    return BetaTable(1 - bar / torch.cat([torch.ones(1, dtype=F64), bar[:-1]]))


def trajectory(table, solver, levels, x, *, draws=(), wrap=lambda d: d):
    kept = []
    watch = lambda x_t, t, mean: kept.append(x_t)  # noqa: E731
    kept.append(integrate(wrap(OnRows(table)), solver, levels, x, noise=Given(draws), watch=watch))
    return kept[1:]


def rows(scheduler, end=CLEAN):
    """Levels of our table at a scheduler's integer timesteps."""
    table = table_of(scheduler)
    return [*(table.at(int(i)) for i in scheduler.timesteps), end]


def randoms(count):
    return [start(1 + i) for i in range(count)]


def ddpm(steps, exact, monkeypatch, answer, **options):
    """Their trajectory with given draws: the scheduler, the states after each step, the draws.

    The grid is "leading", whose last step is row 0: elsewhere they add noise to the clean result.
    """
    scheduler = oracle(
        diffusers.DDPMScheduler, exact, clip_sample=False, timestep_spacing="leading", **options
    )
    scheduler.set_timesteps(steps)
    draws = randoms(steps)
    feed = iter(draws)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(feed))
    theirs, x = [], start()
    for t in scheduler.timesteps:
        x = scheduler.step(answer(x, int(t)), t, x).prev_sample
        theirs.append(x)
    return scheduler, theirs, draws


@pytest.mark.parametrize(("steps", "exact"), [(50, False), (50, True), (1000, True)])
@pytest.mark.parametrize("name", ["fixed_small", "fixed_large"])
def test_ddpm(steps, exact, name, monkeypatch):
    """A thousand steps only in float64: float32 cancellation in their 1 - alpha adds up to 1.3e-5."""
    scheduler, theirs, draws = ddpm(steps, exact, monkeypatch, network, variance_type=name)
    solver = Ancestral({"fixed_small": SmallVariance(), "fixed_large": LargeVariance()}[name])
    ours = trajectory(table_of(scheduler), solver, rows(scheduler), start(), draws=draws)
    assert_alike(ours, theirs, bound(exact))


class Learned(Denoiser):
    """A denoiser that also gives a fraction between small and large variance."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x_t, level, cond=None):
        return Posterior(self.inner(x_t, level).mean, None, (torch.sin(x_t) + 1) / 2)


@EXACT
def test_ddpm_with_learned_variance(exact, monkeypatch):
    both = lambda x, t: torch.cat([network(x, t), torch.sin(x)], 1)  # noqa: E731
    scheduler, theirs, draws = ddpm(20, exact, monkeypatch, both, variance_type="learned_range")
    solver, table, levels = Ancestral(InterpolatedVariance()), table_of(scheduler), rows(scheduler)
    ours = trajectory(table, solver, levels, start(), draws=draws, wrap=Learned)
    assert_alike(ours, theirs, bound(exact))


@EXACT
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(eta, spacing, exact):
    scheduler = oracle(diffusers.DDIMScheduler, exact, clip_sample=False, timestep_spacing=spacing)
    scheduler.set_timesteps(20)
    draws, theirs, x = randoms(20), [], start()
    for i, t in enumerate(scheduler.timesteps):
        noise = draws[i] if eta else None
        x = scheduler.step(network(x, int(t)), t, x, eta=eta, variance_noise=noise).prev_sample
        theirs.append(x)
    table = table_of(scheduler)
    assert_alike(trajectory(table, Ddim(eta), rows(scheduler), start(), draws=draws), theirs, bound(exact))
    if spacing == "trailing":
        ours = trajectory(table, Ddim(eta), Trailing().levels(table, 20), start(), draws=draws)
        assert_alike(ours, theirs, bound(exact))


def test_ddim_with_clipping():
    scheduler = oracle(diffusers.DDIMScheduler, True, clip_sample=True, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    theirs, x = [], start()
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, int(t)), t, x, use_clipped_model_output=True).prev_sample
        theirs.append(x)
    table = table_of(scheduler)
    assert_alike(
        trajectory(table, Ddim(), Trailing().levels(table, 20), start(), wrap=Clipped), theirs, bound(True)
    )


def multistep(make, solver, steps, exact, limit, **options):
    """Compare a multistep solver on the scheduler's own grid, down to the sigma it ends with."""
    scheduler = oracle(make, exact, **options)
    scheduler.set_timesteps(steps)
    sigmas(scheduler, exact)
    theirs, x = [], start()
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, int(t)), t, x).prev_sample
        theirs.append(x)
    table = table_of(scheduler)
    end = CLEAN if scheduler.config.final_sigmas_type == "zero" else table.at(0)
    assert_alike(trajectory(table, solver, rows(scheduler, end), start()), theirs, limit)
    if options["timestep_spacing"] == "trailing":
        assert_alike(trajectory(table, solver, Trailing().levels(table, steps), start()), theirs, limit)


@EXACT
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [10, 25])
def test_dpm_solver_plus_plus_2m(steps, spacing, exact):
    limit = 1e-6 if exact else 1e-5  # their step rounds the state to float32 whatever its type
    make = diffusers.DPMSolverMultistepScheduler
    multistep(make, DpmPlusPlus2M(), steps, exact, limit, timestep_spacing=spacing)


@EXACT
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("steps", [10, 25])
def test_unipc_of_order_two(steps, spacing, exact):
    make = diffusers.UniPCMultistepScheduler
    multistep(make, UniPC(2), steps, exact, bound(exact), timestep_spacing=spacing, solver_order=2)


@EXACT
def test_unipc_of_order_three(exact):
    """Down to the smallest sigma of the table, without lowering the last orders."""
    options = {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"}
    make = diffusers.UniPCMultistepScheduler
    multistep(make, UniPC(3), 25, exact, bound(exact), timestep_spacing="linspace", **options)


@EXACT
def test_heun(exact):
    """Their state is x/alpha and they spend two calls per step but for the last; compared after each step."""
    scheduler = oracle(diffusers.HeunDiscreteScheduler, exact, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    if exact:
        bar = scheduler.alphas_cumprod[scheduler.timesteps.long()]
        scheduler.sigmas = torch.cat([((1 - bar) / bar).sqrt(), torch.zeros(1, dtype=F64)])
    table, theirs = table_of(scheduler), []
    y = start() / table.at(999).alpha
    for i, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(y, t)
        y = scheduler.step(network(scaled, int(t)), t, y).prev_sample
        if i % 2 == 1 or i == len(scheduler.timesteps) - 1:
            theirs.append(y)
    levels = Trailing().levels(table, 20)
    ours = trajectory(table, Heun(), levels, start())
    assert_alike([x / s.alpha for x, s in zip(ours, levels[1:], strict=True)], theirs, bound(exact))


@pytest.mark.parametrize("make", [linear_betas, cosine_betas])
def test_tables_are_diffusers_tables(make):
    name = {linear_betas: "linear", cosine_betas: "squaredcos_cap_v2"}[make]
    scheduler = diffusers.DDPMScheduler(**(LINEAR | {"beta_schedule": name}))
    table = BetaTable(make())
    ours = torch.tensor([table.at(i).alpha ** 2 for i in range(1000)])
    assert torch.allclose(ours, scheduler.alphas_cumprod, rtol=2e-5, atol=1e-12)


def test_linspace_spacing_of_ddim_is_our_uniform_grid():
    scheduler = diffusers.DDIMScheduler(**LINEAR, timestep_spacing="linspace")
    scheduler.set_timesteps(36)
    table = BetaTable(linear_betas())
    levels = Rows(Uniform(), 1000).levels(table, 36)
    ours = [round(float(table.index(level))) for level in levels[:-1]]
    assert all(abs(a - b) <= 1 for a, b in zip(ours, scheduler.timesteps.tolist(), strict=True))
    assert ours[0] == 999 and ours[-1] == 0


def test_index_of_a_level_is_its_row():
    table = BetaTable(linear_betas())
    for i in (0, 1, 37, 500, 998, 999):
        assert table.index(table.at(i)) == pytest.approx(i, abs=1e-9)
    level = Level(
        *(torch.tensor([getattr(table.at(i), p) for i in (3, 700)], dtype=F64) for p in ("alpha", "sigma"))
    )
    assert torch.allclose(table.index(level), torch.tensor([3.0, 700.0], dtype=F64), atol=1e-9)
