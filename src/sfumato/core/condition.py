"""How information enters a network. The slots say how, not what.

    label      (B,)           embedded; index n_classes is the null class
    vector     (B, D)         added to the embedding of the noise level (a VAE's z, a CLIP embedding)
    concat     (B, C, *space) joined to the input on the channel axis (a reconstruction, low resolution)
    tokens     (B, N, D)      cross-attention (text)
    residuals  tuple          added to the skip connections (control)

A dropped slot is not zero but *null*: networks own a learned null for label, vector and tokens, and
`present` (B,) tells them, per sample and never per batch, which samples carry their condition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Condition:
    """What a denoiser is told besides the noisy sample; see the module for the slots."""

    label: Tensor | None = None
    vector: Tensor | None = None
    concat: Tensor | None = None
    tokens: Tensor | None = None
    residuals: tuple[Tensor, ...] = ()
    present: Tensor | None = None  # (B,) bool; None: present everywhere

    def __bool__(self) -> bool:
        """Whether any slot is filled."""
        return any(
            getattr(self, f.name) is not None for f in fields(self) if f.name not in ("present", "residuals")
        ) or bool(self.residuals)

    def drop(self, keep: Tensor) -> Condition:
        """Null the condition of the samples where keep (B,) is False, on top of what is null already."""
        return replace(self, present=keep if self.present is None else self.present & keep)

    def map(self, f: Callable[[Tensor], Tensor]) -> Condition:
        """Apply f to every tensor (indexing, moving, repeating)."""

        def maybe(value: Tensor | None) -> Tensor | None:
            return None if value is None else f(value)

        return Condition(
            maybe(self.label),
            maybe(self.vector),
            maybe(self.concat),
            maybe(self.tokens),
            tuple(f(r) for r in self.residuals),
            maybe(self.present),
        )

    def join(self, other: Condition) -> Condition:
        """Fill this condition's empty slots from another; both filling one slot is an error."""
        mine, theirs = ({f.name: getattr(c, f.name) for f in fields(c)} for c in (self, other))
        for name in mine:
            if name != "present" and not (_empty(mine[name]) or _empty(theirs[name])):
                raise ValueError(f"two conditions both fill the slot '{name}'")
        merged = {k: theirs[k] if _empty(mine[k]) else mine[k] for k in mine}
        if self.present is not None and other.present is not None:
            merged["present"] = self.present & other.present
        return Condition(**merged)


def _empty(slot: Tensor | tuple[Tensor, ...] | None) -> bool:
    return slot is None or (isinstance(slot, tuple) and not slot)


NOTHING = Condition()


def stack(first: Condition, second: Condition) -> Condition:
    """The two conditions as one batch of twice the size (guidance evaluates both at once)."""

    def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b])

    return Condition(
        both(first.label, second.label),
        both(first.vector, second.vector),
        both(first.concat, second.concat),
        both(first.tokens, second.tokens),
        tuple(torch.cat(pair) for pair in zip(first.residuals, second.residuals, strict=True)),
        both(first.present, second.present),
    )
