"""Make the table of rates tried on sets that nobody cut, for `benchmarks.documents.tables`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.accuracy.cifar100_compare import rows_in
from benchmarks.accuracy.uncut_sets import FACTORS, RATES, grid
from benchmarks.documents.performance_tables import MISSING, raw_link, rows_of
from lpt.config.recipes import METHODS


def rates() -> str:
    """Return the mean per class on validation images of each method at each of its rates, the best in bold."""
    rows = rows_in(RATES)
    if not rows:
        return MISSING
    means = {(row["imbalance"], row["method"], row["settings"]): 100 * float(row["mean_per_class"]) for row in rows}
    names = list(dict.fromkeys(sorted(row["imbalance"] for row in rows)))
    lines = []
    for method, settings in grid().items():
        cells = [METHODS[method].title]
        for name in names:
            tried = [means.get((name, method, setting)) for setting in settings]
            best = max((mean for mean in tried if mean is not None), default=None)
            cells += ["–" if mean is None else f"**{mean:.1f}**" if mean == best else f"{mean:.1f}" for mean in tried]
        lines.append(cells)
    heading = [f"{name}, {_times(factor)}" for name in names for factor in FACTORS]
    first, dates = rows[0], sorted({row["date"] for row in rows})
    machine, days = first["machine"].rsplit(",", 1)[0], " to ".join(dict.fromkeys((dates[0], dates[-1])))
    source = (
        f"Mean per class, %, on validation images; {first['size']}x{first['size']}, {int(first['draws']):,} draws, "
        f"seed {first['seed']}. Command: `python -m benchmarks.accuracy.uncut_sets rates`. "
        f"{machine}, {first['precision']}; {days}. Raw: {raw_link(RATES.name)}."
    )
    return "\n".join([*rows_of(["method", *heading], lines), "", source])


def _times(factor: float) -> str:
    return "as it is" if factor == 1 else f"x {factor:g}" if factor > 1 else f"/ {1 / factor:g}"


TABLES: dict[str, Callable[[], str]] = {"uncut_rates": rates}
