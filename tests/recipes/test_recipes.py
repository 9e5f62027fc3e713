"""Every recipe builds, trains two steps, samples and survives JSON for data of every shape and depth."""

import inspect
import json
import math
import typing
from dataclasses import replace

import pytest
import torch

from sfumato.core.errors import UsageError
from sfumato.core.lazy import Lazy, build, dump, load, override
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.data.facts import Facts
from sfumato.models.given import Given, seeds_of
from sfumato.models.likelihood import DiscretizedGaussianLikelihood, GaussianLikelihood
from sfumato.models.reconstruction import Shifted
from sfumato.objectives.objective import Judge
from sfumato.objectives.penalties import BatchMean, RunningMean
from sfumato.recipes import RECIPES, parts
from sfumato.recipes.sizes import latent_size, patch_and_levels
from sfumato.training.stage import Fit

CATALOG = {part.__name__: part for part in parts()}
NAMES = {part: name for name, part in CATALOG.items()}
CLASSES = ("a", "b", "c")
FACTS = {
    "digits": Facts(1, (8, 8), "uint8", 0, 240, 15.0, CLASSES, 1797, mean=(-0.4,), std=(0.75,)),
    "mnist": Facts(1, (28, 28), classes=CLASSES),
    "colour": Facts(3, (32, 32), classes=CLASSES),
    "odd": Facts(5, (17, 23), classes=CLASSES),
    "deep": Facts(1, (12, 10), "uint16", 0, 65535),
    "sequence": Facts(2, (50,), "float32", -1.0, 1.0),
    "points": Facts(2, (), "float32", -1.0, 1.0),
    "volume": Facts(1, (6, 8, 8)),
    "thin": Facts(1, (1, 40), "float32", -1.0, 1.0),
}
VARIANTS = [
    ("ae", {}),
    ("denoising-ae", {"gaussian": 0.1, "salt_and_pepper": 0.1}),
    ("sparse-ae", {"shallow": True}),
    ("k-sparse-ae", {}),
    ("contractive-ae", {}),
    ("contractive-ae", {"shallow": False, "latent": 4}),
    ("vae", {}),
    ("vae", {"conditional": True}),
    ("vae", {"components": 0}),
    ("diffusevae", {"components": 0, "conditional": True}),
    ("beta-vae", {}),
    ("beta-vae", {"capacity": 5.0}),
    ("sparse-ae", {"shallow": False, "latent": 4}),
    ("hvae", {"levels": 6, "latent": 2}),
    ("ddpm", {"steps": 10}),
    ("ddpm", {"steps": 10, "conditional": True}),
    ("ddpm", {"steps": 10, "cosine": True}),
    ("improved-ddpm", {"steps": 10}),
    ("improved-ddpm", {"steps": 10, "vlb": True, "cosine": False, "conditional": True}),
    ("vdm", {"learned": 8}),
    ("vdm", {"conditional": True, "detail": False}),
    ("ncsn", {"levels": 2, "moves": 1}),
    ("diffusion", {}),
    ("diffusion", {"conditional": True, "dropout": 0.1}),
    ("dit", {}),
    ("dit", {"conditional": True, "dropout": 0.1}),
    ("jit", {"patch": 2}),
    ("jit", {"conditional": True}),
    ("diffusevae", {"formulation": 1}),
    ("diffusevae", {"formulation": 2, "give_z": True}),
    ("diffusevae", {"formulation": 2, "conditional": True}),
    ("classifier", {}),
    ("classifier", {"noisy": True}),
]
CASES = [
    (data, name, dials)
    for data, facts in FACTS.items()
    for name, dials in VARIANTS
    if (facts.classes or not (dials.get("conditional") or name == "classifier"))
    and (facts.space or name not in ("dit", "jit"))
    and (facts.levels or name not in ("improved-ddpm", "vdm"))
]


