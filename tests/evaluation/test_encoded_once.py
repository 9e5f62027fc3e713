"""A bound of many draws encodes an image once, and is to the bit what an encoding for every draw gives."""

import pytest
import torch

from sfumato.evaluation.bits import bounds
from sfumato.models.hvae import Hvae
from sfumato.models.likelihood import GaussianLikelihood
from sfumato.models.tdvae import TdVae
from sfumato.models.trace import LatentVariableModel
from sfumato.models.vae import Vae
from sfumato.nets.ladder import BottomUp, Ladder
from sfumato.nets.plain import MlpDecoder, MlpEncoder

COUNT, DRAWS = 10, 7


def seeded(make):
    torch.manual_seed(0)
    made = make()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return made.eval()


def images(shape):
    return torch.rand((COUNT, *shape), generator=torch.Generator().manual_seed(1)) * 2 - 1


def vae():
    net = (MlpEncoder(1, (4, 4), 6, width=16), MlpDecoder(3, 1, (4, 4), width=16))
    return seeded(lambda: Vae(*net, GaussianLikelihood(), 3)), images((1, 4, 4))


def ladder():
    space = (4, 4)
    net = (BottomUp(1, space, width=8), Ladder(1, space, levels=4, latent=2, width=8))
    return seeded(lambda: Hvae(*net, GaussianLikelihood())), images((1, *space))


def clips():
    net = (MlpEncoder(1, (4, 4), 12, width=16), MlpDecoder(3, 1, (4, 4), width=16))
    return seeded(lambda: TdVae(*net, GaussianLikelihood(), 3, 12, 6, 3, 16, 2)), images((1, 6, 4, 4))


class Again(LatentVariableModel):
    """Another model's trace and nothing kept: every draw encodes anew."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @property
    def conditional(self):
        return self.model.conditional

    def trace(self, x, *, noise):
        return self.model.trace(x, noise=noise)


@pytest.mark.parametrize("make", [vae, ladder, clips])
def test_draws_of_one_encoding_are_those_of_an_encoding_each(make):
    model, x = make()
    encoder, calls = model.belief.encoder if isinstance(model, TdVae) else model.encoder, []
    watch = encoder.register_forward_hook(lambda *_: calls.append(1))
    found = bounds(model, x.split(4), None, draws=DRAWS, seed=3)
    assert len(calls) == 3  # one for each of the batches, however many draws
    expected = bounds(Again(model), x.split(4), None, draws=DRAWS, seed=3)
    assert len(calls) == 3 + 3 * DRAWS
    watch.remove()
    assert found == expected
    assert found != bounds(model, x.split(4), None, draws=DRAWS, seed=4)
