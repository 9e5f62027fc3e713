"""Laws of the small parts: flat parameters, draws, rates, budgets, stages, the clock."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training_toys import Autoencode, Toy, points

from sfumato.core.errors import UsageError
from sfumato.training.adamw import AdamW
from sfumato.training.budget import RESERVE, Examples, Hours
from sfumato.training.draws import Rows, block_of
from sfumato.training.flat import ALIGN, Flat
from sfumato.training.heldout import CHUNK, WORTH, HeldOutLoss
from sfumato.training.rates import Constant, Cooldown, Cosine, InverseRoot
from sfumato.training.stage import Fit, Recipe, Stage


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.SiLU(), nn.Flatten(), nn.Linear(5 * 4, 7), nn.Linear(7, 1))


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_on_the_vector_is_a_step_on_the_parameters(fused):
    """AdamW, clipping and gradients on one vector equal torch's own on many tensors."""
    plain, flattened = network(), network()
    plain[0].weight.data = plain[0].weight.data.contiguous(memory_format=torch.channels_last)
    flattened[0].weight.data = flattened[0].weight.data.contiguous(memory_format=torch.channels_last)
    flat = Flat(flattened.named_parameters())
    ours = AdamW(flat.values, flat.grads, betas=(0.9, 0.999), decay=0.1)
    ours.fused = fused
    theirs = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(5):
        x = torch.randn(4, 3, 4, 4)
        flat.grads.zero_()
        theirs.zero_grad()
        (flattened(x) ** 2).mean().backward()
        (plain(x) ** 2).mean().backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        torch.testing.assert_close(torch.linalg.vector_norm(flat.grads), norm)
        flat.grads.mul_((0.1 / norm).clamp(max=1.0))
        ours.step(1e-2, torch.zeros(()))
        theirs.step()
    assert flat.attached()
    before = flat.values.clone(), ours.count.clone(), ours.moments["exp_avg"].clone()
    flat.grads.fill_(math.nan)
    ours.step(1e-2, torch.ones(()))
    assert before[0].equal(flat.values) and before[1].equal(ours.count)
    assert before[2].equal(ours.moments["exp_avg"])
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(flat.parameters[name].data, parameter.data, rtol=1e-5, atol=1e-6)
    assert flattened[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_views_are_aligned_disjoint_and_name_each_parameter_once():
    net = network()
    tied = [*net.named_parameters(), ("again", net[0].weight)]
    flat = Flat(tied)
    assert "again" not in flat.parameters and len(flat.parameters) == 6
    views = flat.views(flat.values)
    assert all((v.data_ptr() - flat.values.data_ptr()) % (4 * ALIGN) == 0 for v in views.values())
    marks = flat.like()
    for view in flat.views(marks).values():
        view.add_(1)
    assert marks.max() == 1 and marks.sum() == sum(p.numel() for p in net.parameters())
    other = flat.like()
    flat.gather(views, other)
    assert other.equal(flat.values)
    net[0].weight.grad = None
    assert not flat.attached()


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="no parameter"):
        Flat([])
    with pytest.raises(ValueError, match="float32"):
        Flat([("half", nn.Parameter(torch.zeros(2, dtype=torch.float16)))])


@given(
    st.integers(1, 40).flatmap(
        lambda batch: st.tuples(st.just(batch), st.integers(0, 5), st.sets(st.integers(1, batch), max_size=4))
    )
)
def test_draws_do_not_depend_on_how_a_step_is_cut(case):
    batch, step, cuts = case
    seen, block = step * batch, block_of(batch)
    edges = sorted({0, batch, *(c for c in cuts if c < batch)})

    def draw(start, stop):
        noise = Rows((1, "stage"), seen + start, seen + stop, block=block)
        first = noise.normal((stop - start, 2, 3))
        return torch.cat([first.flatten(1), noise.uniform((stop - start, 1))], 1)

    whole = draw(0, batch)
    parts = torch.cat([draw(a, b) for a, b in itertools.pairwise(edges)])
    assert parts.equal(whole)


