"""Measures of disentanglement: one on a perfect code, nothing on noise, and what must not change them."""

import itertools
import math

import numpy as np
import pytest

from sfumato.data.shapes import draw_factors
from sfumato.evaluation.dci import counted, dci, explained, from_importances, hits, permuted
from sfumato.evaluation.disentangle import (
    disentanglement,
    factor_vae,
    is_class,
    mig,
    modularity,
    sap,
    scores,
)
from sfumato.evaluation.information import binned, chance, entropies, mutual_information

N, RNG = 4000, np.random.default_rng(0)
FACTORS = draw_factors(N, seed=1)[:, [0, 1, 3, 5]]  # a class of four values and three numbers
NOISE = RNG.standard_normal((N, 6))


def perfect(scale=(-3.0, 0.1, 7.0, 1.0)):
    """One unit for each factor, in another order, scaled and turned round, beside two idle units."""
    code = FACTORS[:, [2, 0, 3, 1]] * np.array(scale)
    return np.concatenate([code, 0.3 * RNG.standard_normal((N, 2))], 1)


PERFECT = scores(perfect(), FACTORS)
RANDOM = scores(NOISE, FACTORS)


@pytest.mark.parametrize("name", PERFECT)
def test_a_perfect_code_scores_one(name):
    assert PERFECT[name] > 0.95, PERFECT


@pytest.mark.parametrize("name", RANDOM)
def test_noise_scores_nothing(name):
    guess = 1 / FACTORS.shape[1] if name == "FactorVAE score" else 0.0
    assert RANDOM[name] == pytest.approx(guess, abs=0.08), RANDOM


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rows", "number"), [(300, 2), (300, 4), (300, 6), (600, 6), (3000, 6)])
def test_the_importances_of_noise_count_for_no_factor_at_all(rows, number, seed):
    """Exactly nothing: a single skill of chance above 0 would make every unit one of that factor alone."""
    factors = draw_factors(rows, seed=seed)[:, :number]
    noise = np.random.default_rng(seed).standard_normal((rows, 2))
    found = dci(noise, factors, [is_class(f) for f in factors.T], seed)
    assert found == {"disentanglement": 0.0, "completeness": 0.0, "informativeness": 0.0}


def test_a_mixture_of_two_factors_lies_between_noise_and_agreement():
    two = FACTORS[:900, 1:3] / FACTORS[:900, 1:3].std(0)
    scored = [
        dci(two @ np.array([[1 - a, a], [a, 1 - a]]), two, [False, False])["disentanglement"]
        for a in (0.0, 0.15, 0.3)
    ]
    assert scored[0] > 0.95 and 0.0 < scored[2] < scored[1] - 0.1 < scored[0] - 0.2


def test_the_chance_of_a_skill_is_that_of_all_permutations():
    gain = np.random.default_rng(2).standard_normal((5, 5)) ** 3
    sums = [gain[range(5), p].sum() for p in itertools.permutations(range(5))]
    mean, deviation, largest = permuted(gain)
    assert (mean, deviation) == pytest.approx((np.mean(sums), np.std(sums)))
    assert permuted(gain + 3.0) == pytest.approx((mean + 15.0, deviation, largest))


def unrelated(draw, n=60):
    """Gains of guesses that know nothing: of numbers, some with a long tail, and of classes, some rare."""
    tailed = [np.exp(2.0 * draw.standard_normal(n)) for _ in range(2)]
    rare, fair = (np.arange(n) < 2) * 1.0, np.arange(n) % 4 * 1.0
    return {
        "numbers": explained(draw.random(n), draw.random(n), 0.5),
        "long tail": explained(*tailed, tailed[1].mean()),
        "classes": hits(draw.integers(0, 4, n) * 1.0, fair, 4),
        "a rare class": hits((draw.random(n) < 0.1) * 1.0, rare, 2),
    }


