"""Models of discrete codes for every shape of data: they build, step, sample; what cannot be is refused."""

import json
import math
import re

import pytest
import torch
from test_recipes import FACTS, batch_of, steps

from sfumato.app.catalog import CATALOG, NAMES
from sfumato.core.errors import DataError, UsageError
from sfumato.core.lazy import build, dump, load
from sfumato.data.facts import Facts
from sfumato.models.given import Given, seeds_of
from sfumato.recipes import RECIPES
from sfumato.recipes.codes import _grids, _halvings

BOOK = {"codes": 16, "dim": 4}
SMALL = {"width": 16, "prior_width": 32, "prior_depth": 1}
VARIANTS = [
    ("vq-vae", BOOK),
    ("vq-vae", {"scalar": True, "codes": 64, "pixelcnn": True}),
    ("vq-vae-2", BOOK | {"conditional": True}),
    ("vq-vae-2", BOOK | {"gamma": 0.0, "pixelcnn": True}),
]
CASES = [
    (data, name, dials)
    for data in ("digits", "mnist", "odd", "sequence", "volume", "thin")
    for name, dials in VARIANTS
    if (FACTS[data].classes or not dials.get("conditional"))
    and (len(FACTS[data].space) < 3 or not dials.get("pixelcnn"))
] + [("mnist", "vq-vae-2", BOOK | {"levels": 3}), ("sequence", "vq-vae-2", BOOK | {"levels": 3})]


