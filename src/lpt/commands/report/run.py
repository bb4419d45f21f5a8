"""Gather what the report of a run shows."""

from __future__ import annotations

from collections.abc import Mapping

from lpt.commands.report.facts import COST_COLUMNS, cost_of, data_title, record_of, trained_facts, written_line
from lpt.commands.report.kept import KeptRun
from lpt.commands.report.parts import (
    NOT_MEASURED,
    calibration_of,
    classes_of,
    curves_of,
    no_probe,
)
from lpt.commands.report.request import Sight
from lpt.evaluation.intervals import accuracy_intervals
from lpt.evaluation.paired import Difference
from lpt.report.card_data import title_of
from lpt.report.html.content import Content, MethodRow


def run_content(sight: Sight) -> Content:
    """Return what the report of a run shows.

    Raises:
        RunError: a file of the run is damaged.
    """
    run = sight.run
    title = title_of(run.info.method.name)
    return Content(
        title=data_title(run),
        subtitle=f"{title}, preset {run.results['preset']}, seed {run.seed}",
        split=run.split,
        images=0 if run.predictions is None else len(run.predictions.labels),
        trained=trained_facts(run),
        classes=classes_of(run),
        methods=[_row(run, title)],
        shown=title,
        of_shown="",
        probe=no_probe(run),
        pairs=sight.pairs(NOT_MEASURED),
        sharing=sight.sharing(),
        queries=sight.queries(),
        calibration=calibration_of(run),
        cost_columns=COST_COLUMNS,
        curves=curves_of(run),
        record=record_of(run),
        written=written_line(),
    )


def _row(run: KeptRun, title: str) -> MethodRow:
    result = run.seed_result()
    accuracies: Mapping[str, Difference] = {} if result is None else accuracy_intervals([result], run.info.shot_groups)
    return MethodRow(run.info.method.name, title, [run.seed], accuracies, {}, cost_of(run), shown=True)
