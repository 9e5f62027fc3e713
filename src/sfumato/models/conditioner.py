"""Where a condition comes from: observed from data while training, imagined while sampling.

observe(batch)      the condition that belongs to a training batch
draw(given)         what it needs and was not given: a label, the z of a first stage
imagine(given)      the condition that belongs to those
encode(x)           what an image determines of it: the z of a first stage
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import final

from torch import Tensor, nn

from ..core.condition import NOTHING, Condition
from ..core.errors import DataError, UsageError
from ..core.noise import Noise
from ..data.dataset import Batch
from .density import Plan
from .given import Given, Streams


class Conditioner(nn.Module, ABC):
    """Observes conditions from data and imagines them when sampling."""

    slots: frozenset[str] = frozenset()  # the entries of Given it understands

    @abstractmethod
    def observe(self, batch: Batch, *, noise: Noise) -> Condition:
        """The condition of a training batch."""

    @abstractmethod
    def draw(self, given: Given, plan: Plan, *, streams: Streams) -> Given:
        """`given` with every entry of this conditioner filled, by a draw where it was empty."""

    @abstractmethod
    def imagine(self, given: Given) -> Condition:
        """The condition of samples whose entries are all filled."""

    @abstractmethod
    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Given:
        """The entries that an image determines: a draw of the posterior, or its mean without noise."""


@final
class Unconditional(Conditioner):
    """No condition."""

    def observe(self, batch: Batch, *, noise: Noise) -> Condition:
        """Nothing."""
        return NOTHING

    def draw(self, given: Given, plan: Plan, *, streams: Streams) -> Given:
        """Nothing to draw."""
        return given

    def imagine(self, given: Given) -> Condition:
        """Nothing."""
        return NOTHING

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Given:
        """Nothing."""
        return Given()


@final
class ClassLabel(Conditioner):
    """The class of an image; while sampling every class is equally likely unless one is given."""

    slots = frozenset({"label"})

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"a class label needs at least one class, not {classes}")
        self.classes = classes

    def observe(self, batch: Batch, *, noise: Noise) -> Condition:
        """The labels of the batch."""
        if batch.label is None:
            raise DataError(
                "a class-conditional model needs labelled data",
                remedy="Put each class into a folder of its own, or train without conditional=true.",
            )
        return Condition(label=batch.label)

    def draw(self, given: Given, plan: Plan, *, streams: Streams) -> Given:
        """Uniformly distributed labels, unless labels are given."""
        if given.label is None:
            return replace(given, label=streams["label"].integers(self.classes, (len(streams),)))
        if given.label.numel() and not 0 <= int(given.label.min()) <= int(given.label.max()) < self.classes:
            raise UsageError(
                f"a class outside 0 .. {self.classes - 1}", remedy="Give one of the model's classes."
            )
        return given

    def imagine(self, given: Given) -> Condition:
        """The labels."""
        return Condition(label=given.label)

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Given:
        """Nothing: the class of an image is not for this model to guess."""
        return Given()


@final
class Labelled(Conditioner):
    """A class beside what another conditioner gives: for guidance to a class that the model is not told.

    The inner conditioner never sees the label; whoever guides takes it out of the condition.
    """

    def __init__(self, inner: Conditioner, classes: int) -> None:
        super().__init__()
        self.inner, self.label = inner, ClassLabel(classes)
        self.slots = inner.slots | self.label.slots

    def observe(self, batch: Batch, *, noise: Noise) -> Condition:
        """The inner condition and the labels of the batch."""
        return self.inner.observe(batch, noise=noise).join(self.label.observe(batch, noise=noise))

    def draw(self, given: Given, plan: Plan, *, streams: Streams) -> Given:
        """What both draw."""
        inner = self.inner.draw(replace(given, label=None), plan, streams=streams)
        return replace(inner, label=self.label.draw(given, plan, streams=streams).label)

    def imagine(self, given: Given) -> Condition:
        """The inner condition and the labels."""
        return self.inner.imagine(replace(given, label=None)).join(self.label.imagine(given))

    def encode(self, x: Tensor, *, noise: Noise | None = None) -> Given:
        """What an image determines of the inner one."""
        return self.inner.encode(x, noise=noise)
