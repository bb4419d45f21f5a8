"""Make the table of accuracy under class priors from its rows, for `benchmarks.documents.tables`."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from statistics import mean, stdev

from benchmarks.accuracy.cifar100_compare import rows_in
from benchmarks.documents.performance_tables import MISSING, RESULTS, rows_of
from lpt.config.recipes import METHODS

FILE = RESULTS / "class_priors.csv"
_MEASURES = {"overall": "overall", "mean_per_class": "mean per class"}
_PRIORS = {"even": "--prior even", "training": "--prior training"}


def class_priors() -> str:
    """Return accuracy with all classes alike and with the frequencies of training, by data and method."""
    rows = rows_in(FILE)
    if not rows:
        return MISSING
    lines = []
    for (data, method), of_cell in groupby(rows, key=lambda row: (row["data"], row["method"])):
        cells = list(of_cell)
        by_prior = {name: [row for row in cells if row["prior"] == name] for name in _PRIORS}
        values = [_spread(by_prior[name], measure) for measure in _MEASURES for name in _PRIORS]
        lines.append([data, METHODS[method].title, cells[0]["assumes"], *values, str(len(by_prior["even"]))])
    measured = [f"{measure}, {prior}" for measure in _MEASURES.values() for prior in _PRIORS.values()]
    last = rows[-1]
    source = (
        f"Test images, {last['size']}x{last['size']}, mean ± deviation over the seeds. Command: "
        f"`python -m benchmarks.accuracy.class_priors`. {last['hardware']}; torch {last['torch']}, "
        f"timm {last['timm']}; {last['date']}. Raw: [rows](../results/{FILE.name})."
    )
    return "\n".join([*rows_of(["data", "method", "without --prior", *measured, "seeds"], lines), "", source])


def _spread(rows: list[dict[str, str]], measure: str) -> str:
    values = [float(row[measure]) for row in rows]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


TABLES: dict[str, Callable[[], str]] = {"class_priors": class_priors}
