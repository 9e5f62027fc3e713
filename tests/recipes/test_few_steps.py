"""Students of every teacher by every method: built, stored, stepped; what is learned first, on which row."""

import json
from dataclasses import replace

import pytest
import torch

from sfumato.core.errors import UsageError
from sfumato.core.lazy import build, dump, load
from sfumato.core.noise import Noise
from sfumato.data.dataset import Batch
from sfumato.data.facts import Facts
from sfumato.diffusion.level import CLEAN
from sfumato.diffusion.scaling import ConsistencyScaling, EdmScaling, VScaling
from sfumato.models.given import seeds_of
from sfumato.objectives.distiller import Scene
from sfumato.recipes import RECIPES, parts
from sfumato.recipes.few_steps import METHODS
from sfumato.recipes.taught import TEACHERS as WORDS
from sfumato.recipes.taught import taught, times_of
from sfumato.samplers.leap import Leap

CATALOG = {part.__name__: part for part in parts()}
NAMES = {part: name for name, part in CATALOG.items()}
POINTS = Facts(2, (), "float32", -1.0, 1.0, classes=("a", "b"), std=(0.6, 0.6))
IMAGES = Facts(1, (8, 8), "uint8", 0, 240, 15.0, ("a", "b"), 1797, mean=(-0.4,), std=(0.75,))
FEW = {"progressive": {"first": 4}, "shortcut": {"first": 4}}


def teacher(name="diffusion", facts=POINTS, **dials):
    return taught(RECIPES[name](facts, width=16, **dials), facts)


def batch_of(facts, n=8):
    x = torch.linspace(-1, 1, n).view(-1, *(1,) * len(facts.shape)).expand(n, *facts.shape)
    return Batch(x, torch.arange(n) % len(facts.classes), torch.arange(n))


def student(method, source, **dials):
    """The student's recipe, by way of its JSON."""
    tree = METHODS[method](source, **FEW.get(method, {}) | dials)
    stored = json.loads(json.dumps(dump(tree, NAMES)))
    again = load(stored, CATALOG)
    assert dump(again, NAMES) == stored
    return build(again)


def learn(recipe, facts, steps=3):
    """A few gradient steps of every stage; all losses are finite and per example."""
    batch = batch_of(facts)
    for stage in recipe.stages:
        module = stage.module(recipe.model)
        stage.objective.open(module, 8 * steps)
        optimizer = torch.optim.AdamW(stage.trained(recipe.model).parameters(), 1e-3)
        for k in range(steps):
            total = stage.objective(module, batch, noise=Noise([k], rows=8), seen=8 * k).total
            assert total.shape == (8,) and bool(torch.isfinite(total).all())
            optimizer.zero_grad()
            total.mean().backward()
            optimizer.step()
            stage.objective.after_step(module, 8 * (k + 1))
        assert not [n for n, p in stage.objective.named_parameters() if p.requires_grad]
        with torch.no_grad():
            assert "loss" in stage.objective.judge(module, batch, noise=Noise([9], rows=8))


def names(recipe):
    return [stage.name for stage in recipe.stages]


TEACHERS = {
    "edm": ("diffusion", POINTS, {"conditional": True}),
    "eps": ("ddpm", POINTS, {"steps": 20}),
    "diffusevae": ("diffusevae", IMAGES, {"formulation": 2}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("dials", [{}, {"guidance": 2.0}, {"start": 1.0}], ids=str)
def test_every_student_learns_and_samples(kind, method, dials):
    if dials and kind != {"guidance": "edm", "start": "diffusevae"}[next(iter(dials))]:
        pytest.skip("guidance is for classes, a start for a first guess")
    torch.manual_seed(0)
    name, facts, made = TEACHERS[kind]
    recipe = student(method, teacher(name, facts, **made), **dials)
    learn(recipe, facts)
    x = recipe.model.sample(2, seeds=seeds_of(0, 2))
    assert x.shape == (2, *facts.shape) and bool(torch.isfinite(x).all())
    assert recipe.model.plan.start == dials.get("start") and recipe.model.plan.scale == 1.0


@pytest.mark.parametrize("facts", [POINTS, IMAGES], ids=["points", "images"])
def test_training_from_data_alone_keeps_no_teacher(facts):
    """Consistency training by its recipe: finite losses, and no copy of the teacher's weights."""
    torch.manual_seed(0)
    recipe = student("consistency", teacher(facts=facts), pairs=False, average=0.9)
    learn(recipe, facts)
    objective = recipe.stages[-1].objective
    kept = set(objective.state_dict())
    assert objective.teacher is None and kept and all(key.startswith("follower.") for key in kept)


DIFFUSIONS = WORDS.replace(" or ", ", ").split(", ")


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"td-vae"}))
def test_the_recipes_named_as_teachers_are_those_that_can_teach(name):
    """All but td-vae, whose clips no diffusion model takes; a refusal names them."""
    recipe = RECIPES[name](IMAGES)
    if name in DIFFUSIONS:
        assert taught(recipe, IMAGES).batch > 0
    else:
        with pytest.raises(UsageError, match=f"Distil a run of {WORDS}"):
            taught(recipe, IMAGES)


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_every_method_makes_a_student_of_every_diffusion_model_or_refuses_in_words(name):
    """Built only: the teacher's tensors and, for leaps, those that take in where they end."""
    theirs = build(RECIPES[name](IMAGES, width=16)).model.state_dict()
    for method in METHODS:
        try:
            mine = student(method, teacher(name, IMAGES)).model.state_dict()
        except UsageError:
            continue
        assert theirs.keys() <= mine.keys()
        added = {key.rpartition("embedding.")[2] for key in mine.keys() - theirs.keys()}
        assert added == ({"vector.weight", "vector.bias", "null_vector"} if method == "shortcut" else set())


