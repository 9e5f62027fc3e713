"""Distributions of training levels: their laws, their low discrepancy, and their independence of batches."""

import math

import pytest
import torch

from sfumato.core.errors import UsageError
from sfumato.core.noise import Noise
from sfumato.diffusion.clocks import FlowTime, LinearBeta
from sfumato.diffusion.tables import BetaTable, linear_betas
from sfumato.diffusion.times import LogitNormalTime, LogNormalSigma, TableTime, UniformTime

F64 = torch.float64


def test_a_batch_is_evenly_spaced_and_shifted_at_random():
    u = Noise([4], rows=16).stratified(16)
    gaps = u.sort().values.diff()
    assert torch.allclose(gaps, torch.full_like(gaps, 1 / 16), atol=1e-12)
    assert not torch.equal(u, Noise([5], rows=16).stratified(16))
    assert (u >= 0).all() and (u < 1).all()


def test_each_row_is_uniform_on_its_own():
    """Row 3 of 4,000 batches against the uniform law: DKW at confidence 1 - 1e-6."""
    u = torch.stack([Noise([seed], rows=8).stratified(8)[3] for seed in range(4000)]).sort().values
    distance = (u - torch.arange(4000, dtype=F64) / 4000).abs().max()
    assert float(distance) < math.sqrt(math.log(2e6) / 8000) + 1 / 4000


def test_groups_depend_on_their_own_seed():
    both = Noise([1, 2], rows=4).stratified(8)
    assert torch.equal(both[:4], Noise([1], rows=4).stratified(4))
    assert torch.equal(both[4:], Noise([2], rows=4).stratified(4))


def test_low_discrepancy_lowers_the_variance_of_the_mean_loss():
    """Mean of a smooth loss over 32 levels: at least 50 times less variance than independent draws."""
    loss = lambda u: torch.exp(-3 * u) + u**2  # noqa: E731
    stratified = torch.stack([loss(Noise([s], rows=32).stratified(32)).mean() for s in range(300)])
    independent = torch.stack(
        [loss(Noise(range(32 * s, 32 * s + 32)).stratified(32)).mean() for s in range(300)]
    )
    assert float(stratified.var()) * 50 < float(independent.var())


def test_uniform_time_covers_the_schedule():
    log_snr = UniformTime().draw(LinearBeta(), Noise([0], rows=1000), 1000)
    t = LinearBeta().time(log_snr).sort().values
    expected = 1e-3 + 0.999 * (torch.arange(1000, dtype=F64) + 0.5) / 1000
    assert float((t - expected).abs().max()) < 1e-3


def test_table_time_visits_each_row_equally():
    table = BetaTable(linear_betas(50))
    log_snr = TableTime().draw(table, Noise([7], rows=500), 500)
    index = (table.time(log_snr) * 50 - 1).round().long()
    assert torch.equal(torch.bincount(index, minlength=50), torch.full((50,), 10))
    with pytest.raises(ValueError, match="beta table"):
        TableTime().draw(LinearBeta(), Noise([0]), 1)


@pytest.mark.parametrize("schedule", [LinearBeta(), FlowTime(), BetaTable(linear_betas(50))])
@pytest.mark.parametrize("times", [UniformTime(), TableTime(), LogNormalSigma(), LogitNormalTime()])
def test_a_distribution_is_refused_exactly_where_it_cannot_be_drawn_from(times, schedule):
    def drawn():
        try:
            return bool(times.draw(schedule, Noise([3], rows=8), 8).isfinite().all())
        except ValueError:
            return False

    try:
        times.check(schedule)
    except UsageError as error:
        assert not drawn() and "times=UniformTime" in error.remedy
    else:
        assert drawn()


def test_log_normal_sigma_has_its_mean_and_spread():
    """Karras' ln sigma ~ N(-1.2, 1.2^2), whatever the schedule."""
    draws = [LogNormalSigma().draw(s, Noise([2], rows=4000), 4000) for s in (LinearBeta(), FlowTime())]
    assert torch.equal(*draws)
    log_sigma = -0.5 * draws[0]
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=2e-3)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=5e-3)


def test_logit_normal_time_has_its_median_and_quartile():
    t = FlowTime().time(LogitNormalTime(0.5, 1.0).draw(FlowTime(), Noise([2], rows=4000), 4000)).sort().values
    assert float(t[2000]) == pytest.approx(1 / (1 + math.exp(-0.5)), abs=1e-3)
    assert float(t[3000]) == pytest.approx(1 / (1 + math.exp(-0.5 - 0.67449)), abs=1e-3)


@pytest.mark.parametrize("times", [UniformTime(), LogNormalSigma(), LogitNormalTime()])
def test_quantiles_are_finite_at_zero_and_fall(times):
    u = torch.tensor([0.0, 1e-9, 0.2, 0.9, 1 - 2**-53], dtype=F64)
    log_snr = times.quantile(FlowTime(), u)
    assert torch.isfinite(log_snr).all() and (log_snr.diff() < 0).all()