@pytest.mark.parametrize("kind", ["numbers", "long tail", "classes", "a rare class"])
def test_a_skill_of_chance_hardly_ever_counts_and_a_real_one_does(kind):
    draw = np.random.default_rng(3)
    gain = unrelated(draw)[kind]
    orders = draw.permuted(np.tile(np.arange(60), (5000, 1)), axis=1)
    assert np.mean([counted(gain[:, order]) > 0 for order in orders[:200]]) == 0.0
    mean, deviation, largest = permuted(gain)
    sums = gain[np.arange(60), orders].sum(1)
    assert np.mean(sums > mean + 4 * deviation + largest) <= 1e-3
    v = draw.integers(0, 3, 60) * 1.0
    assert counted(hits(v, v, 3)) == pytest.approx(1.0) == counted(explained(v, v, v.mean()))


def test_gains_sum_to_the_share_explained_and_to_the_accuracy_beyond_guessing():
    draw = np.random.default_rng(4)
    v, guess = draw.random(30), draw.random(30)
    error = ((v - guess) ** 2).sum() / ((v - 0.4) ** 2).sum()
    assert np.trace(explained(guess, v, 0.4)) == pytest.approx(1.0 - error)
    label, told = np.arange(30) % 3, draw.integers(0, 3, 30)
    right = np.mean([(told[label == k] == k).mean() for k in range(3)])
    assert np.trace(hits(told, label, 3)) == pytest.approx((right - 1 / 3) / (2 / 3))


def test_the_gap_is_exactly_one_for_the_factors_themselves():
    z, v = binned(FACTORS), binned(FACTORS)
    information = mutual_information(z, v)
    np.testing.assert_allclose(np.diag(information), entropies(v), atol=1e-12)
    off = information[~np.eye(4, dtype=bool)]
    assert mig(information, entropies(v)) > 1 - 3 * off.max() and off.max() < 0.06


def test_a_factor_told_twice_has_no_gap_and_loses_completeness_only():
    code = np.concatenate([perfect(), perfect()], 1)
    found = scores(code, FACTORS)
    assert found["MIG"] < 0.01 and found["SAP"] < 0.01
    assert found["DCI disentanglement"] > 0.9 and found["modularity"] > 0.95
    assert found["DCI completeness"] < 0.85


def test_a_rotated_code_keeps_its_information_and_loses_its_agreement():
    """Two independent uniform factors turned by 45 degrees: each unit tells as much of both."""
    two = FACTORS[:, [1, 2]]
    two = (two - two.mean(0)) / two.std(0)
    turn = np.array([[1, -1], [1, 1]]) / math.sqrt(2)
    straight, turned = scores(two, two), scores(two @ turn, two)
    assert turned["DCI informativeness"] > 0.9
    for name in ("MIG", "SAP", "DCI disentanglement", "modularity"):
        assert turned[name] < 0.45 * straight[name], name


def test_order_sign_scale_and_monotone_maps_change_nothing_that_is_counted_in_ranks():
    code = perfect()
    v = binned(FACTORS)

    def counted(z):
        information = mutual_information(z, v)
        return mig(information, entropies(v)), modularity(information, chance(z, v))

    for other in (code[:, ::-1], -2.0 * code + 3.0, np.exp(code), code**3):
        assert counted(binned(other)) == pytest.approx(counted(binned(code)), abs=0.02)
    assert sap(code[:, ::-1] * -5.0, FACTORS) == pytest.approx(sap(code, FACTORS))


def test_mutual_information_of_a_noisy_channel_has_its_closed_form():
    """A fair bit turned over with probability p: I = log 2 - H(p)."""
    p = 0.1
    bit = np.arange(100_000) % 2
    sent = np.where(np.random.default_rng(1).random(len(bit)) < p, 1 - bit, bit)
    found = mutual_information(sent[:, None], bit[:, None])[0, 0]
    assert found == pytest.approx(math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p), abs=0.005)


def test_what_chance_shows_is_what_independent_columns_show():
    a, b = binned(NOISE[:, :3]), binned(NOISE[:, 3:])
    assert mutual_information(a, b).mean() == pytest.approx(chance(a, b).mean(), rel=0.15)


