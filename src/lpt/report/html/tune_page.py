"""Render the report of a search for settings."""

from __future__ import annotations

from markupsafe import Markup

from lpt.evaluation.tuning import TuneResult
from lpt.report import tune as words
from lpt.report.html.charts_methods import ACCURACY_NAMES
from lpt.report.html.page import GENERATOR, policy, read_part, template


def render_tuning(result: TuneResult, written: str) -> str:
    """Return the HTML of a report: trials, importance, the best against the preset.

    Args:
        result: the search.
        written: date and program of the report.
    """
    style = read_part("report.css")
    return template("tune.html.j2").render(
        result=result,
        say=words,
        written=written,
        generator=Markup(GENERATOR),
        policy=policy(style, ""),
        style=Markup(style),
        accuracy_names=ACCURACY_NAMES,
    )
