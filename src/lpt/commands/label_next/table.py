"""The list of `lpt label-next` as CSV: a row for each picture, the most useful first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lpt.errors import RunError
from lpt.evaluation.acquisition import Suggestion
from lpt.system.text import csv_text

COLUMNS = (
    "rank",
    "image",
    "guess",
    "probability",
    "second_guess",
    "second_probability",
    "chosen_for",
    "rare_mass",
    "gain",
)


def list_text(suggestions: Sequence[Suggestion]) -> str:
    """Return the list as CSV."""
    rows = [
        (
            rank,
            each.image,
            each.guess,
            f"{each.probability:.4f}",
            each.second_guess,
            f"{each.second_probability:.4f}",
            each.chosen_for,
            f"{each.rare_mass:.4f}",
            f"{each.gain:.6f}",
        )
        for rank, each in enumerate(suggestions, start=1)
    ]
    return csv_text([COLUMNS, *rows])


def is_list(file: Path) -> bool:
    """Return whether a file is empty, or starts like a list that `lpt label-next` wrote.

    Raises:
        RunError: it cannot be read.
    """
    header = csv_text([COLUMNS]).encode()
    try:
        with file.open("rb") as stream:
            start = stream.read(len(header))
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}; give another file with --output") from None
    return not start or start == header