def batch_of(facts, n=8):
    """Images of one brightness each: something a network can learn in a few steps."""
    x = torch.linspace(-1, 1, n).view(-1, *(1,) * len(facts.shape)).expand(n, *facts.shape)
    return Batch(x, torch.arange(n) % len(facts.classes) if facts.classes else None, torch.arange(n))


def steps(recipe, facts, count=2, rate=1e-3):
    """Every stage in order, `count` gradient steps each; the losses."""
    batch, losses = batch_of(facts), []
    for stage in recipe.stages:
        if isinstance(stage, Fit):
            encode, part = (
                recipe.model.get_submodule(stage.through).encode,
                recipe.model.get_submodule(stage.on),
            )
            part.fit(
                torch.cat([encode(batch.x, noise=Noise([k], rows=8)) for k in range(5)]).detach(), seed=0
            )
            continue
        module, trained = stage.module(recipe.model), stage.trained(recipe.model)
        optimizer = torch.optim.AdamW(trained.parameters(), rate)
        for k in range(count):
            loss = stage.objective(module, batch, noise=Noise([k], rows=8), seen=8 * k).total
            assert loss.shape == (8,)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            losses.append(loss.mean().item())
        assert isinstance(stage.objective, Judge)
        with torch.no_grad():
            assert "loss" in stage.objective.judge(module, batch, noise=Noise([9], rows=8))
    return losses


@pytest.mark.parametrize(("data", "name", "dials"), CASES, ids=lambda v: str(v))
def test_a_recipe_trains_and_samples(data, name, dials):
    torch.manual_seed(0)
    facts = FACTS[data]
    shallow = dials.get("shallow", name in ("sparse-ae", "contractive-ae"))
    tree = RECIPES[name](facts, **dials | ({"width": 16} if facts.space and not shallow else {}))
    stored = json.loads(json.dumps(dump(tree, NAMES)))
    again = load(stored, CATALOG)
    assert dump(again, NAMES) == stored
    recipe = build(again)
    assert all(torch.isfinite(torch.tensor(steps(recipe, facts))))
    if name == "classifier":
        return
    scale = 2.0 if dials.get("conditional") else 1.0
    plan = replace(recipe.model.plan, steps=2, scale=scale)
    x = recipe.model.sample(2, plan, seeds=seeds_of(0, 2))
    assert x.shape == (2, *facts.shape) and torch.isfinite(x).all() and x.abs().max() <= 1


@pytest.mark.parametrize("name", ["vae", "diffusion", "improved-ddpm", "vdm", "diffusevae", "classifier"])
def test_training_lowers_the_loss(name):
    torch.manual_seed(0)
    facts = FACTS["digits"]
    losses = steps(build(RECIPES[name](facts)), facts, 30, 3e-3)[-30:]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_the_refiner_leaves_the_first_stage_to_the_bit():
    torch.manual_seed(0)
    facts = FACTS["digits"]
    recipe = build(RECIPES["diffusevae"](facts))
    first = recipe.model.conditioner.first
    before = {k: v.clone() for k, v in first.state_dict().items()}
    recipe = replace(recipe, stages=recipe.stages[2:])
    steps(recipe, facts)
    assert all(torch.equal(v, before[k]) for k, v in first.state_dict().items())


def test_one_state_dict_holds_both_stages():
    recipe = build(RECIPES["diffusevae"](FACTS["digits"]))
    names = {k.split(".")[0] for k in recipe.model.state_dict()}
    assert names == {"conditioner", "density"}
    assert any("first.codec.encoder" in k for k in recipe.model.state_dict())
    assert any("first.density.means" in k for k in recipe.model.state_dict())


def test_the_formulation_is_one_wrapper():
    one, two = (build(RECIPES["diffusevae"](FACTS["digits"], formulation=k)) for k in (1, 2))
    assert isinstance(two.model.density.denoiser.net, Shifted)
    assert type(two.model.density.denoiser.net.net) is type(one.model.density.denoiser.net)


