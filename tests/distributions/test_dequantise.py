"""Dequantisation: the noise has the law that is paid for, and its bound is tight where it should be."""

import math

import pytest
import torch

from sfumato.core.noise import Noise
from sfumato.distributions.dequantise import TruncatedNormal, Uniform

F64 = torch.float64
LAWS = [Uniform(5), TruncatedNormal(5, 0.03), TruncatedNormal(5, 0.2), TruncatedNormal(5, 40.0)]


def name(law):
    return f"{type(law).__name__}-{getattr(law, 'std', '')}"


def drawn(law, count=20_000):
    x = torch.zeros(count, 1, dtype=F64)
    return law.draw(x, Noise([0], rows=count))


@pytest.mark.parametrize("law", LAWS, ids=name)
def test_the_noise_stays_in_its_bin_and_pays_its_own_density(law):
    """E[1/q] over draws of q is the width of the bin, and a histogram of the draws is q."""
    u, log_q = drawn(law)
    assert float(u.abs().max()) <= law.width / 2
    if getattr(law, "std", 1.0) > 0.1:  # narrow laws leave most of the bin to a few rare draws
        assert float(torch.exp(-log_q).mean()) == pytest.approx(law.width, rel=0.02)
    counts, edges = torch.histogram(u[:, 0], bins=20)
    order = u[:, 0].argsort()
    middle = 0.5 * (edges[1:] + edges[:-1])
    density = torch.exp(
        log_q[order][torch.searchsorted(u[order, 0].contiguous(), middle).clamp(max=len(u) - 1)]
    )
    assert torch.allclose(counts / len(u), density * (edges[1] - edges[0]), atol=0.012)


def test_a_wide_normal_is_uniform():
    wide, flat = drawn(LAWS[-1])[1], drawn(LAWS[0])[1]
    assert torch.allclose(wide, flat, atol=1e-4)


@pytest.mark.parametrize("std", [0.02, 0.1, 0.5])
def test_the_bound_is_tight_where_the_density_is_normal_within_the_bin(std):
    """p = N(0, s^2) around a level: log p(u) - log q(u) is the log of the bin's mass, for every u."""
    law = TruncatedNormal(9, std)
    u, log_q = drawn(law, 100)
    log_p = -0.5 * (u[:, 0] / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
    mass = math.erf(0.5 * law.width / std / math.sqrt(2))
    assert torch.allclose(log_p - log_q, torch.full_like(log_q, math.log(mass)), atol=1e-9)


def test_impossible_laws_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        Uniform(1)
    with pytest.raises(ValueError, match="positive"):
        TruncatedNormal(5, 0.0)
