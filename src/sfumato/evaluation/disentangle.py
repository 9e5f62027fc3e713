"""How far each unit of a code stands for one known factor: MIG, modularity, SAP, FactorVAE's score, DCI.

With I_df the mutual information of unit d and factor f (information.py), codes z (N, D), factors v (N, F):

    MIG          mean_f (I_(1)f - I_(2)f) / H(v_f),  first and second largest over d     Chen et al. 2018
    modularity   mean_d 1 - sum_{f != best} I_df^2 / (I_d,best^2 (F - 1)),  over the units that carry
                 more information than chance                                  Ridgeway and Mozer 2018
    SAP          mean_f (S_(1)f - S_(2)f)                                           Kumar et al. 2018
                 S_df: R^2 of the linear fit of v_f by z_d; for a factor of few values, the balanced
                 accuracy of the nearest class mean, rescaled so that guessing is 0
    FactorVAE    accuracy of guessing which factor is held fixed from the unit of least relative
                 variance, by majority vote; guessing gives about 1 / F          Kim and Mnih 2018
    DCI          dci.py                                                     Eastwood and Williams 2018

For a code that knows nothing all but FactorVAE's are near 0, and not at it. So MIG: on N rows the plug-in
estimate of I_df is too large by about (A - 1)(B - 1) / (2 N) nats for units of A bins and factors of B
(information.py); the bias all units share leaves the gap, what they scatter about it stays. All are 1 for
a code with one unit for each factor, whatever the order, sign and scale of its units and however many idle
ones are beside them; but FactorVAE's takes units whose standard deviation is below 1 % of the largest for
idle, so that its units' scales must be within a factor of 100.

A factor that never varies in the data takes no part: nothing can be known of it. Where none varies, all
scores are 0.
"""

from __future__ import annotations

import numpy as np

from ..core.noise import seed_of
from .dci import dci
from .information import Bins, Rows, binned, chance, entropies, mutual_information, varying
from .spread import Estimate, combine, fitting_groups, groups_of

FEW = 10  # distinct values up to which a factor is a class
VOTES, HELD = 800, 64  # votes to learn from (and as many to judge), rows of one vote
IDLE = 0.01  # share of the largest standard deviation below which a unit takes no part in votes
GROUPS = 4  # of the jackknife


def is_class(factor: Rows) -> bool:
    """Whether a factor's values are classes: at most ten distinct ones."""
    return len(np.unique(factor)) <= FEW


def mig(information: Rows, entropy: Rows) -> float:
    """The mutual information gap from I (D, F) and H (F,), averaged over the factors that vary."""
    first, second = _two_largest(information)
    varies = entropy > 0
    return float(np.mean((first - second)[varies] / entropy[varies])) if varies.any() else 0.0


def modularity(information: Rows, by_chance: Rows) -> float:
    """Modularity from I (D, F) and what chance gives; 0 where no unit carries anything."""
    carries = (information > 2.0 * by_chance + 1e-9).any(1)
    if not carries.any() or information.shape[1] < 2:
        return 0.0
    squared = information[carries] ** 2
    best = squared.max(1)
    return float(np.mean(1.0 - (squared.sum(1) - best) / (best * (information.shape[1] - 1))))


def sap(codes: Rows, factors: Rows) -> float:
    """The separated attribute predictability, averaged over the factors that vary."""
    factors = factors[:, varying(factors)]
    if not factors.shape[1]:
        return 0.0
    scores = np.stack([_accuracies(codes, v) if is_class(v) else _fits(codes, v) for v in factors.T], 1)
    first, second = _two_largest(scores)
    return float(np.mean(first - second))


def factor_vae(codes: Rows, factors: Bins, seed: int = 0) -> float:
    """FactorVAE's score: votes are learned on one half of the draws and judged on the other."""
    scale = codes.std(0)
    active = np.flatnonzero(scale > IDLE * scale.max(initial=0.0))
    factors = factors[:, varying(factors)]
    if not len(active) or not factors.shape[1]:
        return 0.0
    z, draw = codes[:, active] / scale[active], np.random.default_rng(seed_of("factor-vae", seed))
    rows_of = [[np.flatnonzero(v == value) for value in range(int(v.max()) + 1)] for v in factors.T]
    tables = np.zeros((2, len(active), factors.shape[1]))
    for vote in range(2 * VOTES):
        f = int(draw.integers(factors.shape[1]))
        alike = rows_of[f][int(factors[draw.integers(len(z)), f])]
        held = z[draw.choice(alike, HELD)]
        tables[vote % 2, int(np.argmin(held.var(0))), f] += 1
    guess = tables[0].argmax(1)
    return float(tables[1][np.arange(len(active)), guess].sum() / VOTES)


def scores(codes: Rows, factors: Rows, seed: int = 0) -> dict[str, float]:
    """Every score of codes (N, D) against the factors (N, F) that vary, by name."""
    factors = factors[:, varying(factors)]
    z, v = binned(codes), binned(factors)
    information = mutual_information(z, v)
    found = {"MIG": mig(information, entropies(v))}
    parts = dci(codes, factors, [is_class(f) for f in factors.T], seed)
    found |= {f"DCI {name}": value for name, value in parts.items()}
    found["FactorVAE score"] = factor_vae(codes, v, seed)
    found["SAP"] = sap(codes, factors)
    found["modularity"] = modularity(information, chance(z, v))
    return found


def disentanglement(codes: Rows, factors: Rows, seed: int = 0) -> dict[str, Estimate]:
    """The scores with their spread by the delete-a-group jackknife over the rows."""
    if len(codes) != len(factors) or not len(codes):
        raise ValueError(f"{len(codes)} codes for {len(factors)} rows of factors")
    whole = scores(codes, factors, seed)
    parts = groups_of(len(codes), fitting_groups(GROUPS, len(codes)), seed)
    without = [scores(np.delete(codes, p, 0), np.delete(factors, p, 0), seed) for p in parts]
    return {name: combine(value, [w[name] for w in without]) for name, value in whole.items()}


def _two_largest(values: Rows) -> tuple[Rows, Rows]:
    """Largest and second largest of each column; the second is 0 where there is one row."""
    ordered = np.sort(values, 0)[::-1]
    return ordered[0], ordered[1] if len(ordered) > 1 else np.zeros_like(ordered[0])


def _fits(codes: Rows, v: Rows) -> Rows:
    """R^2 of the line through (z_d, v), (D,); 0 for a constant unit."""
    z, u = codes - codes.mean(0), v - v.mean()
    scale = (z * z).sum(0) * (u * u).sum()
    return np.where(scale > 0, (z * u[:, None]).sum(0) ** 2 / np.where(scale > 0, scale, 1.0), 0.0)


def _accuracies(codes: Rows, v: Rows) -> Rows:
    """Balanced accuracy of the nearest class mean in each unit, (D,), guessing mapped to 0."""
    _, label = np.unique(v, return_inverse=True)
    classes = int(label.max()) + 1
    if classes < 2:
        return np.zeros(codes.shape[1])
    means = np.stack([codes[label == k].mean(0) for k in range(classes)])
    guess = np.abs(codes[:, None, :] - means).argmin(1)
    right = np.stack([(guess[label == k] == k).mean(0) for k in range(classes)]).mean(0)
    return np.maximum(0.0, (right - 1.0 / classes) / (1.0 - 1.0 / classes))
