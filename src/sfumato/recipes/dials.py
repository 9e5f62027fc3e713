"""Dials that would change nothing or cannot be what they are set to: they are refused with the reason."""

from __future__ import annotations

from ..core.errors import UsageError


def check_unused(recipe: str, why: str, **asked: object) -> None:
    """UsageError for the first dial that was asked for (is not None) where `why` leaves it without effect."""
    for name, value in asked.items():
        if value is not None:
            raise UsageError(
                f"{name} changes nothing here: {why}",
                where=f"recipe {recipe}",
                remedy=f"Leave {name} out.",
            )


def check_legal(recipe: str, name: str, value: float | None, legal: bool, words: str) -> None:
    """UsageError for a value that is said (is not None) and not legal; words: the values that are."""
    if value is not None and not legal:
        raise UsageError(
            f"{name} = {value:g} is no legal value",
            where=f"recipe {recipe}",
            remedy=f"Choose {name} {words}.",
        )
