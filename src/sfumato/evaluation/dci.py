"""DCI: disentanglement, completeness and informativeness of a code (Eastwood and Williams 2018).

A regressor per factor, here a random forest, predicts it from the code; R_df is the importance of unit d
for factor f, summing to one over d. With P_df = R_df / sum_f R_df and Q_df = R_df / sum_d R_df,

    disentanglement   sum_d w_d (1 - H_F(P_d.)),   w_d = sum_f R_df / sum R        one factor for a unit
    completeness      mean_f (1 - H_D(Q_.f))                                       one unit for a factor
    informativeness   mean_f max(0, S_f): held-out R^2, or for classes the balanced accuracy rescaled so that
                      guessing is 0

H_K is the entropy to base K. Importances are counted only as far as the forest predicts, R_df times S_f: the
importances of a forest that has learned nothing are those of chance. Nor may a skill of chance count, however
small: were it the only one above 0, every unit would tell of that factor alone. So S_f is 0 unless it exceeds

    E S + 4 (Var S)^1/2 + max_ij |d_ij|,   S = sum_i g_{i pi(i)} with the judged values permuted at random

with g_ij what row i's prediction would add to the skill if the value of row j were its own, and d_ij that
less the means of its row and column; E S = sum_ij g_ij / n, Var S = sum_ij d_ij^2 / (n - 1) (Hoeffding 1951,
theorem 2). The largest term is for sums of few terms, such as hits in a rare class, whose tail is longer than
the normal's. Means are over the factors that vary; all scores are 0 where none does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.noise import seed_of
from .information import Rows, varying

MOST = 2000  # rows to learn from, and half as many to judge by; more change little but the time
TREES, LEAF = 20, 3
DEVIATIONS = 4.0  # beyond chance; unrelated predictions get there about once in ten thousand factors


def dci(codes: Rows, factors: Rows, classes: Sequence[bool], seed: int = 0) -> dict[str, float]:
    """{disentanglement, completeness, informativeness} of codes (N, D) against factors (N, F)."""
    varied = varying(factors)
    if not varied.any():
        return from_importances(np.zeros((codes.shape[1], 1)), np.zeros(1))
    order = np.random.default_rng(seed_of("dci", seed)).permutation(len(codes))
    cut = min(MOST, 2 * len(codes) // 3)
    learn, judge = order[:cut], order[cut : cut + MOST // 2]
    fitted = [
        _forest(codes[learn], v[learn], codes[judge], v[judge], kind, seed)
        for v, kind, varies in zip(factors.T, classes, varied, strict=True)
        if varies
    ]
    return from_importances(np.stack([r for r, _ in fitted], 1), np.array([skill for _, skill in fitted]))


def from_importances(importances: Rows, skill: Rows) -> dict[str, float]:
    """The three scores from importances (D, F), each column summing to one or zero, and skills (F,)."""
    r = importances * skill
    rows, columns = r.sum(1), r.sum(0)
    total = r.sum()
    d = 1.0 - _relative_entropy(r.T)
    c = 1.0 - _relative_entropy(r)
    return {
        "disentanglement": float((rows * d).sum() / total) if total > 0 else 0.0,
        "completeness": float(np.mean(np.where(columns > 0, c * (skill > 0), 0.0))),
        "informativeness": float(skill.mean()),
    }


def _relative_entropy(weights: Rows) -> Rows:
    """Entropy of each column of weights (K, n) to base K: 1 where it is uniform, or empty."""
    total = weights.sum(0)
    p = weights / np.where(total > 0, total, 1.0)
    h = -(p * np.log(np.where(p > 0, p, 1.0))).sum(0)
    return np.where(total > 0, h / np.log(max(len(weights), 2)), 1.0)


def counted(gain: Rows) -> float:
    """The skill, sum_i g_ii of gain (n, n), as far as it counts: 0 where chance may have made it."""
    skill = float(np.trace(gain))
    mean, deviation, largest = permuted(gain)
    return skill if skill > max(0.0, mean + DEVIATIONS * deviation + largest) else 0.0


def permuted(gain: Rows) -> tuple[float, float, float]:
    """E S, (Var S)^1/2 and max |d_ij| of S = sum_i g_{i pi(i)}, pi a random permutation (Hoeffding 1951)."""
    n, mean = len(gain), float(gain.mean())
    centred = gain - gain.mean(0) - gain.mean(1, keepdims=True) + mean
    deviation = math.sqrt(float((centred**2).sum()) / max(1, n - 1))
    return n * mean, deviation, float(np.abs(centred).max())


def _forest(z: Rows, v: Rows, z_judge: Rows, v_judge: Rows, is_class: bool, seed: int) -> tuple[Rows, float]:
    """Importances (D,) and the skill that counts, on rows the forest has not seen."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    if len(np.unique(v)) < 2:
        return np.zeros(z.shape[1]), 0.0
    settings: dict[str, Any] = {
        "n_estimators": TREES,
        "min_samples_leaf": LEAF,
        "max_features": 1.0,
        "random_state": seed % 2**32,
    }
    if not is_class:
        forest = RandomForestRegressor(**settings).fit(z, v)
        gain = explained(forest.predict(z_judge), v_judge, float(v.mean()))
        return forest.feature_importances_, counted(gain)
    names, label = np.unique(v, return_inverse=True)
    voter = RandomForestClassifier(**settings, class_weight="balanced").fit(z, label)
    gain = hits(names[voter.predict(z_judge)], v_judge, len(names))
    return voter.feature_importances_, counted(gain)


def explained(guess: Rows, v: Rows, mean: float) -> Rows:
    """(n, n) the part of R^2 = 1 - sum_i (p_i - v_i)^2 / sum_i (v_i - mean)^2 that guess i has by value j."""
    total = max(float(((v - mean) ** 2).sum()), 1e-12)
    return 1.0 / len(v) - (guess[:, None] - v) ** 2 / total


def hits(guess: Rows, v: Rows, classes: int) -> Rows:
    """(n, n) the part of the balanced accuracy, guessing mapped to 0, that guess i has by value j."""
    present, label, rows = np.unique(v, return_inverse=True, return_counts=True)
    right = (guess[:, None] == v) / (rows[label] * len(present))
    return (right - 1.0 / (classes * len(v))) / (1.0 - 1.0 / classes)
