"""What the data decide cannot be set to anything else: refused before training, with the remedy."""

import pytest

from sfumato.app.catalog import RECIPES
from sfumato.app.compose import compose
from sfumato.app.fixed import FIXED
from sfumato.core.errors import SfumatoError, UsageError
from sfumato.core.lazy import Lazy
from sfumato.data.facts import Facts

DIGITS = Facts(1, (8, 8), "uint8", 0, 240, 15.0, ("a", "b"), 1797, mean=(-0.4,), std=(0.75,))
COLOUR = Facts(3, (16, 16), "uint8", 0, 255, 1.0, (), 5000, mean=(0.0,) * 3, std=(0.5,) * 3)
FLOATS = Facts(1, (8, 8), "float32", -1.0, 1.0, mean=(0.0,), std=(0.5,), count=5000)
CLIPS = Facts(1, (4, 8, 8), "uint8", 0, 255, 1.0, (), 500, time=True, mean=(0.0,), std=(0.5,))


def tree_of(name):
    """A recipe on the first of the data sets that it takes."""
    for facts in (DIGITS, COLOUR, FLOATS, CLIPS):
        try:
            return facts, compose(name, facts, {})
        except SfumatoError:
            continue
    raise AssertionError(name)


def fixed_leaves(tree, path=""):
    """(path, value) of every argument that the data decide."""
    if isinstance(tree, Lazy):
        for key, value in tree.arguments.items():
            here = f"{path}.{key}" if path else key
            if key in FIXED:
                yield here, value
            yield from fixed_leaves(value, here)
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from fixed_leaves(value, f"{path}.{i}")


def another(value):
    return [9, *value[1:]] if isinstance(value, (list, tuple)) else (value or 0) + 7


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_lets_a_leaf_contradict_its_data(name):
    """Every such leaf of every recipe: its own value passes and changes nothing, another is refused."""
    facts, tree = tree_of(name)
    leaves = list(fixed_leaves(tree))
    assert leaves
    for path, value in leaves:
        assert compose(name, facts, {path: value}) == tree
        with pytest.raises(UsageError) as refused:
            compose(name, facts, {path: another(value)})
        assert refused.value.where == path
        assert "contradicts the data" in refused.value.what or "the rest of the recipe" in refused.value.what
        assert "Leave it out" in refused.value.remedy


@pytest.mark.parametrize("name", ["ddpm", "diffusion", "improved-ddpm", "ncsn"])
def test_a_learned_variance_is_taken_from_a_network_that_learns_one_alone(name):
    facts = DIGITS
    for key, value in (
        ("model.plan.solver", "Ancestral"),
        ("model.plan.solver.variance", "LargeVariance"),
        ("model.plan.solver.variance", "SmallVariance"),
    ):
        settings = {"model.plan.solver": "Ancestral", key: value}
        assert isinstance(compose(name, facts, settings), Lazy)
    settings = {"model.plan.solver": "Ancestral", "model.plan.solver.variance": "InterpolatedVariance"}
    if name == "improved-ddpm":
        assert isinstance(compose(name, facts, settings), Lazy)
        return
    with pytest.raises(UsageError, match="without a reverse variance") as refused:
        compose(name, facts, settings)
    assert refused.value.where == "model.plan.solver.variance"


def test_the_refusal_names_the_setting_the_data_and_the_remedy():
    key = "model.density.denoiser.net.channels"
    with pytest.raises(UsageError) as refused:
        compose("diffusion", DIGITS, {key: 5})
    assert f"{key}=5 contradicts the data: the data are 8 x 8, 1 channel, 8-bit" in refused.value.what
    assert "has 1 here" in refused.value.what and "--channels" in refused.value.remedy
    with pytest.raises(UsageError, match="rest of the recipe, from which 128 follows"):
        compose("vq-vae-2", DIGITS, {"model.codec.levels.1.encoder.channels": 64})
    with pytest.raises(UsageError, match="does not give to the model") as refused:
        compose("diffusion", DIGITS, {"model.density.denoiser.net.classes": 2})
    assert "conditional=true" in refused.value.remedy
    with pytest.raises(UsageError, match="no classes"):
        compose("diffusion", COLOUR, {"model.density.denoiser.net.classes": 2})


def test_a_likelihood_is_of_the_grey_levels_and_colours_of_the_data():
    """Named alone it has the levels of no one's data; with the right ones it passes."""
    path = "model.codec.likelihood"
    for facts, settings, reason in (
        (DIGITS, {path: "DiscretizedGaussianLikelihood"}, "256 grey levels .* they have 17"),
        (DIGITS, {f"{path}.levels": 255}, "255 grey levels .* they have 17"),
        (COLOUR, {path: "LogisticMixtureLikelihood"}, "1 channels .* they have 3"),
        (FLOATS, {path: "DiscretizedLogisticLikelihood"}, "floats, without grey levels"),
    ):
        with pytest.raises(UsageError, match=reason) as refused:
            compose("vae", facts, settings)
        assert f"--set {path}" in refused.value.remedy
    right = {path: "DiscretizedGaussianLikelihood", f"{path}.levels": 17}
    assert compose("vae", DIGITS, right).arguments["model"] is not None
    assert compose("vae", DIGITS, {path: "GaussianLikelihood"}) is not None