@pytest.mark.parametrize("dials", [{"detail": True}, {"detail": False}], ids=str)
def test_leaps_are_told_to_a_network_that_sees_fine_detail(dials):
    """The wrapper passes on where a leap ends: another end changes the answer of the inner network."""
    torch.manual_seed(0)
    density = student("shortcut", teacher("vdm", IMAGES, **dials)).model.density
    for p in density.denoiser.parameters():
        torch.nn.init.normal_(p, 0.0, 0.1)
    x, level, leap = torch.zeros(2, *IMAGES.shape), density.schedule.level(0.5), Leap(0.5)
    with torch.no_grad():
        near, far = (density.denoiser(x, level, leap.towards(end, x)).mean for end in (level, CLEAN))
    assert not torch.allclose(near, far, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "row"),
    [
        ("easy", EdmScaling),
        ("consistency", ConsistencyScaling),
        ("continuous", EdmScaling),
        ("shortcut", EdmScaling),
        ("progressive", EdmScaling),
    ],
)
def test_a_teacher_on_edms_row_needs_no_stage_before(method, row):
    recipe = student(method, teacher())
    assert "matching" not in names(recipe)
    assert isinstance(recipe.model.density.denoiser.scaling, row)


def test_a_teacher_that_predicts_noise_learns_another_row_first():
    """Noise says nothing of x_0 at pure noise, where a student must answer."""
    for method in METHODS:
        recipe = student(method, teacher("ddpm", steps=20))
        assert names(recipe)[0] == "matching"
        first, second = recipe.stages[0].objective, recipe.stages[1].objective
        assert first.teaching.scaling is not None and second.teaching.scaling is None
    assert isinstance(recipe.model.density.denoiser.scaling, VScaling)


def test_guidance_is_built_in_before_rounds_and_by_the_teachers_pairs_elsewhere():
    source = teacher(conditional=True)
    rounds = student("progressive", source, guidance=3.0, first=8)
    assert names(rounds) == ["matching", "round-4", "round-2", "round-1"]
    assert [s.objective.teaching.scale for s in rounds.stages] == [3.0, 1.0, 1.0, 1.0]
    for method in ("easy", "consistency", "continuous", "shortcut"):
        stage = student(method, source, guidance=3.0).stages[-1]
        assert stage.objective.teaching.scale == 3.0 and not stage.objective.alone


@pytest.mark.parametrize(("std", "mean"), [(0.5, -1.1), (0.25, -1.793), (1.0, -0.407)])
def test_levels_are_drawn_by_geng_and_others_moved_with_the_data(std, mean):
    """log(sigma/alpha) ~ N(-1.1 + log 2d, 2^2): by hand log 2 = 0.693."""
    times = build(times_of(teacher(facts=replace(POINTS, std=(std, std)))))
    assert times.mean == pytest.approx(mean, abs=1e-3) and times.std == 2.0


@pytest.mark.parametrize("method", METHODS)
def test_both_answers_are_matched_where_the_next_teacher_is_guided(method):
    """What matching leaves is the teacher of what follows: guided, its answer without a condition counts."""
    source = teacher("ddpm", steps=20, conditional=True)
    for guidance, asked, least in ((None, 0.0, 0.0), (2.0, 0.0, 0.1), (0.0, 0.0, 0.1), (2.0, 0.3, 0.3)):
        dials = {"guidance": guidance} | ({} if method == "shortcut" else {"dropout": asked})
        stage, following, *_ = student(method, source, **dials).stages
        assert stage.name == "matching"
        if method == "progressive":  # the guided answer itself was matched, and is all that rounds ask
            assert following.objective.teaching.scale == 1.0
        else:
            assert stage.objective.teaching.scale == 1.0
            assert stage.objective.dropout == (min(least, 0.1) if method == "shortcut" else least)


class Branches(torch.nn.Module):
    """Cubics in the level times (1, x), with coefficients of their own for each class and for none."""

    def __init__(self):
        super().__init__()
        self.coefficients = torch.nn.Parameter(torch.zeros(3, 2, 4))
        self.coefficients.data[:, 1, 0] = 1.0  # as noise: all of x_t, and more or less of it for a class
        self.coefficients.data[:, 0, 0] = torch.tensor([-0.3, 0.3, 0.0])

    def forward(self, x, c_noise, cond):
        branch = cond.label if cond.present is None else cond.label.where(cond.present, torch.tensor(2))
        powers = c_noise.to(x.dtype)[:, None] ** torch.arange(4)
        shift, slope = (self.coefficients[branch] * powers[:, None]).sum(2).unbind(1)
        return shift[:, None] + slope[:, None] * x


