"""The capacity objective by its formula, and that it holds the KL where it should be."""

import pytest
import torch

from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.models.likelihood import BernoulliLikelihood
from sfumato.models.vae import Vae
from sfumato.nets.plain import MlpDecoder, MlpEncoder
from sfumato.objectives.capacity import Capacity
from sfumato.objectives.elbo import Elbo

X = torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(1)).round() * 2 - 1
BATCH = Batch(X, None, torch.arange(16))


def model():
    torch.manual_seed(0)
    return Vae(
        MlpEncoder(1, (4, 4), 4, width=32), MlpDecoder(2, 1, (4, 4), width=32), BernoulliLikelihood(), 2
    )


def loss(objective, vae=None, seen=0, seed=0):
    return objective(vae or model(), BATCH, noise=Noise([seed], rows=16), seen=seen)


def test_the_capacity_rises_linearly_and_stays():
    objective = Capacity(capacity=10.0, rise=1000)
    assert [objective.allowed(seen) for seen in (0, 250, 1000, 9999)] == [0.0, 2.5, 10.0, 10.0]
    assert Capacity(capacity=3.0, rise=0).allowed(0) == 3.0


@pytest.mark.parametrize("capacity", [0.0, 50.0])
def test_the_mean_of_the_excess_is_the_distance_of_the_mean_kl(capacity):
    plain, held = loss(Elbo()), loss(Capacity(capacity, gamma=7.0, rise=0))
    kl = plain.terms["kl"]
    torch.testing.assert_close(held.terms["excess"].mean(), (kl.mean() - capacity).abs())
    expected = plain.terms["reconstruction"].mean() + 7.0 * (kl.mean() - capacity).abs()
    torch.testing.assert_close(held.total.mean(), expected)
    torch.testing.assert_close(held.terms["kl"], kl)
    assert held.notes.keys() == plain.notes.keys()


@pytest.mark.parametrize("capacity", [0.5, 2.0])
def test_training_holds_the_kl_at_the_capacity(capacity):
    vae, objective = model(), Capacity(capacity, gamma=100.0, rise=0)
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    kls = []
    for step in range(400):
        found = loss(objective, vae, seed=step)
        optimizer.zero_grad()
        found.total.mean().backward()
        optimizer.step()
        kls.append(found.terms["kl"].mean().item())
    assert sum(kls[-50:]) / 50 == pytest.approx(capacity, abs=0.1)


def test_the_judge_is_the_elbo_and_does_not_choose_the_state():
    objective, vae = Capacity(5.0), model()
    a = objective.judge(vae, BATCH, noise=Noise([0], rows=16))
    b = Elbo().judge(vae, BATCH, noise=Noise([0], rows=16))
    assert all(torch.equal(a[k], b[k]) for k in b)
    assert not objective.decides and not Elbo(beta=4.0).decides and Elbo().decides


def test_impossible_values_are_refused():
    with pytest.raises(ValueError, match="0 or more"):
        Capacity(-1.0)
