"""Tables of `benchmarks.cifar100_compare`'s result files; `benchmarks.tables` puts them into the documents."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

from benchmarks.performance_tables import MEASURES, RESULTS, rows_of
from lpt.methods.recipes import METHODS
from lpt.report.comparison_tables import COSTS, cost_text, difference_text, with_std

Row = dict[str, Any]
MISSING = "Not measured yet."


def accuracies(name: str) -> Callable[[], str]:
    """Accuracies of every method of a comparison's result folder, and LPT's lead over each."""

    def made(summary: Row) -> list[str]:
        rows = [row for row in summary["methods"] if row["seeds"]]
        leads = {one["method"]: one["measures"] for one in summary["differences"]}
        several = any(len(row["seeds"]) > 1 for row in rows)
        lines = []
        for row in rows:
            lead = leads.get(row["method"], {})
            cells = [with_std(row["metrics"][one], several) for one in (*MEASURES, "worst_decile")]
            cells += [difference_text(lead.get(one)) for one in ("overall", "few")]
            lines.append([_title(row, summary), *cells, str(len(row["seeds"]))])
        heading = ["method", *MEASURES, "worst tenth", "LPT ahead by: overall", "few", "seeds"]
        told = "; ".join(f"{key}: {_shown(value)}" for key, value in summary["facts"].items())
        source = f"{told}. Raw files and plots: [results/{name}](results/{name}/comparison.md)."
        return [*rows_of(heading, lines), "", source]

    return _of_comparison(name, made)


def costs(name: str) -> Callable[[], str]:
    """What every method of a comparison's result folder took."""

    def made(summary: Row) -> list[str]:
        rows = [row for row in summary["methods"] if row["seeds"]]
        lines = [[_title(row, summary), *(cost_text(one, row["cost"][one]) for one in COSTS)] for row in rows]
        return rows_of(["method", *COSTS.values()], lines)

    return _of_comparison(name, made)


def _of_comparison(name: str, table: Callable[[Row], list[str]]) -> Callable[[], str]:
    path = RESULTS / name / "comparison.json"
    return lambda: "\n".join(table(json.loads(path.read_text(encoding="utf-8")))) if path.exists() else MISSING


def _title(row: Row, summary: Row) -> str:
    return f"**{row['title']}**" if row["method"] == summary["reference"] else str(row["title"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def trials(name: str, size: int) -> Callable[[], str]:
    """Rows of settings tried on the development cut at an input size, the best of each method in bold."""

    def made() -> str:
        path = RESULTS / f"{name}.csv"
        rows = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as lines:
                rows = [row for row in csv.DictReader(lines) if row["size"] == str(size)]
        if not rows:
            return MISSING
        best = {method: max(_chosen_by(row) for row in rows if row["method"] == method) for method in _methods(rows)}
        shown = []
        for row in sorted(rows, key=lambda row: list(METHODS).index(row["method"])):
            settings = f"`{row['settings'].replace('train.', '').replace('model.', '')}`"
            cells = [*(f"{100 * float(row[one]):.1f}" for one in MEASURES), f"{100 * _chosen_by(row):.1f}"]
            if _chosen_by(row) == best[row["method"]]:
                settings, cells[-1] = f"**{settings}**", f"**{cells[-1]}**"
            shown.append([METHODS[row["method"]].title, settings, *cells, f"{float(row['train_seconds']):.0f}"])
        first = rows[0]
        sizes = ", ".join(sorted({f"{row['size']}x{row['size']}, {int(row['draws']):,} draws" for row in rows}))
        dates = sorted({row["date"] for row in rows})
        seeds = ", ".join(sorted({row["seed"] for row in rows}))
        return "\n".join(
            [
                *rows_of(["method", "settings", *MEASURES, "mean of overall and few", "s"], shown),
                "",
                f"Development cut, IF {first['imbalance']}, {sizes}, seed {seeds}; {first['machine']}; "
                f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}. Raw: [results/{name}.csv](results/{name}.csv).",
            ]
        )

    return made


def _methods(rows: list[dict[str, str]]) -> set[str]:
    return {row["method"] for row in rows}


def _chosen_by(row: dict[str, str]) -> float:
    """Mean of overall and few-shot accuracy, by which settings are chosen."""
    return (float(row["overall"]) + float(row["few"])) / 2


TABLES: dict[str, Callable[[], str]] = {
    "compare_96": accuracies("compare_cifar100_if100_96"),
    "compare_96_cost": costs("compare_cifar100_if100_96"),
    "compare_trials": trials("compare_trials", 64),
    "compare_long_trials": trials("compare_trials", 96),
    "compare_ablations": trials("compare_ablations", 64),
}
