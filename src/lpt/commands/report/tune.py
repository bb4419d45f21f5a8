"""Read a finished search for settings, and draw its report."""

from __future__ import annotations

import json
from pathlib import Path

from lpt.commands.report.facts import written_line
from lpt.errors import RunError
from lpt.evaluation.tuning import TuneResult
from lpt.report.html.tune_page import render_tuning
from lpt.report.tune import SUMMARY

_AGAIN = "Give the same lpt tune command again: what is there is kept, and the search goes on."


def tuning_page(folder: Path) -> str:
    """Return the HTML of the report of a search.

    Raises:
        RunError: the search is not finished, or its result is damaged.
    """
    return render_tuning(read_tuning(folder), written_line())


def read_tuning(folder: Path) -> TuneResult:
    """Read the result of a search.

    Raises:
        RunError: as `tuning_page`.
    """
    file = folder / SUMMARY
    try:
        return TuneResult.from_dict(json.loads(file.read_text(encoding="utf-8")), folder)
    except FileNotFoundError:
        raise RunError(f"the search in {folder} is not finished: it has no {SUMMARY}. {_AGAIN}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(f"{file} is damaged ({error}). Remove it, then: {_AGAIN}") from None
