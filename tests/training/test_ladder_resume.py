"""A ladder and a held capacity go on where they stood: to the bit, whatever interrupted them."""

import pytest
import torch
from training_toys import final, trainer

from sfumato.core.errors import Interrupted
from sfumato.core.lazy import build
from sfumato.data.builtin import digits
from sfumato.recipes import RECIPES

DIALS = {
    "hvae": {"levels": 4, "latent": 2, "width": 16, "components": 2, "batch": 8, "warmup": 64},
    "beta-vae": {"capacity": 3.0, "rise": 64, "latent": 3, "width": 8, "components": 1, "batch": 8},
}


def made(name):
    torch.manual_seed(0)
    return build(RECIPES[name](digits().facts, **DIALS[name]))


def stopped(data, k, training):
    """Ask the training to stop at its k-th batch."""
    count, batch = [0], data.batch

    def counted(*args):
        count[0] += 1
        if count[0] == k:
            training.stop.requested = 15
        return batch(*args)

    data.batch = counted


@pytest.mark.parametrize("name", DIALS)
def test_stopped_in_the_middle_it_ends_as_if_undisturbed(tmp_path, name):
    part = digits().take(range(40))
    trainer(tmp_path / "whole", made(name), data=part, examples=96).fit()
    cut = trainer(tmp_path / "cut", made(name), data=digits().take(range(40)), examples=96)
    stopped(cut.data, 6, cut)
    with pytest.raises(Interrupted):
        cut.fit()
    trainer(tmp_path / "cut", made(name), data=part, examples=96).fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
