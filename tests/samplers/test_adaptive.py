"""The adaptive Runge-Kutta pair: its order, its tolerance, its rows' independence, and an outside oracle."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from sfumato.core.errors import DivergedError
from sfumato.samplers.adaptive import ERROR, NODES, TABLEAU, solve

F64 = torch.float64


def pendulum(s, y):
    """y'' = -sin y (1 + s/10), as two equations."""
    return torch.stack([y[:, 1], -torch.sin(y[:, 0]) * (1.0 + 0.1 * s)], 1)


def root_mean_square(tolerance):
    """The customary norm: error against tolerance (1 + |y|), root mean square over the row."""
    return lambda error, y: (error / (tolerance * (1.0 + y.abs()))).square().mean(1).sqrt()


def starts(count=5):
    return torch.stack([torch.linspace(-2.0, 2.5, count, dtype=F64), torch.ones(count, dtype=F64)], 1)


def test_the_tableau_satisfies_the_conditions_of_its_order():
    """Row sums are the nodes, and the weights integrate 1, s, ..., s^4 exactly; the other ones up to s^3."""
    for node, row in zip(NODES, TABLEAU, strict=True):
        assert sum(row) == pytest.approx(node, abs=1e-14)
    five = [*TABLEAU[-1], 0.0]
    four = [b - e for b, e in zip(five, ERROR, strict=True)]
    for power in range(5):
        moment = sum(b * c**power for b, c in zip(five, NODES, strict=True))
        assert moment == pytest.approx(1 / (power + 1), abs=1e-14)
    for power in range(4):
        moment = sum(b * c**power for b, c in zip(four, NODES, strict=True))
        assert moment == pytest.approx(1 / (power + 1), abs=1e-14)


@pytest.mark.parametrize("ends", [(0.0, 3.0), (3.0, 0.0)])
def test_it_agrees_with_an_outside_solver(ends):
    found = solve(pendulum, starts(), *ends, norm=root_mean_square(1e-9))
    for row, start in zip(found.y, starts(), strict=True):

        def field(s, y):
            return pendulum(torch.tensor([s]), torch.from_numpy(y)[None])[0].numpy()

        oracle = solve_ivp(field, ends, start.numpy(), rtol=1e-11, atol=1e-11, method="DOP853").y[:, -1]
        assert torch.allclose(row, torch.from_numpy(oracle), rtol=0, atol=3e-8)


def test_the_error_follows_the_tolerance():
    """y' = y cos s has the solution e^(sin s)."""
    y0 = torch.ones(3, 1, dtype=F64)
    for tolerance in (1e-4, 1e-6, 1e-8):
        found = solve(lambda s, y: y * torch.cos(s)[:, None], y0, 0.0, 10.0, norm=root_mean_square(tolerance))
        assert float((found.y - math.exp(math.sin(10.0))).abs().max()) < 20 * tolerance


def test_steps_grow_with_the_fifth_root_of_the_tolerance():
    few, many = (
        float(solve(pendulum, starts(), 0.0, 20.0, norm=root_mean_square(t)).steps.double().mean())
        for t in (1e-5, 1e-10)
    )
    assert math.log(many / few) / math.log(1e5) == pytest.approx(1 / 5, abs=0.03)


def test_a_row_does_not_depend_on_the_others():
    """Easy and hard rows together are each alone, to the last bit, and take different numbers of steps."""

    def spring(s, y):
        return torch.stack([y[:, 1], -y[:, 2] * y[:, 0], torch.zeros_like(s)], 1)

    y = torch.tensor([[1.0, 0.0, 0.1], [1.0, 0.0, 2500.0], [0.5, 0.0, 30.0]], dtype=F64)
    together = solve(spring, y, 0.0, 1.0, norm=root_mean_square(1e-7))
    for k in range(3):
        alone = solve(spring, y[k : k + 1], 0.0, 1.0, norm=root_mean_square(1e-7))
        assert torch.equal(alone.y[0], together.y[k]) and alone.steps[0] == together.steps[k]
    assert together.steps[1] > 3 * together.steps[0]


def test_a_singular_solution_is_refused_in_words():
    """y' = y^2 from 1 reaches infinity at s = 1."""
    with pytest.raises(DivergedError, match="too small"):
        solve(lambda s, y: y * y, torch.ones(1, 1, dtype=F64), 0.0, 2.0, norm=root_mean_square(1e-6))
