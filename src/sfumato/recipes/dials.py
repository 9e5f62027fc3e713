"""Dials that would change nothing: they are refused with the reason, never ignored."""

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