def test_every_class_can_be_asked_for():
    model = build(RECIPES["diffusevae"](FACTS["digits"], conditional=True)).model
    assert model.slots == {"label", "z", "x_T"}
    drawn = model.draw(seeds_of(0, 4), given=Given(label=torch.tensor([2])))
    assert (drawn.label == 2).all()


def test_likelihoods_follow_the_depth_of_the_data():
    for data, levels in (("digits", 17), ("mnist", 256), ("deep", 65536)):
        likelihood = build(RECIPES["vae"](FACTS[data])).model.codec.likelihood
        assert isinstance(likelihood, DiscretizedGaussianLikelihood) and likelihood.levels == levels
    assert isinstance(build(RECIPES["vae"](FACTS["points"])).model.codec.likelihood, GaussianLikelihood)


def test_sizes_grow_with_the_data():
    assert [patch_and_levels(FACTS[k]) for k in ("digits", "mnist", "colour")] == [(1, 2), (2, 3), (2, 3)]
    sizes = [latent_size(FACTS[k]) for k in ("points", "digits", "mnist", "colour")]
    assert sizes == sorted(sizes) and sizes[0] == 2


def test_leaves_can_be_set_and_parts_replaced_by_name():
    tree = RECIPES["vae"](FACTS["digits"])
    tree = override(tree, "model.codec.likelihood", "BernoulliLikelihood", CATALOG)
    tree = override(tree, "stages.vae.objective.beta", 0.5, CATALOG)
    recipe = build(tree)
    assert type(recipe.model.codec.likelihood).__name__ == "BernoulliLikelihood"
    assert recipe.stages[0].objective.beta == 0.5


def test_names_of_parts_are_unique():
    assert len(CATALOG) == len(parts())


def test_wishes_that_cannot_be_met_say_what_to_do():
    with pytest.raises(UsageError, match="labelled data"):
        RECIPES["diffusion"](FACTS["deep"], conditional=True)
    with pytest.raises(UsageError, match="labelled data"):
        RECIPES["classifier"](FACTS["deep"])
    for name in ("improved-ddpm", "vdm"):
        with pytest.raises(UsageError, match="stored as floats"):
            RECIPES[name](FACTS["sequence"])
    with pytest.raises(UsageError, match="no formulation 3"):
        RECIPES["diffusevae"](FACTS["digits"], formulation=3)


def test_a_k_above_the_code_length_is_refused_by_name():
    with pytest.raises(UsageError, match=r"k = 9 of 8 code units[\s\S]*from 1 to 8"):
        RECIPES["k-sparse-ae"](FACTS["digits"], k=9, latent=8)
    with pytest.raises(UsageError, match="without any corruption"):
        RECIPES["denoising-ae"](FACTS["digits"], masked=0.0)


def test_a_longer_code_is_offered_only_to_a_k_above_it_and_then_helps():
    make, facts = RECIPES["k-sparse-ae"], FACTS["digits"]
    with pytest.raises(UsageError, match=r"--set latent=18\.") as refused:
        make(facts, k=9, latent=8)
    assert "from 1 to 8" in str(refused.value) and make(facts, k=9, latent=18)
    with pytest.raises(UsageError, match="k = -3 of") as refused:
        make(facts, k=-3)
    assert "--set latent" not in str(refused.value)


@pytest.mark.parametrize("name", ["ae", "denoising-ae", "sparse-ae", "k-sparse-ae", "contractive-ae"])
def test_a_code_of_less_than_nothing_is_refused_before_anything_else(name):
    with pytest.raises(
        UsageError, match=rf"latent = -64 is no legal value[\s\S]*recipe {name}[\s\S]*1 or more"
    ):
        RECIPES[name](FACTS["digits"], latent=-64)


