"""Laws of quantisers: gradients copied, averages by their formula, neighbours exact, dead codes revived."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.errors import DataError
from sfumato.core.noise import Noise
from sfumato.nets.kmeans import kmeans, nearest
from sfumato.nets.quantize import SLOTS, ScalarQuantizer, VectorQuantizer

NEVER = 10**9  # vectors: an epoch that does not end


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise_for(rows, seed=0):
    return Noise([seed], rows=rows)


@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 9), st.integers(0, 99))
def test_the_lookup_is_the_nearest_by_brute_force(n, k, dim, seed):
    rows, codebook = draws(n, dim, seed=seed), draws(k, dim, seed=seed + 1)
    distances = (rows[:, None] - codebook).square().sum(-1).double()
    found = nearest(rows, codebook)
    least = distances.min(1).values
    assert torch.allclose(distances.gather(1, found[:, None])[:, 0], least, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [300, 320, 32])
def test_chunks_and_groups_change_no_neighbour(size):
    rows, codebook = draws(9001, 8), draws(size, 8, seed=1)
    half = 0.5 * codebook.square().sum(1).double()
    whole = (half - rows.double() @ codebook.double().t()).argmin(1)
    found = nearest(rows, codebook)
    assert (found == whole).float().mean() > 0.999  # the rest are ties to the last bit
    gap = (rows - codebook[found]).square().sum(1) - (rows - codebook[whole]).square().sum(1)
    assert gap.abs().max() < 1e-4
    assert torch.equal(found, torch.cat([nearest(part, codebook) for part in rows.split(100)]))


@pytest.mark.parametrize("make", [lambda: VectorQuantizer(32, 4), lambda: ScalarQuantizer((5, 4, 3, 2))])
def test_the_gradient_is_copied_straight_through(make):
    quantizer, z = make(), draws(3, 4, 5, 6).requires_grad_()
    upstream = draws(3, 4, 5, 6, seed=1)
    values = quantizer(z).values
    (values * upstream).sum().backward()
    if isinstance(quantizer, ScalarQuantizer):  # copied to tanh z, which is what is rounded
        upstream = upstream * (1 - torch.tanh(z.detach()) ** 2)
        torch.testing.assert_close(z.grad, upstream)
    else:
        assert torch.equal(z.grad, upstream)
    assert torch.equal(values, quantizer.lookup(quantizer(z).codes))


def test_commitment_moves_the_vectors_and_pull_the_codebook():
    quantizer, z = VectorQuantizer(8, 4, gamma=0.0), draws(2, 4, 9).requires_grad_()
    coded = quantizer(z)
    coded.commitment.sum().backward()
    assert quantizer.codebook.grad is None or not quantizer.codebook.grad.any()
    e = quantizer.lookup(coded.codes).detach()
    torch.testing.assert_close(z.grad, 2 * (z.detach() - e) / 36)
    z.grad = None
    quantizer(z).pull.sum().backward()
    assert z.grad is None and quantizer.codebook.grad.any()
    averaged = VectorQuantizer(8, 4)(z)
    assert averaged.pull is None


def test_averages_follow_their_formula():
    gamma, size, dim = 0.9, 12, 3
    quantizer = VectorQuantizer(size, dim, gamma=gamma, patience=0).train()
    n, m = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dim, dtype=torch.float64)
    for step in range(5):
        z = draws(4, dim, 7, seed=step)
        codes = quantizer(z).codes.flatten()
        rows = z.movedim(1, -1).reshape(-1, dim).double()
        for k in range(size):
            mine = rows[codes == k]
            n[k] = gamma * n[k] + (1 - gamma) * len(mine)
            m[k] = gamma * m[k] + (1 - gamma) * mine.sum(0)
        before = quantizer.codebook.detach().clone()
        quantizer.settle(NEVER)
        used = n > 0
        torch.testing.assert_close(
            quantizer.codebook.detach()[used].double(), (m / n[:, None])[used], rtol=1e-5, atol=1e-6
        )
        assert torch.equal(quantizer.codebook[~used], before[~used])


def test_micro_batches_and_processes_add_up_to_the_same():
    """The sums of two halves, in one process or in two, are those of the whole."""
    whole, halves = (VectorQuantizer(16, 4).train() for _ in range(2))
    other = VectorQuantizer(16, 4).train()
    halves.load_state_dict(whole.state_dict())
    other.load_state_dict(whole.state_dict())
    z = draws(8, 4, 3, 3)
    whole(z, Noise([0, 1], rows=4))
    halves(z[:4], Noise([0], rows=4))
    other(z[4:], Noise([1], rows=4))
    for mine, its in zip(halves.sums(), other.sums(), strict=True):
        mine += its
    for mine, want in zip(halves.sums(), whole.sums(), strict=True):
        torch.testing.assert_close(mine, want)
    halves.settle(NEVER)
    whole.settle(NEVER)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(halves.state_dict()[name], value)


def test_evaluation_and_gradients_leave_the_state_alone():
    quantizer = VectorQuantizer(16, 4).eval()
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer(draws(2, 4, 5), noise_for(2))
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())


def test_dead_codes_move_to_vectors_of_the_step():
    quantizer = VectorQuantizer(8, 2, patience=5).train()
    with torch.no_grad():
        quantizer.codebook.copy_(torch.cat([draws(2, 2), 100.0 + draws(6, 2)]))
    moved = 0
    for step in range(6):
        z = draws(16, 2, 2, seed=step)
        quantizer(z, noise_for(16, step))
        quantizer.settle(NEVER)
        rows = z.movedim(1, -1).reshape(-1, 2)
        far = (quantizer.codebook.detach()[:, None] - rows).square().sum(-1).min(1).values
        alive = quantizer.codebook.detach().abs().max(1).values < 50
        if alive.sum() > 2 and not moved:
            moved = step
            assert (far[alive][2:] < 1e-12).all()  # exactly a vector of this step
    assert moved and alive.all() and (quantizer.idle <= 5 * 8 + 32).all()


def test_restarts_depend_on_the_position_alone():
    def run(steps, state=None, first=0):
        quantizer = VectorQuantizer(32, 2, patience=2).train()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            quantizer.codebook.data.copy_(5 + draws(32, 2))
        if state is not None:
            quantizer.load_state_dict(state)
        for step in range(first, steps):
            quantizer(draws(8, 2, 4, seed=step), noise_for(8, step))
            quantizer.settle(NEVER)
        return {k: v.clone() for k, v in quantizer.state_dict().items()}

    whole = run(12)
    resumed = run(12, run(7), 7)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_step_that_is_not_finite_teaches_nothing():
    quantizer = VectorQuantizer(8, 2).train()
    quantizer(draws(4, 2, 6), noise_for(4))
    quantizer.settle(NEVER)
    before = quantizer.codebook.detach().clone()
    z = draws(4, 2, 6)
    z[0, 0, 0] = math.nan
    quantizer(z, noise_for(4))
    quantizer.settle(NEVER)
    torch.testing.assert_close(quantizer.codebook.detach(), before)
    assert all(torch.isfinite(v.float()).all() for v in quantizer.state_dict().values())


def test_usage_is_counted_over_an_epoch():
    quantizer = VectorQuantizer(10, 1, patience=0).train()
    quantizer.codebook.data.copy_(torch.arange(10.0)[:, None])
    assert quantizer.usage().isnan()  # nothing is known before an epoch has ended
    for value in (1.0, 2.0, 2.0):
        quantizer(torch.full((2, 1, 5), value))
        quantizer.settle(30)
    assert quantizer.usage() == pytest.approx(0.2) and quantizer.former[2] == 20
    quantizer(torch.full((2, 1, 5), 7.0))
    quantizer.settle(30)
    assert quantizer.usage() == pytest.approx(0.2)  # until the next epoch has ended


def test_use_in_the_first_epoch_bounds_that_of_the_epoch_from_below():
    """Said from 200 vectors a code on, never less than before, until the epoch has ended; a uniform use of
    so many leaves out none (each with probability exp(-200)), and one of half the codes shows as half."""
    for reach, settled in ((10, 1.0), (5, 0.5)):
        quantizer = VectorQuantizer(10, 1, patience=0).train()
        quantizer.codebook.data.copy_(torch.arange(10.0)[:, None])
        values = torch.randint(reach, (40, 1, 1, 100), generator=torch.Generator().manual_seed(0)).float()
        told = [quantizer.used_so_far()]
        for value in values:
            assert quantizer.usage().isnan()
            quantizer(value)
            quantizer.settle(4000)
            told.append(quantizer.used_so_far())
        assert all(share.isnan() for share in told[:20]) and told[40].isnan()
        assert [float(share) for share in told[20:40]] == [settled] * 20 == [float(quantizer.usage())] * 20


def test_so_far_a_code_counts_from_when_it_is_first_chosen():
    quantizer = VectorQuantizer(4, 1, patience=0).train()
    quantizer.codebook.data.copy_(torch.arange(4.0)[:, None])
    told = []
    for value in (0.0, 0.0, 2.0, 0.0, 3.0):
        quantizer(torch.full((1, 1, 400), value))
        quantizer.settle(NEVER)
        told.append(float(quantizer.used_so_far()))
    assert math.isnan(told[0]) and told[1:] == [0.25, 0.5, 0.5, 0.75]


def test_the_start_is_k_means():
    """Well separated clusters are found, each by one centre at its mean."""
    centres = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)) * 10
    vectors = (centres[:, None] + 0.1 * draws(16, 50, 2)).reshape(-1, 2)
    found, shares = kmeans(vectors, 16, seed=0)
    error = (vectors[:, None] - found).square().sum(-1).min(1).values
    assert error.mean() < 0.03 and shares.sum() == pytest.approx(1.0)
    again, _ = kmeans(vectors, 16, seed=0)
    other, _ = kmeans(vectors, 16, seed=1)
    assert torch.equal(found, again) and not torch.equal(found, other)
    quantizer = VectorQuantizer(16, 2)
    quantizer.fit(vectors, seed=0)
    assert torch.equal(quantizer.codebook, found)
    codes = quantizer.eval()(vectors.t()[None]).codes
    assert len(codes.unique()) == 16


def test_fewer_different_vectors_than_codes_start_beside_one_another():
    vectors = draws(3, 2).repeat(20, 1)
    centres, shares = kmeans(vectors, 8, seed=0)
    assert torch.isfinite(centres).all() and shares.sum() == pytest.approx(1.0)


def test_fewer_vectors_than_codes_are_refused_with_the_numbers():
    with pytest.raises(DataError, match=r"512 codes .* 300 vectors"):
        VectorQuantizer(512, 4).fit(draws(300, 4), seed=0)
    with pytest.raises(DataError, match="NaN"):
        kmeans(torch.full((9, 2), math.nan), 3, seed=0)


@pytest.mark.parametrize("levels", [(2, 2), (8, 5, 5, 5), (3, 4, 7)])
def test_scalar_codes_and_integers_are_one_to_one(levels):
    quantizer = ScalarQuantizer(levels)
    codes = torch.arange(quantizer.size)[None]
    values = quantizer.lookup(codes)
    assert quantizer.size == math.prod(levels) and values.abs().max() == 1.0
    assert len(values[0].t().unique(dim=0)) == quantizer.size
    inside = torch.atanh(values.clamp(-0.999999, 0.999999))
    assert torch.equal(quantizer(inside).codes, codes)


def test_impossible_quantisers_are_refused():
    for make in (
        lambda: VectorQuantizer(1, 4),
        lambda: VectorQuantizer(8, 4, gamma=1.0),
        lambda: ScalarQuantizer((8, 1)),
    ):
        with pytest.raises(ValueError, match=r"codes|gamma|levels"):
            make()
    assert SLOTS >= 128
