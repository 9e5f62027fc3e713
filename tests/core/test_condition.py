"""Conditions drop per sample, join without overwriting, and stack as a batch."""

import pytest
import torch

from sfumato.core.condition import NOTHING, Condition, stack
from sfumato.core.errors import SfumatoError, did_you_mean


def some():
    return Condition(label=torch.arange(3), concat=torch.randn(3, 1, 4, 4), residuals=(torch.ones(3, 2),))


def test_dropping_adds_up():
    keep, again = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    assert some().drop(keep).drop(again).present.tolist() == [True, False, False]


def test_truth_means_that_something_is_told():
    assert some() and not NOTHING
    assert not NOTHING.drop(torch.tensor([True]))


def test_join_fills_empty_slots_and_refuses_to_overwrite():
    joined = some().join(Condition(vector=torch.zeros(3, 2)))
    assert joined.vector is not None and torch.equal(joined.label, torch.arange(3))
    for slot, value in (("label", torch.arange(3)), ("residuals", (torch.ones(3, 2),))):
        assert getattr(Condition(vector=torch.zeros(3, 2)).join(Condition(**{slot: value})), slot) is value
        with pytest.raises(ValueError, match=slot):
            some().join(Condition(**{slot: value}))


def test_map_and_stack_act_on_every_slot():
    c = some().drop(torch.tensor([True, False, True]))
    both = stack(c, c.map(lambda v: v.flip(0)))
    assert both.label.tolist() == [0, 1, 2, 2, 1, 0]
    assert both.present.tolist() == [True, False, True, True, False, True]
    assert both.residuals[0].shape == (6, 2) and both.vector is None


def test_errors_say_what_where_and_how_to_mend():
    error = SfumatoError("no images", where="cats/", remedy="Give another folder.")
    assert str(error) == "no images (cats/)\n  Give another folder."
    assert did_you_mean("widht", ["width", "depth"]) == "Did you mean 'width'?"
    assert did_you_mean("x", ["width", "depth"]) == "Known: depth, width."
