"""Likelihood bounds of a latent-variable model, in bits per dimension of unseen images.

    ELBO      E_q[log p(x given z)] - KL(q(z given x) || p(z))               <= log p(x)
    IWAE-K    E log (1/K) sum_k p(x, z_k) / q(z_k given x)                   between ELBO and log p(x)

(Kingma & Welling 2014, eq. 3; Burda et al. 2016, eq. 8.) With D pixels times channels,

    bits/dim = -bound / (D log 2)

is the length of a code for the image, an upper bound on the truth, if and only if p(x given z) is a
probability of the grey levels the data have. A density of integers has no upper limit, and a cross-entropy
of grey values under a Bernoulli is no probability: both are refused. Data stored as floats have a density
only; its bits/dim refer to the interval [-1, 1] and may be negative.

An image is encoded once and z drawn K times from what its encoder said. All K weights must be of one x. A
model that chooses anew at each draw what to predict (TD-VAE: pairs of frames) has an ELBO, the mean over its
choices, and no importance-weighted bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.noise import Noise
from ..distributions.base import Distribution
from ..distributions.discrete import Bernoulli
from ..distributions.discretized import Binned
from ..distributions.gaussian import Gaussian
from ..models.trace import LatentVariableModel, Trace
from .spread import Estimate, mean_of

CODE, DENSITY = "bits/dim", "bits/dim (density)"
MANY_TARGETS = "each draw predicts other frames: no importance-weighted bound"
BEYOND = 1.0  # of floats outside [-1, 1]: half of the training range once more on either side
OFF_LATTICE = 0.05  # of a grey level: far above rounding (0.004 levels at 16 bits), far below a real step


def unit_of(likelihood: Distribution, levels: int | None) -> str:
    """The unit a likelihood's log-probability has for data of `levels` grey levels (None: floats).

    UsageError, with the reason, where the two do not fit and a number in bits would mean nothing.
    """
    if isinstance(likelihood, Binned) and likelihood.levels == levels:
        return CODE
    if isinstance(likelihood, Bernoulli) and levels == 2:
        return CODE
    if isinstance(likelihood, Gaussian) and levels is None:
        return DENSITY
    raise UsageError(
        f"no bits per dimension: {_mismatch(likelihood, levels)}",
        where=f"likelihood {type(likelihood).__name__}",
        remedy="Train with a discretised likelihood of the data's own grey levels (floats: a Gaussian).",
    )


def check_values(x: Tensor, levels: int | None) -> None:
    """DataError unless images x are on their grey levels or, as floats, near enough to [-1, 1]."""
    if levels is None:
        check_range(x)
    else:
        check_levels(x, levels)


def check_range(x: Tensor) -> None:
    """DataError unless floats x lie within [-1, 1], the range of the training data, or at most 1 beyond.

    New data may well go a little beyond the old; twice the range is another unit (0 ... 255 for 0 ... 1).
    """
    if bool((x.abs() <= 1.0 + BEYOND).all()):  # NaN is not
        return
    raise DataError(
        "no bits per dimension: the images go far beyond the run's range of values",
        where=f"values {float(x.min()):.4g} ... {float(x.max()):.4g}, where training had -1 ... 1",
        remedy="Give data in the unit and range of the training data; divide 0 ... 255 by 255 for 0 ... 1.",
    )


def check_levels(x: Tensor, levels: int) -> None:
    """DataError unless images x are grey levels k = 0 ... levels - 1 at x = 2 k / (levels - 1) - 1.

    Between the levels and outside [-1, 1] the likelihood's bins are not the data's, and a bound is no code.
    """
    k = (x.double() + 1.0) * ((levels - 1) / 2)
    beyond = torch.maximum(-k, k - (levels - 1))
    if not bool((beyond <= OFF_LATTICE).all()):  # NaN is not within either
        what = "the images go beyond the run's range of grey values"
    elif not bool(((k - k.round()).abs() <= OFF_LATTICE).all()):
        what = f"the images hold values between the run's {levels:,} grey levels"
    else:
        return
    raise DataError(
        f"no bits per dimension: {what}",
        where=f"values {float(x.min()):.4g} ... {float(x.max()):.4g}",
        remedy="Give images in the depth and range of the training data, neither rescaled nor resampled.",
    )


def _mismatch(likelihood: Distribution, levels: int | None) -> str:
    if isinstance(likelihood, Binned):
        have = "stored as floats, without levels" if levels is None else f"of {levels:,} levels"
        return f"the likelihood is over {likelihood.levels:,} grey levels and the data are {have}"
    if isinstance(likelihood, Bernoulli):
        return "a Bernoulli of grey values is a cross-entropy, not a probability of the image"
    if isinstance(likelihood, Gaussian):
        return f"a density of integers ({levels:,} grey levels) is not a probability and has no upper limit"
    return f"{type(likelihood).__name__} is not known to be a probability of these data"


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on log p(x) in bits per dimension: what it is called, its value and standard error, the unit.

    nats is the same bound per image, as log p(x) (larger is better); rate the KL's share of the bits; note
    what a reader must know, such as why a bound that was asked for is missing. of: what it is of where
    that is not log p(x) (`Conditional`).
    """

    name: str
    bits: Estimate
    unit: str
    nats: float
    rate: float
    count: int
    note: str = ""
    of: str = ""


