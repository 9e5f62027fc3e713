"""Values that a sigmoid likelihood cannot read, looked for in all of a data set before any work.

    b = (x + 1) / 2,    log p(x given z) = b l - softplus(l),    0 <= b <= 1

Outside [-1, 1] b is no probability and the cross-entropy has no bound (distributions/discrete.py). Data seen
in the range of the training data can go beyond it where they come from elsewhere: --test, of floats or of
sixteen bits. One of a million such values is enough to be the loss, so every example is looked at once, a few
at a time.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..core.errors import DataError
from ..core.shapes import rows_at_once
from ..data.dataset import Dataset
from ..data.facts import Facts
from ..distributions.discrete import Bernoulli
from ..models.likelihood import BernoulliLikelihood


def check_probabilities(model: nn.Module, part: Dataset) -> None:
    """DataError naming the first example whose values a sigmoid likelihood of the model cannot read."""
    facts = part.facts
    if facts.kind == "uint8" or not any(isinstance(m, BernoulliLikelihood) for m in model.modules()):
        return  # eight bits fill their range and cannot leave it
    most = rows_at_once(facts.shape)
    for first in range(0, len(part), most):
        x = part.batch(range(first, min(first + most, len(part)))).x
        try:
            Bernoulli(x).check(x)
        except DataError:
            _refuse(x, first, part)


def _refuse(x: Tensor, first: int, part: Dataset) -> None:
    """The refusal of the first of these examples that is out of range, in the unit of its file."""
    for i, one in enumerate(x):
        try:
            Bernoulli(one).check(one)
        except DataError as error:
            where = f"{part.facts.source}: {part.name_of(first + i)}, {in_file(one, part.facts)}"
            raise DataError(error.what, where=where, remedy=error.remedy) from None


def in_file(x: Tensor, facts: Facts) -> str:
    """The least and largest of model values x in the unit of the files, beside the range of training."""
    low, high = (facts.middle + facts.half * float(v) for v in (x.min(), x.max()))
    return f"values {low:.4g} ... {high:.4g}; training had {facts.low:.4g} ... {facts.high:.4g}"
