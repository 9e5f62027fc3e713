"""Every recipe goes on where it stood, to the bit, whatever interrupted it; and what it draws depends on the
seed alone."""

from dataclasses import replace

import pytest
import torch
from training_toys import final, trainer

from sfumato.core.errors import Interrupted
from sfumato.core.lazy import build
from sfumato.data.builtin import digits
from sfumato.data.clips import moving_digits
from sfumato.models.given import seeds_of
from sfumato.recipes import RECIPES

CODES = {"codes": 16, "dim": 4, "width": 16, "prior_width": 32, "prior_depth": 1, "patience": 2}
FLAT = {"latent": 4, "components": 1}
DIALS = {
    "diffusevae": {"width": 8, "latent": 3, "components": 1},
    "diffusion": {"width": 8},
    "ddpm": {"width": 8},
    "improved-ddpm": {"width": 8},
    "vdm": {"width": 8},
    "ncsn": {"width": 8, "levels": 6},
    "dit": {"width": 96},
    "jit": {"width": 96},
    "ae": FLAT | {"width": 16},
    "denoising-ae": FLAT | {"width": 16},
    "sparse-ae": FLAT,
    "k-sparse-ae": FLAT | {"k": 2},
    "contractive-ae": FLAT,
    "vae": {"width": 8, "latent": 3, "components": 1},
    "beta-vae": {"capacity": 3.0, "rise": 64, "latent": 3, "width": 8, "components": 1},
    "hvae": {"levels": 4, "latent": 2, "width": 16, "components": 2, "warmup": 0.5},
    "vq-vae": CODES,
    "vq-vae-2": CODES,
    "td-vae": {"jump": 3, "latent": 4, "width": 8, "belief": 16, "pairs": 2, "components": 1},
    "classifier": {"width": 8},
}
EXAMPLES = 96


def pictures(name):
    """Forty digits, or clips of six frames."""
    return moving_digits(40, frames=6, size=12) if name == "td-vae" else digits().take(range(40))


def made(name):
    torch.manual_seed(0)
    return build(RECIPES[name](pictures(name).facts, **DIALS[name], batch=8))


def stopped(data, k, training):
    """Ask the training to stop at its k-th batch."""
    count, batch = [0], data.batch

    def counted(*args):
        count[0] += 1
        if count[0] == k:
            training.stop.requested = 15
        return batch(*args)

    data.batch = counted


def test_every_recipe_is_here():
    assert set(DIALS) == set(RECIPES)


@pytest.mark.parametrize("name", DIALS)
def test_stopped_in_the_middle_it_ends_as_if_undisturbed(tmp_path, name):
    whole = trainer(tmp_path / "whole", made(name), data=pictures(name), examples=EXAMPLES)
    whole.fit()
    cut = trainer(tmp_path / "cut", made(name), data=pictures(name), examples=EXAMPLES)
    stopped(cut.data, 6, cut)
    with pytest.raises(Interrupted):
        cut.fit()
    trainer(tmp_path / "cut", made(name), data=pictures(name), examples=EXAMPLES).fit()
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    if name != "classifier":
        drawn_by_seed_alone(whole.model.eval())


def drawn_by_seed_alone(generator):
    """Three samples alone, in another order and together are the same, and differ from each other."""
    plan = replace(generator.plan, steps=min(generator.plan.steps, 6))
    seeds = seeds_of(0, 3)
    together = generator.sample(3, plan, seeds=seeds)
    for batch in (1, 2):
        assert (
            generator.sample(3, plan, seeds=seeds[::-1], batch=batch).flip(0) - together
        ).abs().max() < 1e-4
    assert all((together[i] != together[j]).any() for i in range(3) for j in range(i))
