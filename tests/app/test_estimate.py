"""The doctor's estimate: counted, not guessed."""

import pytest

from sfumato.app.estimate import NUMBERS, estimate
from sfumato.core.lazy import build
from sfumato.data.sources import open_data
from sfumato.recipes import RECIPES


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def waiting(found):
    """Bytes that wait for the backward pass."""
    return found.bytes - 4 * NUMBERS * found.parameters


@pytest.mark.parametrize("name", ["vae", "diffusion", "diffusevae"])
def test_parameters_are_those_that_are_trained(digits, name):
    recipe = build(RECIPES[name](digits.facts))
    stage = max((s for s in recipe.stages if hasattr(s, "share")), key=lambda s: s.share)
    trained = sum(p.numel() for p in stage.trained(recipe.model).parameters())
    assert estimate(digits, name).parameters == trained


def test_memory_is_a_line_over_the_batch(digits):
    """Weights cast for the step are there once, maps for every example: equal batches cost the same."""
    sixteen, forty, sixty_four = (waiting(estimate(digits, "diffusion", {"batch": n})) for n in (16, 40, 64))
    assert sixty_four - forty == pytest.approx(forty - sixteen, rel=0.02)
    assert forty - sixteen > 24 * sixteen / 32  # and most of it is the maps


def test_nothing_is_kept(digits):
    """The same estimate twice: no gradient, weight or hook of the first stays."""
    one, two = estimate(digits, "vae"), estimate(digits, "vae")
    assert (one.bytes, one.parameters) == (two.bytes, two.parameters)


def test_the_sentence_counts_passes(digits):
    found = estimate(digits, "vae")
    assert f"{found.speed * 1800 / len(digits):,.0f} passes" in found.line()