def bounds(
    model: LatentVariableModel,
    batches: Iterable[Tensor],
    levels: int | None,
    *,
    draws: int = 1,
    seed: int = 0,
) -> tuple[Bound, ...]:
    """The ELBO over images x in [-1, 1] and, for draws > 1, the importance-weighted bound of that many draws
    (or, on the ELBO, the note that the draws explain different data).

    Each image has its own noise, a function of seed and position: the batch size does not matter. The
    spread is the standard error over images. UsageError where the likelihood does not fit, DataError where
    the images do not.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    unit, size, seen, alike = CODE, 1, 0, True
    with torch.inference_mode():
        for x in batches:
            if levels is not None:
                check_levels(x.cpu(), levels)
            sums = Sums.zero(len(x), x.device)
            noise = Noise.keyed("bits", seed, at=range(seen, seen + len(x)), device=x.device)
            draw = model.tracer(x)
            for k in range(draws):
                trace = draw(noise)
                if not k:
                    # of what the model explains: for one that predicts frames not the whole clip
                    unit, size = unit_of(trace.likelihood, levels), trace.data[0].numel()
                sums = sums.add(trace)
            found.append(sums.means())
            seen, alike = seen + len(x), alike and sums.alike
    if not found:
        raise ValueError("a bound needs at least one batch of images")
    elbo, likelihood, weighted = (torch.cat(part) for part in zip(*found, strict=True))
    rate = float((likelihood - elbo).mean()) / (size * math.log(2.0))
    bound = bound_of("ELBO", elbo, size, unit, rate)
    if model.conditional is not None:
        bound = replace(bound, of=model.conditional.of)
    if not alike:
        return (replace(bound, note=MANY_TARGETS),)
    if draws > 1:
        return bound, bound_of(f"IWAE-{draws}", weighted, size, unit, rate)
    return (bound,)


@dataclass(frozen=True, slots=True)
class Sums:
    """Over the draws so far, of every image (B,): sums of ELBO and log-likelihood, log of the summed weights.

        log (w_1 + ... + w_k) = logaddexp(log (w_1 + ... + w_{k-1}), log w_k)

    so that 5,000 draws need the memory of one. data is what the first draw explained, and alike whether all
    others explained the same: if not, the weights are of different x and their sum bounds nothing.
    """

    draws: int
    elbo: Tensor
    likelihood: Tensor
    log_sum: Tensor
    data: Tensor | None = None
    alike: bool = True

    @staticmethod
    def zero(count: int, device: torch.device) -> Sums:
        """No draws."""
        zeros = torch.zeros(count, dtype=torch.float64, device=device)
        return Sums(0, zeros, zeros, torch.full_like(zeros, -math.inf))

    def add(self, trace: Trace) -> Sums:
        """With one more draw."""
        return Sums(
            self.draws + 1,
            self.elbo + trace.elbo().double(),
            self.likelihood + trace.log_likelihood().double(),
            torch.logaddexp(self.log_sum, trace.log_weight().double()),
            trace.data if self.data is None else self.data,
            self.alike and (self.data is None or torch.equal(self.data, trace.data)),
        )

    def means(self) -> tuple[Tensor, Tensor, Tensor]:
        """ELBO, log-likelihood and importance-weighted bound, (B,) each."""
        k = self.draws
        return self.elbo / k, self.likelihood / k, self.log_sum - math.log(k)


def bound_of(name: str, nats: Tensor, size: int, unit: str, rate: float = 0.0) -> Bound:
    """A bound on log p(x) of images of `size` numbers, nats (n,), as bits per dimension with its spread."""
    bits = -nats / (size * math.log(2.0))
    return Bound(name, mean_of(bits), unit, float(nats.mean()), rate, len(bits))
