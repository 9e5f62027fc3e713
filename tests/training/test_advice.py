"""What a warning says to try can be typed: every setting it prints is one of the recipe at hand."""

import json
import re

import pytest

from sfumato.app.catalog import CATALOG, NAMES
from sfumato.app.compose import compose
from sfumato.app.options import parse_set
from sfumato.core.lazy import build, dump, load
from sfumato.data.facts import Facts
from sfumato.diffusion.scaling import EpsScaling, VScaling
from sfumato.objectives.elbo import Elbo
from sfumato.training.advice import Advice
from sfumato.training.watch import collapse, empty_levels, exploding, inactive, tint

FACTS = Facts(1, (8, 8), "uint8", 0.0, 255.0, count=2000)
RECIPES = [
    ("vae", {}),
    ("vae", {"warmup": 0.7, "free_bits": 0.5, "beta": 0.0}),
    ("vae", {"warmup": 1.0}),
    ("diffusevae", {}),
    ("beta-vae", {}),
    ("beta-vae", {"capacity": 5.0}),
    ("hvae", {"warmup": 5000.0}),
]


def words(advice):
    """Every warning about latents, of units and of levels."""
    return [
        *collapse([0.0] * 8, advice),
        *inactive(5, 8, advice),
        *empty_levels([0.0, 1.0], 1.0, advice),
        *exploding([90.0], advice),
    ]


def advice_of(tree):
    stage = next(s for s in tree.arguments["stages"] if "objective" in s.arguments)
    return Advice.of(build(stage))


@pytest.mark.parametrize(("recipe", "settings"), RECIPES, ids=str)
def test_every_setting_in_a_warning_changes_the_recipe_at_hand(recipe, settings):
    tree = compose(recipe, FACTS, settings)
    before = dump(tree, NAMES)
    told = words(advice_of(tree))
    assert len(told) == 4
    for text in told:
        lines = re.findall(r"--set ([^\s)]+)", text)
        assert lines, text
        for line in lines:
            changed = compose(recipe, FACTS, settings | parse_set([line]))
            assert dump(changed, NAMES) != before, line
            build([s for s in changed.arguments["stages"] if "objective" in s.arguments])


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0, 3000.0])
def test_a_warm_up_over_the_whole_training_is_not_made_longer(warmup):
    tree = compose("vae", FACTS, {"warmup": warmup})
    told = " ".join(advice_of(tree).speak("beta", "warmup"))
    assert ("longer warm-up" in told) == (warmup != 1.0) and "a smaller beta" in told


def test_where_no_stage_is_known_only_words_are_given():
    assert all("--set" not in text and "try " in text.lower() for text in words(Advice()))
    tree = compose("diffusion", FACTS, {})
    assert advice_of(tree) == Advice()


def test_what_a_tint_is_told_to_try_can_be_tried_where_noise_is_predicted():
    (text,) = tint([-0.5], [0.0], [0.5])
    (line,) = re.findall(r"--set ([^\s)]+)", text)
    for recipe in ("ddpm", "improved-ddpm"):
        plain, other = (compose(recipe, FACTS, s) for s in ({"width": 8}, {"width": 8} | parse_set([line])))
        kinds = [type(build(t.arguments["model"]).density.denoiser.scaling) for t in (plain, other)]
        assert kinds == [EpsScaling, VScaling]


def test_diffusevae_has_the_dials_of_vae_and_reads_as_before_where_they_rest():
    """A run of the time before them states beta alone, and must still be the same run."""

    def stated(recipe, **settings):
        return json.loads(json.dumps(dump(compose(recipe, FACTS, settings), NAMES)["stages"][0]["objective"]))

    assert (
        stated("diffusevae") == stated("diffusevae", warmup=0, free_bits=0) == {"make": "Elbo", "beta": 1.0}
    )
    for settings in ({"warmup": 0.25, "free_bits": 0.1}, {"free_bits": 2.0}, {"warmup": 900.0, "beta": 2.0}):
        one, two = (build(load(stated(r, **settings), CATALOG)) for r in ("vae", "diffusevae"))
        assert isinstance(one, Elbo)
        values = [(e.beta, e.warmup, e.free_bits, e.samples, e.rise) for e in (one, two)]
        assert values[0] == values[1]
