"""Stratified draws of a training step, however it is cut."""

from itertools import pairwise

import pytest
import torch

from sfumato.training.draws import Rows


@pytest.mark.parametrize("cuts", [(0, 16), (0, 8, 16), (0, 4, 16), (0, 3, 5, 16)])
def test_strata_do_not_depend_on_how_a_step_is_cut(cuts):
    """Micro-batches smaller than a block keep their rows of the whole block's strata."""
    whole = Rows(("run", 7), 0, 16, block=8).stratified(16)
    pairs = pairwise(cuts)
    parts = [Rows(("run", 7), a, b, block=8).stratified(b - a) for a, b in pairs]
    assert torch.equal(torch.cat(parts), whole)
    gaps = (whole[1:8] - whole[:7]) % 1.0
    assert torch.allclose(gaps, torch.full((7,), 1 / 8, dtype=torch.float64))
