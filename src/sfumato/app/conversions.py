"""What had to be done to images given to a finished run to make them fit it, in words.

A run sees its own size, channels and depth. Further images (--test, or those to reconstruct) are brought to
them by what the run was trained with; nothing of that is silent.
"""

from __future__ import annotations

from ..data.dataset import Dataset


def resampling(data: Dataset) -> str:
    """How images of another size were resampled; "" where all were used as they are (or need no survey)."""
    size = " x ".join(map(str, data.facts.size))
    if data.survey is None or set(data.survey.sizes) <= {size}:
        return ""
    return next((part for part in data.facts.pipeline.split(", ") if "Lanczos" in part), "")


def conversions(data: Dataset) -> list[str]:
    """One sentence for each kind of change, with the number of files and the names of a few."""
    survey = data.survey
    if survey is None:
        return []
    many = len(data) > 1
    told = [
        f"{f'{count:,} of the {len(data):,} images given' if many else 'The image given'}: {what} "
        f"({', '.join(survey.odd[what][:3])})."
        for what, count in survey.odd_counts.items()
    ]
    how = resampling(data)
    return [*told, f"Images given were {how}."] if how else told
