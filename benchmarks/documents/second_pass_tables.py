"""Make the table of the trials of a second pass from their rows, for `benchmarks.documents.tables`."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

from benchmarks.accuracy.cifar100_compare import rows_in
from benchmarks.documents.performance_tables import MISSING, RESULTS, rows_of

FILE = RESULTS / "second_pass.csv"
_DATA = {"if100": "CIFAR-100-LT IF 100", "if10": "CIFAR-100-LT IF 10", "clothing": "clothing", "grocery": "grocery"}
_MEASURES = {"overall": "overall", "mean_per_class": "mean per class", "many": "many", "medium": "medium", "few": "few"}


def second_pass() -> str:
    """Return the accuracies of each pass and of both, by trial: means over the seeds."""
    rows = rows_in(FILE)
    if not rows:
        return MISSING
    cells = []
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["trial"], row["scores"]), []).append(row)
    for (data, trial, scores), of_seeds in groups.items():
        values = [_mean(of_seeds, measure) for measure in _MEASURES]
        seeds = ", ".join(row["seed"] for row in of_seeds)
        cells.append([_DATA[data], trial, scores, *values, _mean(of_seeds, "differs"), seeds])
    heading = ["held-out images of", "trial", "cosines", *_MEASURES.values(), "other than phase 1's, %", "seeds"]
    last = rows[-1]
    return "\n".join(
        [
            *rows_of(heading, cells),
            "",
            f"{last['size']}x{last['size']}. Command: `python -m benchmarks.accuracy.second_pass try`, then `table`. "
            f"{last['hardware']}; torch {last['torch']}, timm {last['timm']}; {last['date']}. "
            f"Raw: [rows](../results/{FILE.name}).",
        ]
    )


def _mean(rows: list[dict[str, str]], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{mean(values):.1f}" if values else "–"


TABLES: dict[str, Callable[[], str]] = {"second_pass": second_pass}
