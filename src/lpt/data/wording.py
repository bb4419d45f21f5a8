"""Small words of messages: numbers with their nouns, and lists that stay short."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 image`, `1,204 images`, `2 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def shorten(items: Sequence[str], most: int = 5) -> str:
    """The first items, and how many more there are."""
    named = ", ".join(str(item) for item in items[:most])
    return named if len(items) <= most else f"{named} and {len(items) - most:,} more"
