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


# ------------------------------------------------------------------------- bins that are open outwards


@pytest.mark.parametrize("end", [-1.0, 1.0])
@pytest.mark.parametrize("std", [0.02, 0.3, 2.0])
def test_an_end_levels_noise_goes_on_outwards_with_the_density_that_is_paid(end, std):
    """log q + u^2/2s^2 is constant, q normalised on (-inf, w/2] or its mirror, and draws have its mean."""
    law, count = TruncatedNormal(5, std), 40_000
    u, log_q = law.draw(torch.full((count, 1), end, dtype=F64), Noise([0], rows=count))
    inwards = -end * (u[:, 0] - end)
    assert float(inwards.max()) <= law.width / 2 + 1e-12 and float(inwards.min()) < -2.5 * std
    edge = torch.tensor(law.width / 2, dtype=F64)
    grid = torch.linspace(-9 * std, float(edge), 200_001, dtype=F64)
    constant = log_q + 0.5 * (inwards / std) ** 2
    assert torch.allclose(constant, constant[:1].expand(count), atol=1e-9)
    density = torch.exp(constant[0] - 0.5 * (grid / std) ** 2)
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-6)
    assert float(inwards.mean()) == pytest.approx(
        float(torch.trapezoid(grid * density, grid)), abs=0.02 * std
    )


def closed(law, x, noise):
    """The normal cut to [-w/2, w/2] at every level, by its equation."""
    edge = 0.5 * law.width / law.std
    inside = math.erf(edge / math.sqrt(2.0))
    z = torch.special.ndtri(0.5 + inside * (noise.uniform(x.shape, F64) - 0.5)).clamp(-edge, edge)
    log_q = -0.5 * z * z - 0.5 * math.log(2 * math.pi) - math.log(law.std * inside)
    return x + law.std * z, log_q.sum(1)


@pytest.mark.parametrize("std", [0.02, 0.2, 3.0])
def test_nothing_is_open_between_the_ends(std):
    law = TruncatedNormal(5, std)
    x = torch.tensor([-0.5, 0.0, 0.5], dtype=F64).repeat(2000, 1)
    found, paid = law.draw(x, Noise([3], rows=2000))
    wanted, cost = closed(law, x, Noise([3], rows=2000))
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    assert torch.allclose(paid, cost, rtol=0, atol=1e-12)


def test_two_levels_are_both_open():
    x = torch.tensor([[-1.0], [1.0]], dtype=F64).repeat(5000, 1)
    u = TruncatedNormal(2, 1.0).draw(x, Noise([0], rows=len(x)))[0] - x
    assert float((u * x.sign()).min()) >= -1.0 and float((u * x.sign()).max()) > 2.5


LAWS_OF_LEVELS = {
    "equal": lambda k: torch.ones_like(k),
    "falling": lambda k: torch.exp(-0.5 * k),
    "steep": lambda k: torch.exp(-2.0 * k),
    "bell": lambda k: torch.exp(-0.5 * ((k - 8.0) / 2.0) ** 2),
}


def left_to_gain(p, ratio):
    """Bits a number that the best q gains in the mean over levels, s = ratio w: KL(q || p within the bin)."""
    count, gain = len(p), 0.0
    width = 2.0 / (count - 1)
    std, grid = ratio * width, torch.arange(count, dtype=F64) * width - 1.0
    for k in range(count):
        low = -10 * std if k == 0 else -0.5 * width
        high = 10 * std if k == count - 1 else 0.5 * width
        u = torch.linspace(low, high, 4001, dtype=F64)
        here = torch.exp(-0.5 * (u / std) ** 2)
        here = here / torch.trapezoid(here, u)
        there = (p * torch.exp(-0.5 * ((grid[k] + u[:, None] - grid) / std) ** 2)).sum(1)
        there = there / torch.trapezoid(there, u)
        inner = torch.where(here > 1e-300, here * (here.log() - there.clamp_min(1e-320).log()), 0.0)
        gain += float(p[k] * torch.trapezoid(inner, u)) / math.log(2.0)
    return gain


@pytest.mark.parametrize("name", LAWS_OF_LEVELS)
def test_a_learned_law_would_gain_a_few_hundredths_of_a_bit_at_most(name):
    """0.02 to 0.035 bits a number where the noise is near 0.4 bins, hardly any where levels are isolated."""
    p = LAWS_OF_LEVELS[name](torch.arange(17, dtype=F64))
    p = p / p.sum()
    gains = {ratio: left_to_gain(p, ratio) for ratio in (0.1, 0.2, 0.4, 0.6, 1.28, 4.0)}
    assert 0.018 < gains[0.4] == max(gains.values()) < 0.035
    assert gains[0.1] < 1e-5 and gains[0.2] < 0.004 and gains[1.28] < 0.012 and gains[4.0] < 0.01
    alone = torch.zeros(17, dtype=F64)
    alone[::4] = 0.2
    assert left_to_gain(alone, 0.4) < 1e-6
