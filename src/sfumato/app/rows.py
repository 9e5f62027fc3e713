"""What a run answers with in Python where it shows rows of images beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Images = NDArray[Any]  # (n, *size) or (n, *size, C), in the depth of the training data


@dataclass(frozen=True)
class Reconstructions:
    """Rows of images (n, ...) by name, the mean squared error of the last row in model units, and what was
    done to the images given to make them fit."""

    rows: dict[str, Images]
    mse: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Traversals:
    """Rows of images by name, and (latent, what it carries), most first; `word`: nats of KL, or spread.

    of: what the latents are, "z" where they are units of one. Of a ladder they are its levels, and `levels`
    shows samples level by level; of discrete codes they are directions of their embeddings.
    """

    rows: dict[str, Images]
    carried: tuple[tuple[int, float], ...]
    word: str
    levels: dict[str, Images] = field(default_factory=dict)
    of: str = "z"

    def lines(self) -> list[str]:
        """What each latent carries, in words."""
        verb = "carries" if self.word == "nats" else "has"
        names = [f"z[{i}]" if self.of == "z" else f"{self.of} {i + 1}" for i, _ in self.carried]
        return [
            f"{name} {verb} {value:.2f} {self.word}"
            for name, (_, value) in zip(names, self.carried, strict=True)
        ]