def test_bins_are_equally_full_and_few_values_are_kept():
    z = binned(NOISE[:, :1])
    assert np.bincount(z[:, 0]).min() == np.bincount(z[:, 0]).max() == N // 20
    assert np.array_equal(binned(FACTORS[:, :1])[:, 0], FACTORS[:, 0].astype(int))
    assert is_class(FACTORS[:, 0]) and not is_class(FACTORS[:, 1])


def test_sap_of_a_class_is_zero_for_guessing_and_one_for_knowing():
    label = (np.arange(900) % 3).astype(float)[:, None]
    constant = np.zeros((900, 1))
    assert sap(np.concatenate([label, constant], 1), label) == pytest.approx(1.0)
    assert sap(np.concatenate([constant, constant], 1), label) == pytest.approx(0.0)


def test_importances_have_their_closed_forms():
    one = from_importances(np.eye(3), np.ones(3))
    assert one == pytest.approx({"disentanglement": 1.0, "completeness": 1.0, "informativeness": 1.0})
    even = from_importances(np.full((3, 3), 1 / 3), np.ones(3))
    assert even["disentanglement"] == pytest.approx(0.0) and even["completeness"] == pytest.approx(0.0)
    # a unit that shares itself between two of three factors: 1 - log 2 / log 3
    half = from_importances(np.array([[0.5, 0.5, 0.0]]).T @ np.ones((1, 1)) * np.ones((1, 3)), np.ones(3))
    assert half["completeness"] == pytest.approx(1 - math.log(2) / math.log(3))
    assert from_importances(np.eye(3), np.zeros(3))["disentanglement"] == 0.0


def test_a_vote_needs_no_more_than_a_fixed_value_has_rows():
    assert factor_vae(np.zeros((50, 3)), np.zeros((50, 2), dtype=np.int64)) == 0.0
    few = np.random.default_rng(0).standard_normal((30, 2))
    assert 0.0 <= factor_vae(few, binned(few)) <= 1.0


def test_a_factor_that_never_varies_takes_no_part():
    factors = np.concatenate([FACTORS, np.ones((N, 1))], 1)
    with_it = mig(mutual_information(binned(perfect()), binned(factors)), entropies(binned(factors)))
    assert with_it == pytest.approx(PERFECT["MIG"], abs=0.02)
    assert dci(NOISE, np.ones((N, 1)), [True])["informativeness"] == 0.0


def test_constant_factors_change_no_score_and_alone_give_none():
    some, code = FACTORS[:240, :2], perfect()[:240, [1, 3]]
    wider = np.insert(some, [0, 1, 2], [3.0, 0.0, -7.0], axis=1)
    assert scores(code, wider, seed=1) == scores(code, some, seed=1)
    assert set(scores(code, np.full((240, 2), 0.1)).values()) == {0.0}
    assert sap(code, wider) == sap(code, some) > 0.9
    assert factor_vae(code, binned(wider)) == factor_vae(code, binned(some)) > 0.9
    assert dci(code, np.ones((240, 3)), [True] * 3)["disentanglement"] == 0.0


def test_the_scale_of_units_is_nothing_to_the_votes_within_a_factor_of_a_hundred():
    code, v = perfect((1.0, 1.0, 1.0, 1.0))[:1000], binned(FACTORS[:1000])
    code /= code.std(0)
    near, far = np.ones(6), np.ones(6)
    near[0], far[0] = 1 / 99, 1 / 101
    assert factor_vae(code * near, v) == factor_vae(code, v) > 0.95
    assert factor_vae(code * far, v) == factor_vae(code[:, 1:], v) < 0.95  # it counts as idle


def test_every_score_comes_with_its_spread_and_repeats():
    some = slice(0, 800)
    first = disentanglement(perfect()[some], FACTORS[some], seed=3)
    again = disentanglement(perfect()[some], FACTORS[some], seed=3)
    assert set(first) == set(PERFECT) and all(0 <= e.spread < 0.2 for e in first.values())
    assert {k: round(e.value, 1) for k, e in first.items()} == {
        k: round(e.value, 1) for k, e in again.items()
    }


def test_codes_and_factors_of_different_length_are_refused():
    with pytest.raises(ValueError, match="10 codes for 9"):
        disentanglement(np.zeros((10, 2)), np.zeros((9, 2)))