def test_matching_teaches_another_row_to_the_answer_without_the_class_too():
    """From a row of noise to one of v, 200 steps: both errors fall; with nothing dropped only one."""
    batch, fallen = batch_of(POINTS, 64), {}
    nobody = torch.zeros(64, dtype=torch.bool)
    for guidance in (1.0, 2.0):
        recipe = student("easy", teacher("ddpm", steps=20, conditional=True), guidance=guidance)
        model, objective = recipe.model, recipe.stages[0].objective
        model.density.denoiser.net = Branches()
        objective.open(model, 0)
        told = model.observe(batch, noise=Noise([0], rows=64))[1]
        u = (torch.arange(64, dtype=torch.float64) + 0.5) / 64

        def errors(objective=objective, density=model.density, told=told, u=u):
            scene = Scene(density, density.schedule, batch.x, told, u, 1.0)
            with torch.no_grad():
                return [
                    float(objective.error(scene._replace(cond=c), Noise([2], rows=64)).mean())
                    for c in (told, told.drop(nobody))
                ]

        before, optimizer = errors(), torch.optim.Adam(model.density.parameters(), 0.03)
        for k in range(200):
            optimizer.zero_grad()
            objective(model, batch, noise=Noise([k], rows=64), seen=0).total.mean().backward()
            optimizer.step()
        fallen[guidance] = [now / then for now, then in zip(errors(), before, strict=True)]
    assert max(fallen[2.0]) < 0.2 and fallen[1.0][0] < 0.2 and fallen[1.0][1] == 1.0


@pytest.mark.parametrize("guidance", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("method", METHODS)
def test_guidance_is_a_finite_number_of_zero_or_more(method, guidance):
    with pytest.raises(UsageError, match="a finite number of 0 or more") as caught:
        METHODS[method](teacher(conditional=True), guidance=guidance)
    assert "--set guidance=2" in caught.value.remedy


@pytest.mark.parametrize(
    ("method", "dials", "remedy"),
    [
        ("easy", {"stages": 31}, "--set stages=30"),
        ("easy", {"stages": 5000}, "--set stages=30"),
        ("easy", {"stages": 0}, "--set stages=1"),
        ("consistency", {"last": 5}, "--set last=10"),
        ("consistency", {"last": 10**9}, "--set last=1000000"),
        ("shortcut", {"halved": 2.0}, "--set halved=1.0"),
        ("shortcut", {"halved": -0.1}, "--set halved=0.0"),
        ("shortcut", {"halved": float("nan")}, "--set halved=0.0"),
        ("shortcut", {"first": 1, "steps": 1}, "--set first=2"),
    ],
)
def test_a_dial_out_of_bounds_is_refused_with_the_bound_which_is_legal(method, dials, remedy):
    with pytest.raises(UsageError, match="does not lie between") as caught:
        METHODS[method](teacher(), **dials)
    assert caught.value.remedy.endswith(remedy)
    name, value = remedy.removeprefix("--set ").split("=")
    kind = type(dials[name])
    build(METHODS[method](teacher(), **dials | {name: kind(value)}))


def test_easy_tuning_keeps_no_teacher_where_it_asks_none():
    recipe = student("easy", teacher())
    recipe.stages[0].objective.open(recipe.model, 10)
    assert not dict(recipe.stages[0].objective.state_dict())


def test_a_student_starts_as_its_teacher():
    """A row of the same family reads the same weights nearly alike; a told end changes nothing at first."""
    torch.manual_seed(0)
    source = build(RECIPES["diffusion"](POINTS, width=16)).model
    for p in source.parameters():
        torch.nn.init.normal_(p, 0.0, 0.3)
    plain = student("consistency", teacher()).model
    plain.load_state_dict(source.state_dict())
    x = torch.linspace(-1, 1, 12).view(6, 2)
    level = source.density.schedule.level(0.6)
    with torch.no_grad():
        mine, theirs = (m.density.denoiser(x, level).mean for m in (plain, source))
    assert float((mine - theirs).abs().max()) < 0.02


def test_guidance_is_not_trained_from_data_alone():
    with pytest.raises(UsageError, match="teacher's pairs"):
        student("consistency", teacher(conditional=True), guidance=2.0, pairs=False)


@pytest.mark.parametrize("facts", [POINTS, IMAGES], ids=["points", "images"])
def test_what_is_no_diffusion_model_is_refused(facts):
    with pytest.raises(UsageError, match="only a diffusion model"):
        taught(RECIPES["vae"](facts), facts)


def test_a_network_that_takes_z_cannot_be_told_the_end_of_a_leap():
    with pytest.raises(UsageError, match="takes z"):
        student("shortcut", teacher("diffusevae", IMAGES, give_z=True))
