"""Make the tables of docs/how-to/reject.md from its result file, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.documents.performance_tables import MISSING, RESULTS, Result, rows_of, source_of, spread

FILE = "strangers.json"
_KEPT = ("kept_many", "kept_medium", "kept_few")
_NAMES = {
    "cifar": ("CIFAR-100-LT, 80 classes", "the 20 other classes"),
    "unsure": ("clothing", "garments that its labellers could not name"),
    "groceries": ("clothing", "groceries"),
}


def from_stage(stage: str, table: Callable[[Result], list[str]]) -> Callable[[], str]:
    """Return a maker of a table of a stage of the benchmark, with its command below it."""

    def make() -> str:
        path = RESULTS / FILE
        record: Result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if stage not in record:
            return MISSING
        return "\n".join([*table(record[stage]), "", source_of(record[stage], FILE)])

    return make


def percents(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Return mean and standard deviation over seeds of some shares, in percent; a dash where one is not defined."""
    values = [[row[name] for row in rows] for name in names]
    return ["–" if None in shares else spread(100 * share for share in shares) for shares in values]


def scores(result: Result) -> list[str]:
    """Return how well each score tells strangers apart on held-out images, and whom it rejects at 95 % kept."""
    some = result["some_classes"]
    heading = ["score", "AUROC", "FPR95", f"AUROC, {some} classes", "many kept", "medium kept", "few kept"]
    cells = [
        [name, *percents(rows, ("auroc", "fpr95", "auroc_some", *_KEPT))] for name, rows in result["scores"].items()
    ]
    return [
        *rows_of(heading, cells),
        "",
        f"Percent, {len(result['seeds'])} seeds. Known: 50 held-out training images of each of 80 classes; strangers: "
        "50 of each of 20 others. Kept: at the threshold that 95 % of these known images reach. "
        f"AUROC, {some} classes: with the cosines of {some} of the classes only, the mean over {result['draws']} draws "
        "of them.",
    ]


def rules(result: Result) -> list[str]:
    """Return what each rule for the threshold keeps and rejects, fitted on a validation split of 10 %."""
    names = ("kept_mean_per_class", *_KEPT, "strangers_rejected")
    heading = ["threshold", "kept, mean per class", "many", "medium", "few", "strangers rejected"]
    cells = [[name, *percents(rows, names)] for name, rows in result["rules"].items()]
    return [
        *rows_of(heading, cells),
        "",
        f"Percent, {len(result['seeds'])} seeds, {result['draws']} draws of the validation split in each; measured on "
        "the held-out images that were not drawn.",
    ]


def final(result: Result) -> list[str]:
    """Return what the chosen score and threshold do on test images."""
    names = ("auroc", "fpr95", "kept", *_KEPT, "strangers_rejected")
    heading = ["known", "strangers", "AUROC", "FPR95", "known kept", "many", "medium", "few", "strangers rejected"]
    cells = [
        [*_NAMES[name], *percents(rows, names)] if rows else [*_NAMES[name], *["not measured yet"] * len(names)]
        for name, rows in result["rows"].items()
    ]
    seeds = max(len(rows) for rows in result["rows"].values())
    return [
        *rows_of(heading, cells),
        "",
        f"Percent of test images, up to {seeds} seeds; groups: {result['boundaries']}. ViT-Ti/16 at 64x64, preset "
        "`laptop` with fewer steps.",
    ]


TABLES: dict[str, Callable[[], str]] = {
    "stranger_scores": from_stage("choose", scores),
    "stranger_rules": from_stage("choose", rules),
    "stranger_final": from_stage("final", final),
}
