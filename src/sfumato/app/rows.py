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

    Of a ladder the latents are its levels, and `levels` shows samples level by level.
    """

    rows: dict[str, Images]
    carried: tuple[tuple[int, float], ...]
    word: str
    levels: dict[str, Images] = field(default_factory=dict)
