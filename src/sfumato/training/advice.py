"""What to try where a latent stays silent or runs away: words, and the `--set` that says them.

    silent      a smaller beta, free bits, a longer warm-up of beta, a larger capacity
    runs away   a lower rate, a larger beta, a warm-up of beta, a smaller capacity

A setting is offered only where the stage at hand has it, by the path of its leaf, which every recipe with
such a stage takes. Values are half or twice those at hand: a step that can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..objectives.capacity import Capacity
from ..objectives.elbo import Elbo
from .stage import Recipe, Stage

FREE_BITS, WARMUP = 0.1, 0.25  # where there were none: nats of a unit, share of the training


def _longer(warmup: float) -> float:
    """Twice as long; of a share (up to 1) no more than the whole training."""
    return 2 * warmup if warmup > 1 else min(1.0, 2 * warmup) or WARMUP


Way = tuple[str, Callable[[float], float]]
SPEAK: dict[str, Way] = {
    "beta": ("a smaller beta", lambda v: v / 2),
    "free_bits": ("free bits", lambda v: 2 * v or FREE_BITS),
    "warmup": ("a longer warm-up of beta", _longer),
    "capacity": ("a larger capacity", lambda v: 2 * v),
}
CALM: dict[str, Way] = {
    "peak": ("a lower rate", lambda v: v / 2),
    "beta": ("a larger beta", lambda v: 2 * v),
    "warmup": ("a warm-up of beta", _longer),
    "capacity": ("a smaller capacity", lambda v: v / 2),
}


@dataclass(frozen=True)
class Advice:
    """The settings of a stage that bear on its latents, {leaf: value}; none where the stage is not known."""

    stage: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage) -> Advice:
        """That of a stage trained on an ELBO, or at a capacity; of any other none."""
        judged = stage.objective
        if not isinstance(judged, (Elbo, Capacity)):
            return cls()
        found = {f"objective.{name}": getattr(judged, name, None) for name in SPEAK}
        found["rate.peak"] = getattr(stage.rate, "peak", None)
        return cls(stage.name, {leaf: value for leaf, value in found.items() if value is not None})

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> Advice:
        """That of the first stage that has one."""
        stages = [cls.of(stage) for stage in recipe.stages if isinstance(stage, Stage)]
        return next((found for found in stages if found.values), cls())

    def speak(self, *names: str) -> list[str]:
        """What makes latents say more, of the settings named; a capacity where there is one."""
        return self._words(SPEAK, names)

    def calm(self) -> list[str]:
        """What keeps latents near their prior."""
        return self._words(CALM, ("peak", "beta", "warmup"))

    def fewer(self, used: int, units: int) -> str:
        """Fewer latents: as many as are used, or half of those there are."""
        return (
            f"fewer latents (--set latent={used or max(1, units // 2)})" if self.values else "fewer latents"
        )

    def _words(self, table: Mapping[str, Way], names: Sequence[str]) -> list[str]:
        if not self.values:
            return [table[name][0] for name in names]
        said = []
        for leaf, value in self.values.items():
            name = leaf.rpartition(".")[2]
            if name in table and (name in names or name == "capacity"):
                word, other = table[name]
                if other(value) != value:  # a beta of 0, or a warm-up over the whole training
                    said.append(f"{word} (--set stages.{self.stage}.{leaf}={other(value):g})")
        return said or [table[name][0] for name in names]


UNKNOWN = Advice()


def either(ways: Sequence[str]) -> str:
    """a; a or b; a, b, or c."""
    return " or ".join(ways) if len(ways) < 3 else f"{', '.join(ways[:-1])}, or {ways[-1]}"
