"""Read the class of an image from one-hot columns: a column for each class, with 1 in that of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lpt.data.sources.splitting import FLAG_VALUES, Values, flag
from lpt.system.text import shorten

ADVICE = "LPT learns one class for each image: exactly one of these columns must be 1."


def one_hot_columns(count: int, values: Values, taken: set[int]) -> list[int]:
    """Return the columns that hold only 0 and 1, or true and false; none if there are fewer than two."""
    matches = [
        index
        for index in range(count)
        if index not in taken and index in values and all(word.lower() in FLAG_VALUES for word in values[index])
    ]
    return matches if len(matches) > 1 else []


def marked_class(columns: Sequence[str], one_hot: Sequence[int], values: Sequence[Any]) -> tuple[str, str]:
    """Return the class of a row, and what is wrong with it; one of both is empty."""
    marked = [columns[index] for index in one_hot if flag(values[index])]
    if len(marked) == 1:
        return marked[0], ""
    if marked:
        return "", f"{len(marked)} classes are marked ({shorten(marked)})"
    return "", f"no class is marked among {shorten([columns[index] for index in one_hot])}"