def test_a_sparse_autoencoder_remembers_activations_where_it_is_asked_to():
    make, facts = RECIPES["sparse-ae"], FACTS["digits"]
    objectives = [build(make(facts, memory=n, latent=12)).stages[0].objective for n in (0, 512)]
    (batch,), (running,) = (objective.penalties for objective in objectives)
    assert isinstance(batch.mean, BatchMean) and isinstance(running.mean, RunningMean)
    assert running.mean.memory == 512 and running.mean.total.shape == (12,)
    assert all(math.isfinite(loss) for loss in steps(build(make(facts, memory=512)), facts))
    with pytest.raises(UsageError, match="memory = -1 is no legal value"):
        make(facts, memory=-1)


@pytest.mark.parametrize("name", ["ae", "denoising-ae", "sparse-ae", "k-sparse-ae", "contractive-ae"])
def test_a_shallow_autoencoder_refuses_a_width(name):
    with pytest.raises(UsageError, match=rf"width changes nothing here: [\s\S]*recipe {name}"):
        RECIPES[name](FACTS["digits"], shallow=True, width=32)
    narrow, wide = (
        build(RECIPES[name](FACTS["digits"], shallow=False, width=width)).model.codec for width in (8, 16)
    )
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in wide.parameters())


def test_a_beta_and_a_capacity_exclude_each_other():
    make, facts = RECIPES["beta-vae"], FACTS["digits"]
    for dials, name in (
        ({"capacity": 5.0, "beta": 4.0}, "beta"),
        ({"gamma": 100.0}, "gamma"),
        ({"rise": 0}, "rise"),
    ):
        with pytest.raises(UsageError, match=f"{name} changes nothing here"):
            make(facts, **dials)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="0 or more"):
            make(facts, capacity=wrong)
    held = build(make(facts, capacity=5.0, gamma=7.0, rise=0)).stages[0].objective
    assert (held.capacity, held.gamma, held.rise) == (5.0, 7.0, 0)
    assert build(make(facts)).stages[0].objective.beta == 4.0


@pytest.mark.parametrize("name", RECIPES)
def test_every_dial_is_documented(name):
    import inspect

    make = RECIPES[name]
    for dial, parameter in inspect.signature(make).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"\n{dial} " in inspect.getdoc(make), dial


def places():
    """Every parameter of every part that has a name and an annotation of its own."""
    for make in parts():
        hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
        for key, parameter in inspect.signature(make).parameters.items():
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                yield make, key, hints[key]


def test_no_place_of_any_part_takes_a_word_that_means_nothing():
    for make, key, hint in places():
        tree = Lazy(make, {})
        if hint is str or str in typing.get_args(hint):
            assert override(tree, key, "nonsense", CATALOG).arguments[key] == "nonsense"
            continue
        with pytest.raises(UsageError) as refused:
            override(tree, key, "nonsense", CATALOG)
        assert refused.value.remedy not in ("", "Known: .")


PATHS = {"VariancePreserving", "SubVariancePreserving", "Linear"}  # on which the signal fades
ADMITTED = {
    ("LinearBeta", "path"): PATHS,
    ("BetaTable", "path"): PATHS,
    ("LogSnrLine", "path"): PATHS | {"VarianceExploding"},
    ("FlowTime", "path"): PATHS | {"VarianceExploding"},
    ("Ancestral", "variance"): {"SmallVariance", "LargeVariance", "InterpolatedVariance"},
    ("Hybrid", "weighting"): {"Unweighted", "Simple", "Snr", "MinSnr", "Edm", "V", "Flow", "Sigmoid"},
}


@pytest.mark.parametrize("place", ADMITTED, ids=".".join)
def test_an_optional_part_takes_the_names_of_its_class_and_no_other(place):
    make, key = place
    taken = set()
    for name in CATALOG:
        try:
            found = override(Lazy(CATALOG[make], {}), key, name, CATALOG).arguments[key]
        except UsageError as error:
            if "needs more than its name" in error.what:
                taken.add(name)
            continue
        assert found == Lazy(CATALOG[name], {})
        taken.add(name)
    assert taken == ADMITTED[place]