def trained(recipe, facts):
    """The codebooks started, then two steps of every other stage."""
    first, *others = recipe.stages
    if first.name == "codebook":
        x = torch.rand((64, *facts.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
        recipe.model.get_submodule(first.on).fit(recipe.model.get_submodule(first.through).encode(x), seed=0)
    else:
        others = recipe.stages
    return steps(type(recipe)(recipe.model, tuple(others)), facts)


@pytest.mark.parametrize(("data", "name", "dials"), CASES, ids=lambda v: str(v))
def test_a_recipe_trains_and_samples(data, name, dials):
    torch.manual_seed(0)
    facts = FACTS[data]
    stored = json.loads(json.dumps(dump(RECIPES[name](facts, **SMALL | dials), NAMES)))
    recipe = build(load(stored, CATALOG))
    assert all(math.isfinite(loss) for loss in trained(recipe, facts))
    x = recipe.model.sample(2, seeds=seeds_of(0, 2))
    assert x.shape == (2, *facts.shape) and torch.isfinite(x).all() and x.abs().max() <= 1
    codes = recipe.model.encode(batch_of(facts).x).codes
    again = recipe.model.sample(8, given=Given(codes=codes), seeds=seeds_of(0, 8))
    torch.testing.assert_close(again, recipe.model.codec.decode(codes))


def test_codes_are_few_enough_for_a_prior_and_coarsest_first():
    for data in ("digits", "mnist", "colour", "odd", "sequence", "volume"):
        one = build(RECIPES["vq-vae"](FACTS[data], **SMALL, **BOOK)).model.codec
        two = build(RECIPES["vq-vae-2"](FACTS[data], **SMALL, **BOOK)).model.codec
        assert one.lengths[0] <= 64 and two.lengths[0] < two.lengths[1] <= 256
    four = build(RECIPES["vq-vae-2"](Facts(3, (256, 256)), levels=4, **SMALL, **BOOK)).model.codec
    assert four.lengths == (64, 256, 1024, 4096)


def test_the_codebook_grows_with_the_data():
    sizes = [
        build(RECIPES["vq-vae"](Facts(1, (28, 28), count=count))).model.codec.quantizers[0].size
        for count in (40, 1000, 60_000)
    ]
    assert sizes == sorted(sizes) and sizes[-1] == 512


def test_what_cannot_be_is_refused_with_the_way_out():
    with pytest.raises(UsageError, match="points"):
        RECIPES["vq-vae"](FACTS["points"])
    with pytest.raises(DataError, match="codes=49"):
        RECIPES["vq-vae"](Facts(1, (28, 28), count=10), codes=512)
    with pytest.raises(UsageError, match=r"5 levels of codes for images of 8 x 8[\s\S]*levels=3 or fewer"):
        RECIPES["vq-vae-2"](FACTS["digits"], levels=5)
    with pytest.raises(UsageError, match=r"1 levels of codes[\s\S]*vq-vae"):
        RECIPES["vq-vae-2"](FACTS["digits"], levels=1)
    with pytest.raises(UsageError, match="labelled data"):
        RECIPES["vq-vae-2"](FACTS["deep"], conditional=True)
    with pytest.raises(ValueError, match="CausalTransformer"):
        build(RECIPES["vq-vae"](FACTS["volume"], pixelcnn=True))


def started(name, facts, codes):
    """Images that a codebook starts from."""
    return RECIPES[name](facts, codes=codes).arguments["stages"][0].arguments["examples"]


@pytest.mark.parametrize(("name", "levels"), [("vq-vae", 1), ("vq-vae-2", 2)])
@pytest.mark.parametrize("side", [28, 64, 256, 512])
def test_a_codebook_has_as_many_vectors_to_start_from_as_codes_or_is_refused(name, levels, side):
    """What is refused is told a size that can start."""
    facts = Facts(3, (side, side), count=200_000)
    vectors = math.prod(_grids(facts, _halvings(facts, levels))[0])
    for codes in (16, 512, 8192, 10**6, 10**9):
        try:
            images = started(name, facts, codes)
        except DataError as refused:
            most = int(re.search(r"--set codes=(\d+)", refused.remedy)[1])
            assert 8192 < most < codes
            codes, images = most, started(name, facts, most)
        assert codes <= vectors * min(images, facts.count)


def test_images_held_to_start_a_codebook_from_are_few_enough_for_memory():
    """As many as k-means gains from; 256 MiB of them, or as many as the codes need up to a gigabyte."""
    for side, codes, images in ((28, 512, 1045), (512, 512, 85), (512, 8192, 128), (2048, 512, 64)):
        assert started("vq-vae", Facts(3, (side, side), count=200_000), codes) == images
    with pytest.raises(
        DataError, match=r"cannot start from the 21,824 vectors of the 341 images of 512 x 512"
    ):
        started("vq-vae", Facts(3, (512, 512)), 22_000)
    assert RECIPES["vq-vae"](Facts(3, (512, 512)), codes=1000, scalar=True)  # starts from nothing


@pytest.mark.parametrize(
    ("dial", "value", "bound"),
    [
        *(("codes", -5, "2 or more"), ("codes", 1, "2 or more"), ("dim", 0, "1 or more")),
        *(("gamma", 1.0, "from 0 to below 1"), ("gamma", -0.1, "from 0 to below 1")),
        *(
            ("gamma", math.nan, "from 0 to below 1"),
            ("beta", -1.0, "0 or more"),
            ("patience", -1, "0 or more"),
        ),
    ],
)
def test_a_dial_that_cannot_be_is_refused_with_its_bound(dial, value, bound):
    for name in ("vq-vae", "vq-vae-2"):
        with pytest.raises(UsageError, match=rf"{dial} = .*no legal value[\s\S]*Choose {dial} {bound}"):
            RECIPES[name](FACTS["mnist"], **{dial: value})


@pytest.mark.parametrize("name", ["vq-vae", "vq-vae-2"])
def test_scalar_codes_refuse_what_they_have_no_use_for(name):
    make, facts = RECIPES[name], FACTS["mnist"]
    for dial, value in {"dim": 32, "beta": 0.25, "gamma": 0.0, "patience": 0}.items():
        with pytest.raises(UsageError, match=rf"{dial} changes nothing here: .*no codebook.*{name}"):
            make(facts, scalar=True, **{dial: value})
        assert build(make(facts, **{dial: value})).model.codec
    with pytest.raises(UsageError, match=r"into 100 codes[\s\S]*64, 125, 256"):
        make(facts, scalar=True, codes=100)
    sizes = [
        build(make(facts, scalar=True, codes=codes)).model.codec.quantizers[0].size for codes in (64, 1000)
    ]
    assert sizes == [64, 1000]


def test_dials_not_said_are_the_usual_ones():
    said = {"dim": 32, "beta": 0.25, "gamma": 0.99, "patience": 100}
    assert dump(RECIPES["vq-vae"](FACTS["mnist"], **said), NAMES) == dump(
        RECIPES["vq-vae"](FACTS["mnist"]), NAMES
    )
