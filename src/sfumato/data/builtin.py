"""Built-in data: no file, no download, the same numbers everywhere.

digits        1,797 scans of handwritten digits, 8 x 8, 17 grey levels (Alpaydin and Kaynak 1998)
swiss-roll    10,000 points of the plane on a spiral, t (cos t, sin t), with a little Gaussian noise
"""

from __future__ import annotations

import numpy as np

from .dataset import Dataset

DIGIT_SPACING = 15


def digits() -> Dataset:
    """The digits of scikit-learn, (1797, 1, 8, 8), ten classes.

    The source counts ink from 0 to 16. Stored as 15 times that number, 0 ... 240, the 17 levels keep equal
    distances (spacing 15) and a written picture looks as it should instead of black.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    return Dataset.of(
        (source.images * DIGIT_SPACING).astype(np.uint8),
        source.target,
        layout="NHW",
        source="digits",
        scale=(0.0, 16.0 * DIGIT_SPACING, float(DIGIT_SPACING)),
        pipeline="8 x 8 gray, 17 levels of ink stored as 0, 15 ... 240 -> [-1, 1]",
    )


def swiss_roll(count: int = 10_000, noise: float = 0.3) -> Dataset:
    """Points (count, 2), float32: t (cos t, sin t) + noise e, with t uniform on [1.5 pi, 4.5 pi], e normal.

    The known factor is t, the place along the roll. The spiral's radius reaches 14.
    """
    raw = np.random.Generator(np.random.PCG64(0))
    t = 1.5 * np.pi * (1.0 + 2.0 * raw.random(count))
    points = np.stack([t * np.cos(t), t * np.sin(t)], 1) + noise * raw.standard_normal((count, 2))
    return Dataset.of(
        points.astype(np.float32),
        layout="NC",
        factors=t,
        factor_names=("t",),
        source="swiss-roll",
        pipeline="points of the plane -> [-1, 1]",
    )