def test_draws_differ_between_positions_stages_and_seeds():
    def draw(key, start):
        return Rows(key, start, start + 8, block=8).normal((8, 1))

    base = draw((1, "a"), 0)
    assert all(not base.equal(draw(*other)) for other in (((2, "a"), 0), ((1, "b"), 0), ((1, "a"), 8)))
    with pytest.raises(ValueError, match="8 rows"):
        Rows((1,), 0, 8, block=8).normal((4, 1))
    with pytest.raises(TypeError):
        Rows((1,), 0, 8, block=8)[:1]


@pytest.mark.parametrize(
    "rate", [Constant(2.0, 100), Cosine(2.0, 100), Cooldown(2.0, 100), InverseRoot(2.0, 100, 500)]
)
@given(st.floats(0, 1))
def test_rates_stay_between_zero_and_the_peak(rate, x):
    assert 0 <= rate.at(x * 10_000, 10_000) <= 2.0


def test_rates_at_marked_points():
    assert Constant(2.0, 100).at(50, 1e4) == 1.0
    assert Cosine(2.0, 0).at(5_000, 10_000) == pytest.approx(1.0)
    assert Cosine(2.0, 0, floor=0.1).at(10_000, 10_000) == pytest.approx(0.2)
    assert Cosine(2.0, 5_000).at(500, 10_000) == pytest.approx(Cosine(2.0, 0).at(500, 10_000) / 2)
    assert Cooldown(2.0, 0, 0.5).at(4_000, 10_000) == 2.0
    assert Cooldown(2.0, 0, 0.5).at(7_500, 10_000) == pytest.approx(1.0)
    assert InverseRoot(2.0, 0, 100).at(400, 1e9) == pytest.approx(1.0)
    with pytest.raises(ValueError):
        Cosine(peak=-1.0)
    with pytest.raises(ValueError):
        Cooldown(share=0.0)


def test_budgets_are_shared_out():
    assert Examples(1000).examples([0.25, 0.75], 0, 0) == 250
    hour = 3600 * (1 - RESERVE)
    assert Hours(2).examples([0.5, 0.5], 0, 10) == round(hour * 10)
    # the first stage took half as long again: the second gets what remains
    assert Hours(2).examples([0.5], 1.5 * 3600, 10) == round(hour / 2 * 10)
    assert Hours(2).examples([0.5], 1e9, 10) == 1
    for wrong in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError):
            Hours(wrong)
    with pytest.raises(ValueError):
        Examples(0)


def test_stages_refuse_what_cannot_be():
    for wrong in (
        {"batch": 0},
        {"share": 0.0},
        {"clip": -1.0},
        {"lengths": ()},
        {"lengths": (0.4,)},
        {"betas": (1.0, 0.9)},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Stage("a", Autoencode(), **wrong)
    with pytest.raises(UsageError, match="no name"):
        Stage("../a", Autoencode())
    with pytest.raises(UsageError, match="no part 'codek'"):
        Recipe(Toy(), (Stage("a", Autoencode(), on="codek"),))
    with pytest.raises(UsageError, match="different names"):
        Recipe(Toy(), (Stage("a", Autoencode()), Fit("a", "prior", "codec")))
    shares = Recipe(Toy(), (Stage("a", Autoencode(), share=1), Stage("b", Autoencode(), share=3))).shares
    assert shares(0) == [0.25, 0.75] and shares(1) == [0.75]


@given(st.integers(1, 10**9), st.integers(1, 10**6), st.floats(0.01, 1000))
def test_a_stage_takes_no_more_passes_than_it_may(examples, data, epochs):
    limited = Stage("vae", Autoencode(), epochs=epochs).most(examples, data)
    assert 1 <= limited <= examples and limited <= max(1, round(epochs * data))
    assert Stage("vae", Autoencode()).most(examples, data) == examples


@given(st.integers(1, 700), st.integers(1, 10**6))
def test_a_judge_costs_little_beside_a_short_stage(count, target):
    """At most a WORTHth of the stage's examples or one chunk, at least half of what would be allowed."""
    whole = HeldOutLoss(points(700, 1), count, torch.device("cpu"))
    fitted = whole.within(target).count
    assert min(CHUNK, count) <= fitted <= count and whole.count == count
    assert fitted <= max(CHUNK, target / WORTH)
    assert fitted == count or target < 2 * WORTH * (fitted + 1)
